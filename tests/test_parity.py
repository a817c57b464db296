import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from fer_edge.artifacts.tool_environment import COMPLETE, ToolEnvironment
from fer_edge.benchmarks.parity import browser_runtime, runtimes
from fer_edge.benchmarks.parity.compare import ParityRow, compare_outputs, parity_table
from fer_edge.benchmarks.parity.parity_model import ParityModel, RuntimeOutput, read_parity_model
from fer_edge.benchmarks.parity.python_runtime import run_in_python
from fer_edge.benchmarks.parity.runtimes import RUNTIMES, Runtime, choose_runtimes
from fer_edge.benchmarks.parity.worker import quantized

LABELS = ("happy", "sad")
NO_BROWSER = runtimes.find_browser() is None
# A runtime whose interpreter adds the last digit of the file's name to each output, and dies of a file that ends in 9.
FAKE_RUNTIME = """
import os
import numpy as np

class Interpreter:
    def __init__(self, model_path, num_threads):
        self.extra = int(model_path[-8])
        if self.extra == 9:
            os.kill(os.getpid(), 11)
    def allocate_tensors(self): pass
    def get_input_details(self): return [{"index": 0, "dtype": np.uint8}]
    def get_output_details(self): return [{"index": 1}]
    def set_tensor(self, index, values): self.values = values
    def invoke(self): pass
    def get_tensor(self, index):
        if self.extra == 8:
            raise ValueError("no kernel for SELU\\nmore")
        return self.values[:, 0, 0, :2] + np.uint8(self.extra)
"""


def model(name="m0.tflite", scale=1 / 256, zero_point=0, faces=3):
    pixels = np.arange(faces * 2 * 2 * 3, dtype=np.uint8).reshape(faces, 2, 2, 3)
    return ParityModel(Path(name), LABELS, 2, scale is None, scale, zero_point, pixels)


@pytest.fixture
def fake_runtime(tmp_path, monkeypatch):
    (tmp_path / "fake_runtime.py").write_text(FAKE_RUNTIME)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(tmp_path))
    return Runtime("interpreter", "fake_runtime", "numpy")


def test_a_runtime_that_crashes_loses_only_that_model(fake_runtime):
    outputs = run_in_python(fake_runtime, [model("m1.tflite"), model("m9.tflite"), model("m8.tflite"), model("m3.tflite")])
    assert [output.problem for output in outputs] == [
        None,
        "it ends the process that runs it (SIGSEGV)",
        "ValueError: no kernel for SELU",
        None,
    ]
    assert outputs[0].outputs.tolist() == [[1, 2], [13, 14], [25, 26]]
    assert outputs[3].outputs.tolist() == [[3, 4], [15, 16], [27, 28]]
    assert outputs[0].version == np.__version__


@pytest.mark.parametrize(
    ("found", "row"),
    [
        ([[10, 20], [200, 3]], (2, 2, 0.0)),
        ([[10, 20], [199, 5]], (2, 1, 2.0)),
        ([[21, 20], [199, 3]], (1, 0, 11.0)),
    ],
)
def test_labels_faces_and_steps_are_counted(found, row):
    outputs = [RuntimeOutput("1", np.array(values, np.uint8)) for values in ([[10, 20], [200, 3]], found)]
    result = compare_outputs(model(faces=2), "mediapipe", *outputs)
    assert (result.equal_labels, result.identical_faces, result.max_steps) == row


def test_a_float_output_is_compared_in_steps_of_one_256th():
    outputs = [RuntimeOutput("1", np.array(values, np.float32)) for values in ([[0.5, 0.5]], [[0.5 + 2 / 256, 0.5]])]
    assert compare_outputs(model(scale=None, faces=1), "tensorflow", *outputs).max_steps == 2.0


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        (RuntimeOutput("1", problem="ValueError: damaged"), "ValueError: damaged"),
        (RuntimeOutput("1", np.zeros((1, 3), np.uint8)), "its outputs have the shape (1, 3), not (1, 2)"),
        (
            RuntimeOutput("1", np.zeros((1, 2), np.uint8), ("sad", "happy")),
            "it read the labels sad, happy, not happy, sad",
        ),
    ],
)
def test_a_runtime_without_usable_outputs_exceeds_every_bound(found, problem):
    row = compare_outputs(model(faces=1), "mediapipe", RuntimeOutput("1", np.zeros((1, 2), np.uint8)), found)
    assert (row.problem, row.max_steps, row.exceeds(1e9)) == (problem, None, True)


