import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from npu_tools import FAKE_VELA, FAKE_WORKER, compiled_file, described, labeled_faces, whole_on_npu

from fer_edge.artifacts.contract import ModelError, read_contract
from fer_edge.artifacts.gate import Thresholds
from fer_edge.artifacts.model_file import read_model_file
from fer_edge.artifacts.run_folder import StoredFaces
from fer_edge.convert.npu import qualcomm, targets, vela
from fer_edge.convert.npu.compilation import custom_options, placement
from fer_edge.convert.npu.compile_model import compile_for_npus
from fer_edge.convert.npu.targets import ETHOS_U, QUALCOMM, TARGETS, VENDORS, empty_sdks, find_target
from fer_edge.edge_runtime.batch_predict import classify_faces
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.find_model import find_bundled, find_model

NANO, MOBILENET = find_bundled("cnn_nano_fer2013"), find_bundled("mobilenet_v2_fer2013")
SM8750, U55 = TARGETS["qualcomm:SM8750"], TARGETS["ethos-u55-128"]
SOFTMAX, DEQUANTIZE = 25, 6


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """Sets the file that the stand-ins of the compilers return."""

    def set_content(content):
        path = tmp_path / "compiled.bin"
        path.write_bytes(content)
        monkeypatch.setenv("FAKE_COMPILED", str(path))

    set_content(compiled_file(options=[b""]))
    return set_content


@pytest.fixture
def fake_vela(tmp_path, monkeypatch, compiled):
    package = tmp_path / "site/ethosu/vela"
    package.mkdir(parents=True)
    (package / "__main__.py").write_text(FAKE_VELA)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}")
    monkeypatch.setattr(vela.metadata, "version", lambda name: "9.9")
    monkeypatch.setitem(VENDORS, ETHOS_U, replace(VENDORS[ETHOS_U], modules=()))


@pytest.fixture
def fake_qualcomm(tmp_path, monkeypatch, compiled):
    worker = tmp_path / "worker.py"
    worker.write_text(FAKE_WORKER)
    monkeypatch.setenv("FAKE_MODE", "work")
    monkeypatch.setattr(qualcomm, "WORKER", worker)
    monkeypatch.setattr(qualcomm, "_library_folders", lambda: [Path("/fake/libraries")])
    monkeypatch.setattr(qualcomm.metadata, "version", lambda name: "2.7")
    monkeypatch.setitem(VENDORS, QUALCOMM, replace(VENDORS[QUALCOMM], modules=()))
    compiled(whole_on_npu())


@pytest.fixture(scope="module")
def labeled():
    return labeled_faces(NANO, 2)


@pytest.fixture
def simulator(tmp_path, monkeypatch, labeled):
    """Makes the simulator agree with the file for the CPU on all faces but a number."""

    def disagree(count):
        probabilities = classify_faces(Classifier(NANO), list(labeled.images))
        probabilities[:count] = np.roll(probabilities[:count], 1, axis=1)
        scale = read_contract(NANO).output.scale
        np.save(tmp_path / "outputs.npy", np.rint(probabilities / scale).clip(0, 255).astype(np.uint8))
        monkeypatch.setenv("FAKE_OUTPUTS", str(tmp_path / "outputs.npy"))

    return disagree


@pytest.mark.parametrize("name", ["qualcomm:SM8750", "QUALCOMM:sm8750", "ethos-u85-512"])
def test_a_target_is_found_by_its_name(name):
    assert find_target(name).name.lower() == name.lower()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("qualcomm:SM9999", "unknown NPU 'qualcomm:SM9999'; choose one of: qualcomm:SM8350, qualcomm:SM8450"),
        ("ethos-u55-512", "choose one of: ethos-u55-32, ethos-u55-64, ethos-u55-128, ethos-u55-256"),
        ("coral", "choose one of: qualcomm:SM8350"),
        ("", "choose one of: qualcomm:SM8350"),
    ],
)
def test_an_unknown_target_names_similar_ones(name, message):
    with pytest.raises(ValueError, match=message):
        find_target(name)