def test_scores_become_the_bytes_that_the_model_output():
    bytes_out = np.array([[0, 7, 128, 255]], np.uint8)
    scores = (np.float32(0.00379) * (bytes_out.astype(np.float32) - 2)).clip(0)
    assert quantized(scores, 0.00379, 2).tolist() == [[2, 7, 128, 255]]  # a probability below 0 is reported as 0
    assert quantized(scores, None, 0) is scores


def test_the_table_marks_the_reference_and_explains_failures():
    rows = [
        ParityRow("m.tflite", "litert", "2.1.6", 4, 4, 4, 0.0),
        ParityRow("m.tflite", "tflite-runtime", "2.14.0", 4, 3, 0, 38.0),
        ParityRow("m.tflite", "mediapipe", "1.2", 4, problem="RuntimeError: no metadata"),
    ]
    *_, reference, old, failed, problem = parity_table(rows).splitlines()
    assert reference.split()[1:3] == ["litert", "(reference)"]
    assert old.split("  ")[-1].strip() == "38 steps"
    assert "cannot run" in failed
    assert problem == "mediapipe, m.tflite: RuntimeError: no metadata"


def test_the_bundled_model_is_the_same_in_the_interpreter_and_the_compiled_model(invoke):
    pytest.importorskip("ai_edge_litert.compiled_model")
    result = invoke("parity", "cnn_nano_fer2013", "--runtimes", "compiled-model", "--faces", "4", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert [(row["runtime"], row["identical_faces"], row["max_steps"]) for row in document["rows"]] == [
        ("litert", 4, 0.0),
        ("compiled-model", 4, 0.0),
    ]
    assert document["missing"] == {}


def test_the_exit_status_is_1_above_the_bound(error_of, monkeypatch):
    import fer_edge.parity

    monkeypatch.setattr(fer_edge.parity, "parity", lambda *arguments: [ParityRow("m", "compiled-model", "1", 9, 9, 8, 3.0)])
    assert "compiled-model: an output differs by more than --max-steps 2.5" in error_of(
        "parity", "m", "--runtimes", "litert", "--max-steps", "2.5"
    )


@pytest.fixture
def no_tools(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cnn_nano", "--runtimes", "coreml"], "unknown runtime 'coreml'; choose from: all, litert, compiled-model"),
        (["cnn_nano", "--runtimes", "litert-js"], "litert-js: not installed. Install it: fer-edge doctor --install litert-js"),
        (["nowhere.tflite", "--runtimes", "litert"], "no model file 'nowhere.tflite'"),
        (["cnn_nano", "--runtimes", "litert", "--data", "nowhere"], "nowhere"),
    ],
)
@pytest.mark.usefixtures("no_tools")
def test_wrong_arguments_are_named(error_of, words, message):
    assert message in error_of("parity", *words)


@pytest.mark.usefixtures("no_tools")
def test_all_leaves_out_what_is_missing_and_says_how_to_install_it():
    chosen, missing = choose_runtimes("all")
    assert chosen[0] == "litert"
    assert missing["mediapipe-web"] == "not installed. Install it: fer-edge doctor --install mediapipe-web"
    assert set(chosen) | set(missing) == set(RUNTIMES)


def test_a_runtime_for_browsers_needs_a_browser(tmp_path, monkeypatch):
    tool = ToolEnvironment("web", "a web runtime", "npm", ("x@1",), 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tool.folder.mkdir(parents=True)
    (tool.folder / COMPLETE).write_text('["x@1"]')
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert Runtime("litert", None, "x", environment=tool).missing().startswith("no browser found (tried chromium, ")


def test_a_tool_of_other_versions_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tool = ToolEnvironment("mp", "MediaPipe", "PyPI", ("mediapipe==2",), 1, no_dependencies=("y==1",))
    assert not tool.is_installed()
    tool.folder.mkdir(parents=True)
    (tool.folder / COMPLETE).write_text('["mediapipe==1", "y==1"]')
    assert not tool.is_installed()
    (tool.folder / COMPLETE).write_text('["mediapipe==2", "y==1"]')
    assert tool.is_installed()
    assert tool.install() == tool.folder


def test_an_installation_that_fails_names_the_reason(tmp_path, monkeypatch):
    program = tmp_path / "npm"
    program.write_text("#!/bin/sh\necho npm warn old >&2; echo 'npm error 404 Not Found' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    tool = ToolEnvironment("web", "a web runtime", "npm", ("x@1",), 40)
    with pytest.raises(RuntimeError, match=r"^web cannot be installed: npm error 404 Not Found. It needs internet"):
        tool.install()
    assert not tool.is_installed()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match=r"the program npm is not installed. Install it: apt install npm"):
        tool.install()
    with pytest.raises(RuntimeError, match=r"old needs Python 2.7; this is 3"):
        ToolEnvironment("old", "an old tool", "PyPI", (), 1, pythons=("2.7",)).install()


PAGE_PACKAGE = """
export const loadLiteRt = async (path) => { globalThis.path = path; };
export class Tensor { constructor(values, shape) { this.values = values; this.shape = shape; } delete() {} }
export const loadAndCompile = async (content) => {
  if (content.length < 4) throw new Error("Failed to load model from buffer\\nmore");
  let outside = 0;
  await fetch("http://localhost:9/").catch(() => { outside = 1; });
  return {
    run: async (t) => [{ data: async () => [t.values[0], t.shape[1], t.values.length, outside], delete() {} }],
    delete() {},
  };
};
"""


@pytest.mark.skipif(NO_BROWSER, reason="no Chromium on this machine: apt install chromium")
def test_the_page_runs_every_model_and_reaches_no_other_server(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tool = ToolEnvironment("web", "a web runtime", "npm", ("x@1",), 1)
    package = tool.folder / "node_modules/@litertjs/core"
    (package / "dist").mkdir(parents=True)
    (package / "package.json").write_text('{"version": "7.8"}')
    (package / "dist/index.js").write_text(PAGE_PACKAGE)
    (tool.folder / COMPLETE).write_text('["x@1"]')
    good, bad = tmp_path / "good.tflite", tmp_path / "bad.tflite"
    good.write_bytes(b"12345678")
    bad.write_bytes(b"1")
    models = [model(bad), model(good, faces=2)]
    first, second = browser_runtime.run_in_browser(Runtime("litert", None, "@litertjs/core", environment=tool), models)
    assert (first.version, first.problem) == ("7.8", "Failed to load model from buffer")
    assert second.outputs.tolist() == [[0, 2, 12, 1], [12, 2, 12, 1]]


def test_the_server_of_the_page_serves_nothing_outside_its_packages(tmp_path):
    (tmp_path / "packages").mkdir()
    (tmp_path / "secret.txt").write_text("x")
    server = browser_runtime._Server("litert", [], tmp_path / "packages")
    try:
        assert server.find("/packages/../secret.txt") is None
        assert server.find("/model/0") is None
        assert server.find("/nothing") is None
        assert b"importmap" in server.find("/")[1]
    finally:
        server.server_close()


@pytest.mark.parametrize("name", ["tflite-runtime", "mediapipe", "litert-js", "mediapipe-web"])
def test_a_real_runtime_agrees_with_litert(name, int8_model):
    """Only where it is installed. tflite-runtime differs by up to 38 steps."""
    if RUNTIMES[name].missing():
        pytest.skip(f"{name} is {RUNTIMES[name].missing()}")
    from fer_edge.benchmarks.parity.compare import measure_parity
    from fer_edge.train.synthetic import synthetic_faces

    row = measure_parity([read_parity_model(int8_model, list(synthetic_faces(1).images[:4]))], ["litert", name])[1]
    assert row.problem is None
    assert row.max_steps <= (40 if name == "tflite-runtime" else 1)