def test_the_list_shows_each_target_and_what_is_installed(invoke, monkeypatch):
    monkeypatch.setitem(VENDORS, ETHOS_U, replace(VENDORS[ETHOS_U], modules=("json",)))
    monkeypatch.setitem(VENDORS, QUALCOMM, replace(VENDORS[QUALCOMM], modules=("json", "no_such_module")))
    result = invoke("convert", "--npu", "list")
    rows = {line.split()[0]: line.split()[-1] for line in result.stdout.splitlines()[2:] if line}
    assert {name: rows[name] for name in ("qualcomm:SA8295", "ethos-u65-512")} == {
        "qualcomm:SA8295": "missing",
        "ethos-u65-512": "installed",
    }
    assert "pip install 'fer-edge[npu-ethos-u]'" in result.stdout


def test_sdks_without_content_are_found():
    def package(name, *files):
        return SimpleNamespace(metadata={"Name": name}, files=[Path(file) for file in files])

    packages = [
        package("ai-edge-litert-sdk-qualcomm", "ai_edge_litert_sdk_qualcomm/__init__.py"),
        package("ai_edge_litert_sdk_mediatek", "x/__init__.py", "x/lib/libneuron.so"),
        package("ai_edge_litert_sdk_samsung"),
        package("numpy"),
    ]
    assert empty_sdks(lambda: packages) == ["ai-edge-litert-sdk-qualcomm", "ai_edge_litert_sdk_samsung"]


def test_what_is_left_of_the_operators_runs_on_the_cpu():
    original = read_model_file(NANO).flatbuffer
    count = placement(original, compiled_file(options=[b"a"])).npu_operators
    found = placement(original, compiled_file([SOFTMAX, DEQUANTIZE, DEQUANTIZE, 9999], [b"a", b"b"]))
    assert found.cpu_operators == {"SOFTMAX": 1, "DEQUANTIZE": 2, "operator 9999": 1}
    assert (found.npu_operators, found.partitions) == (count - 4, 2)


def test_a_damaged_result_of_a_compiler_is_named():
    with pytest.raises(RuntimeError, match="the compiler wrote a file that cannot be read"):
        placement(read_model_file(NANO).flatbuffer, b"\xff" * 40)


def test_the_binary_of_a_part_is_taken_out_of_the_file():
    content = whole_on_npu()
    assert qualcomm.whole_model(content, custom_options(content)[0]) == (b"the binary", "part_0")
    with pytest.raises(RuntimeError, match="has no binary at 50000 to 50010"):
        qualcomm.whole_model(content, described(50_000))
    with pytest.raises(RuntimeError, match="does not describe its part"):
        qualcomm.whole_model(content, b"")


@pytest.mark.usefixtures("fake_vela")
def test_a_file_for_ethos_u_has_the_contract_and_a_file_for_the_cpu_next_to_it(tmp_path):
    (result,) = compile_for_npus(NANO, [U55], out=tmp_path / "out")
    contract = read_contract(result.path)
    assert result.path.name == "cnn_nano_fer2013_int8_ethos-u55-128.tflite"
    assert contract.npu == result.summary
    assert replace(contract, npu=None, flatbuffer_sha256=None) == replace(read_contract(NANO), flatbuffer_sha256=None)
    assert result.fallback.read_bytes() == NANO.read_bytes()
    assert result.path.stat().st_size == result.file_bytes
    assert result.summary.compiler == "ethos-u-vela 9.9"
    assert (result.summary.memory_kib, result.summary.estimated_ms) == ({"SRAM": 274.22, "off-chip flash": 2185.0}, 5.74)
    assert (result.summary.cpu_operators, result.summary.simulated) == ({}, None)


@pytest.mark.usefixtures("fake_vela")
def test_operators_left_to_the_cpu_by_a_float_last_layer_are_explained(tmp_path, compiled):
    compiled(compiled_file([DEQUANTIZE, SOFTMAX], [b""]))
    (result,) = compile_for_npus(MOBILENET, [U55], out=tmp_path)
    assert result.issues == ()
    assert "the CPU runs 1 DEQUANTIZE, 1 SOFTMAX: the last layer of this file is in float" in result.notes[0]
    assert "fer-edge convert RUN --npu ethos-u55-128" in result.notes[0]


@pytest.mark.usefixtures("fake_vela")
def test_a_file_without_any_operator_on_the_npu_is_rejected(tmp_path, compiled):
    compiled(compiled_file([SOFTMAX] * len(_operators(NANO))))
    (result,) = compile_for_npus(NANO, [U55], out=tmp_path)
    assert result.path.name.endswith("_ethos-u55-128.tflite.rejected")
    assert result.issues[0].cause.startswith("none of the ")


def _operators(model):
    from fer_edge.artifacts.graph import read_graph

    return read_graph(read_model_file(model).flatbuffer).operators


@pytest.mark.usefixtures("fake_vela")
def test_an_error_of_vela_is_named(tmp_path):
    with pytest.raises(RuntimeError, match=r"^vela cannot compile the model for ethos-u85-2048: Error: Invalid tflite file\.$"):
        compile_for_npus(NANO, [TARGETS["ethos-u85-2048"]], out=tmp_path)
    assert list(tmp_path.glob("*.tflite*")) == []


@pytest.mark.usefixtures("fake_qualcomm")
def test_the_simulator_checks_labels_and_accuracy(tmp_path, labeled, simulator):
    simulator(0)
    (result,) = compile_for_npus(NANO, [SM8750], labeled, out=tmp_path)
    simulated = read_contract(result.path).npu.simulated
    assert (simulated.faces, simulated.agreement, simulated.before.accuracy, simulated.after.accuracy) == (32, 1.0, 1.0, 1.0)
    assert (result.summary.simulator, result.issues, result.notes) == ("Qualcomm HTP simulator", (), ())


@pytest.mark.usefixtures("fake_qualcomm")
def test_a_simulator_that_disagrees_rejects_the_file_and_removes_an_earlier_one(tmp_path, labeled, simulator):
    simulator(0)
    (accepted,) = compile_for_npus(NANO, [SM8750], labeled, out=tmp_path)
    simulator(8)
    (result,) = compile_for_npus(NANO, [SM8750], labeled, out=tmp_path)
    assert result.path == accepted.path.with_name(accepted.path.name + ".rejected")
    assert not accepted.path.exists()
    assert "qualcomm:SM8750: only 75.0 % of 32 faces keep the label of the file for the CPU" in " ".join(
        issue.cause for issue in result.issues
    )
    assert read_contract(result.path).npu.simulated.gate.issues == result.issues
    (again,) = compile_for_npus(NANO, [SM8750], labeled, Thresholds(100, 100, 0), tmp_path)
    assert (again.issues, result.path.exists()) == ((), False)


@pytest.mark.usefixtures("fake_qualcomm")
def test_without_faces_the_file_is_not_simulated_and_the_note_says_so(tmp_path):
    (result,) = compile_for_npus(NANO, [SM8750], out=tmp_path)
    assert result.summary.simulated is None
    assert result.notes == ("qualcomm:SM8750: not simulated, so its labels were not checked. Add --data DATA",)


@pytest.mark.usefixtures("fake_qualcomm")
def test_a_model_that_the_npu_takes_in_part_cannot_be_simulated(tmp_path, compiled, labeled):
    compiled(compiled_file([SOFTMAX], [b""]))
    (result,) = compile_for_npus(NANO, [SM8750], labeled, out=tmp_path)
    assert result.summary.simulated is None
    assert result.notes[1].endswith("not simulated, because the CPU runs a part of it. Check it on a phone")


@pytest.mark.parametrize(
    ("mode", "reason"),
    [("fail", "HTP: unsupported operator"), ("crash", f"the process ended with {signal.SIGSEGV.name}")],
)
@pytest.mark.usefixtures("fake_qualcomm")
def test_a_failure_of_qualcomms_tools_is_named(tmp_path, monkeypatch, mode, reason):
    monkeypatch.setenv("FAKE_MODE", mode)
    with pytest.raises(RuntimeError, match=f"^Qualcomm's tools cannot compile for SM8750: {reason}$"):
        compile_for_npus(NANO, [SM8750], out=tmp_path)


@pytest.mark.usefixtures("fake_qualcomm")
def test_outputs_of_another_shape_and_too_few_faces_are_errors(tmp_path, monkeypatch, labeled):
    np.save(tmp_path / "outputs.npy", np.zeros((32, 3), np.uint8))
    monkeypatch.setenv("FAKE_OUTPUTS", str(tmp_path / "outputs.npy"))
    with pytest.raises(RuntimeError, match=r"the simulator returned uint8 \(32, 3\), expected uint8 \(32, 7\)"):
        compile_for_npus(NANO, [SM8750], labeled, out=tmp_path)
    with pytest.raises(ValueError, match=r"the simulator needs at least 20 faces\. Received: 5"):
        compile_for_npus(NANO, [SM8750], StoredFaces(labeled.images[:5], labeled.targets[:5]), out=tmp_path)


@pytest.fixture
def npu_file(tmp_path, fake_vela):
    (result,) = compile_for_npus(NANO, [U55], out=tmp_path / "runs")
    return result


def test_a_compiled_file_cannot_be_loaded_and_is_not_found_as_the_newest_model(npu_file, invoke):
    with pytest.raises(ModelError, match="was compiled for ethos-u55-128: only a device with this NPU can run it"):
        Classifier(npu_file.path)
    assert find_model(npu_file.path.parent) == npu_file.fallback
    lines = invoke("info", npu_file.path).stdout.splitlines()
    count = len(_operators(NANO))
    (line,) = (line for line in lines if line.split()[0] == "NPU")
    assert f"ethos-u55-128: {count} of {count} operators, accuracy not known in the simulator, latency not measured" in line


@pytest.mark.usefixtures("fake_vela")
def test_the_command_compiles_a_bundled_model_into_the_current_folder(invoke, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("convert", "cnn_nano_fer2013", "--npu", "ethos-u55-128", "--npu", "ethos-u65-512")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.glob("*.tflite")) == [
        "cnn_nano_fer2013_int8.tflite",
        "cnn_nano_fer2013_int8_ethos-u55-128.tflite",
        "cnn_nano_fer2013_int8_ethos-u65-512.tflite",
    ]
    assert "latency not measured; 5.74 ms estimated by vela" in result.stdout


@pytest.mark.usefixtures("fake_qualcomm")
def test_the_command_prints_the_condition_of_the_license_and_fails_if_the_gate_rejects(
    error_of, tmp_path, monkeypatch, labeled, simulator
):
    pytest.importorskip("scipy", reason="the gate needs scipy: pip install 'fer-edge[convert]'")
    from fer_edge import npu_conversion

    faces = npu_conversion.NpuFaces(labeled, None)
    monkeypatch.setattr(npu_conversion, "_faces_of_data", lambda *arguments: faces)
    simulator(16)
    error = error_of("convert", NANO, "--npu", "qualcomm:SM8750", "--data", "x", "--out", tmp_path)
    assert "forbids emotion recognition in the workplace and in education" in error
    assert "the gate rejected 1 of 1 files" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cnn_nano", "--npu", "edgetpu"], "unknown NPU 'edgetpu'"),
        (["cnn_nano", "--npu", "ethos-u55-128", "--qat"], "a .tflite file is converted already"),
        (["cnn_nano", "--npu", "ethos-u55-128", "--int8"], "Received: precision. Remove it"),
        (["nowhere", "--npu", "ethos-u55-128", "--float16"], "--npu compiles the int8 file. Received: float16. Add --int8"),
        (["nowhere", "--npu", "qualcomm:SM8750"], "the compiler for qualcomm:SM8750 is not installed. Install it: pip install"),
    ],
)
def test_wrong_arguments_are_named(error_of, monkeypatch, words, message):
    monkeypatch.setitem(VENDORS, QUALCOMM, replace(VENDORS[QUALCOMM], modules=("no_such_module",)))
    assert message in error_of("convert", *words)


def test_a_float_file_is_not_compiled(tmp_path, monkeypatch):
    from fer_edge.convert.npu import compile_model

    file = read_model_file(NANO)
    recipe = replace(file.contract.quantization.recipe, io_dtype="float32")
    contract = replace(file.contract, precision="float16", quantization=replace(file.contract.quantization, recipe=recipe))
    monkeypatch.setattr(compile_model, "read_model_file", lambda path: replace(file, contract=contract))
    with pytest.raises(ValueError, match=r"has the precision float16; NPUs need int8\. Convert the run"):
        compile_for_npus(NANO, [U55], out=tmp_path)


def test_an_integer_only_npu_selects_the_integer_recipe_and_prints_its_cost(invoke, monkeypatch, tmp_path):
    import fer_edge.conversion
    import fer_edge.npu_conversion

    used = []
    integer = tmp_path / "cnn_nano_fer2013_int8-tflite.tflite"
    for path in (integer, tmp_path / "cnn_nano_fer2013_int8.tflite"):
        path.write_bytes(NANO.read_bytes())
    inspection = SimpleNamespace(file_bytes=1, compressed_bytes=1)

    def convert(run, options, **rest):
        used.append((options.precisions, options.quantizer))
        return [SimpleNamespace(path=integer, contract=read_contract(integer), inspection=inspection, issues=(), warnings=())]

    monkeypatch.setattr(fer_edge.conversion, "convert", convert)
    monkeypatch.setattr(fer_edge.npu_conversion, "compile_results", lambda *arguments: [])
    monkeypatch.setitem(VENDORS, ETHOS_U, replace(VENDORS[ETHOS_U], modules=()))
    metrics = read_contract(NANO).metrics
    result = invoke("convert", tmp_path, "--npu", "ethos-u55-128")
    assert used == [(("int8",), "tflite")]
    agreement = f"agreement {metrics.agreement:.4f}, accuracy {metrics.before.accuracy:.4f} -> {metrics.after.accuracy:.4f}"
    assert (
        f"ethos-u55-128 runs integers only, so the last layer is in int8 too (--quantizer tflite). Against Keras: {agreement}"
        in (result.stderr)
    )
    assert f"With the last layer in float: agreement {metrics.agreement:.4f}" in result.stderr
    invoke("convert", tmp_path, "--npu", "ethos-u55-128", "--quantizer", "ai-edge")
    assert used[1] == (("int8",), "ai-edge")


def test_a_model_in_its_run_folder_is_simulated_on_the_faces_of_the_run(tmp_path, monkeypatch, labeled):
    from fer_edge import npu_conversion

    digest = read_contract(NANO).source_digest
    run = SimpleNamespace(held_out=labeled, calibration=labeled, results=SimpleNamespace(model_digest=digest))
    monkeypatch.setattr(npu_conversion, "read_run", lambda folder: run)
    model = tmp_path / NANO.name
    model.write_bytes(NANO.read_bytes())
    assert npu_conversion._faces_of_run(model) == (None, None)
    (tmp_path / "run.json").write_text("{}")
    assert npu_conversion._faces_of_run(model) == (labeled, labeled)
    run.results.model_digest = "0" * 64
    assert npu_conversion._faces_of_run(model) == (None, None)
    assert len(npu_conversion._choose(labeled, 20).images) == 20


@pytest.mark.parametrize(("model", "placed"), [(NANO, (0, 1)), (MOBILENET, (4, 2))], ids=["cnn_nano", "mobilenet_v2"])
def test_the_real_vela_compiles_a_bundled_model(tmp_path, model, placed):
    if not VENDORS[ETHOS_U].is_installed():
        pytest.skip(f"vela is not installed: {VENDORS[ETHOS_U].install}")
    (result,) = compile_for_npus(model, [U55], out=tmp_path)
    assert (sum(result.summary.cpu_operators.values()), result.summary.partitions) == placed
    assert result.summary.estimated_ms > 0


def test_the_real_compiler_for_snapdragons_and_its_simulator_agree_with_the_cpu(tmp_path, labeled):
    if not VENDORS[QUALCOMM].is_installed():
        pytest.skip(f"Qualcomm's tools are not installed: {VENDORS[QUALCOMM].install}")
    (result,) = compile_for_npus(NANO, [SM8750], labeled, Thresholds(100, 100, 0), tmp_path)
    assert (result.summary.cpu_operators, result.summary.partitions) == ({}, 1)
    assert result.summary.simulated.agreement >= 0.9


def test_the_chips_are_those_that_the_installed_compiler_knows():
    pytest.importorskip("ai_edge_litert.aot", reason="this LiteRT has no compiler for NPUs")
    from ai_edge_litert.aot.vendors.qualcomm.target import SocModel

    assert {model.value for model in SocModel} - {"ALL"} == set(targets.SNAPDRAGONS)
