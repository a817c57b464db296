import json
import os
import stat

import numpy as np
import pytest
from npu_tools import FAKE_IMX500_PYTHON, labeled_faces, memory_report

from fer_edge.artifacts.contract import Contract
from fer_edge.artifacts.gate import Thresholds
from fer_edge.artifacts.model_file import read_model_file
from fer_edge.artifacts.run_folder import StoredFaces
from fer_edge.artifacts.tool_environment import COMPLETE, ToolEnvironment
from fer_edge.convert.npu import imx500, imx500_worker
from fer_edge.convert.npu.compile_model import compile_for_npus
from fer_edge.convert.npu.layer_list import READERS, read_layers
from fer_edge.convert.npu.targets import IMX500_TOOLS, TARGETS
from fer_edge.edge_runtime.batch_predict import classify_faces
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.find_model import find_bundled

NANO, MOBILENET = find_bundled("cnn_nano_fer2013"), find_bundled("mobilenet_v2_fer2013")
IMX500 = TARGETS["imx500"]


@pytest.fixture(scope="module")
def labeled():
    return labeled_faces(NANO, 13)


@pytest.fixture
def tools(tmp_path, monkeypatch, labeled):
    """An environment whose Python is a stand-in, which returns the labels of the CPU for all faces but a number."""

    def behave(mode="work", report=None, disagree=0):
        monkeypatch.setenv("FAKE_MODE", mode)
        monkeypatch.setenv("FAKE_REPORT", json.dumps(report or memory_report()))
        monkeypatch.setenv("FAKE_DISAGREE", str(disagree))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    programs = tmp_path / "programs"
    programs.mkdir()
    IMX500_TOOLS.python.parent.mkdir(parents=True)
    for path, content in ((IMX500_TOOLS.python, FAKE_IMX500_PYTHON), (programs / "java", "#!/bin/sh\n")):
        path.write_text(content)
        path.chmod(stat.S_IRWXU)
    (IMX500_TOOLS.folder / COMPLETE).write_text(json.dumps([*IMX500_TOOLS.requirements, *IMX500_TOOLS.no_dependencies]))
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    behave()
    return behave


def compile_nano(labeled, out, thresholds=None):
    (result,) = compile_for_npus(NANO, [IMX500], labeled, thresholds, out, calibration=labeled)
    return result


@pytest.mark.usefixtures("tools")
def test_the_packed_file_is_unchanged_and_its_contract_is_next_to_it(tmp_path, labeled):
    result = compile_nano(labeled, tmp_path)
    assert result.path.name == "cnn_nano_fer2013_int8_imx500.zip"
    assert b"dnnParams.xml" in result.path.read_bytes()
    contract = Contract.from_json((tmp_path / "cnn_nano_fer2013_int8_imx500.json").read_text())
    assert contract.npu == result.summary
    assert (result.summary.memory_kib, result.summary.capacity_kib) == (
        {"activations": 175.0, "weights": 95.03, "reserved": 1.0},
        8192.0,
    )
    assert (result.summary.cpu_operators, result.summary.simulated.agreement, result.issues) == ({}, 1.0, ())
    assert result.summary.compiler == "model-compression-toolkit 2.6.1, imx500-converter 3.19.2"
    assert "imx500-package -i cnn_nano_fer2013_int8_imx500.zip" in result.notes[0]
    assert "was not tried" in result.notes[0]


def test_labels_that_the_quantization_changes_reject_the_file(tmp_path, tools, labeled):
    tools(disagree=40)
    result = compile_nano(labeled, tmp_path)
    assert result.path.name == "cnn_nano_fer2013_int8_imx500.zip.rejected"
    assert not (tmp_path / "cnn_nano_fer2013_int8_imx500.zip").exists()
    assert "imx500: only " in result.issues[1].cause
    assert compile_nano(labeled, tmp_path, Thresholds(100, 100, 0)).issues == ()


@pytest.mark.parametrize(
    ("mode", "report", "message"),
    [
        ("work", memory_report("9.50MB", fits=False), r"does not fit in the chip\. It needs 9,728 of 8,192 KiB\."),
        ("work", {"Memory Report": {}}, "its memory report cannot be read"),
        ("compiler", None, "ERROR : Unsupported layer: Foo"),
        ("fail", None, "imx500: No module named 'model_compression_toolkit'"),
        ("crash", None, "the process ended with SIGSEGV"),
        ("shape", None, r"the quantized network returned float32 \(104, 3\), expected float32 \(104, 7\)"),
    ],
)
def test_what_stops_sonys_tools_is_named(tmp_path, tools, labeled, mode, report, message):
    tools(mode, report)
    few = StoredFaces(labeled.images[:104], labeled.targets[:104])
    with pytest.raises(RuntimeError, match=message):
        compile_nano(few, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.usefixtures("tools")
def test_an_operator_that_keras_cannot_rebuild_is_named(tmp_path, monkeypatch, labeled):
    monkeypatch.delitem(READERS, "MEAN")
    with pytest.raises(RuntimeError, match="cannot compile for imx500: the operator MEAN cannot be rebuilt"):
        compile_nano(labeled, tmp_path)


@pytest.mark.usefixtures("tools")
def test_faces_are_needed_and_enough_of_them(tmp_path, labeled):
    with pytest.raises(ValueError, match=r"needs training and test faces\. Add --data DATA, or give the run folder"):
        compile_for_npus(NANO, [IMX500], labeled, out=tmp_path)
    few = StoredFaces(labeled.images[:19], labeled.targets[:19])
    with pytest.raises(ValueError, match=r"at least 20 test faces\. Received: 19"):
        compile_for_npus(NANO, [IMX500], few, out=tmp_path, calibration=labeled)
    with pytest.raises(ValueError, match=r"at least 100 training faces\. Received: 19"):
        compile_for_npus(NANO, [IMX500], labeled, out=tmp_path, calibration=few)


def test_without_the_environment_or_java_the_remedy_is_named(error_of, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "Install it: fer-edge doctor --install imx500" in error_of("convert", NANO, "--npu", "imx500")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "the program java is not installed. Install it: apt install" in error_of("doctor", "--install", "imx500")
    assert not IMX500_TOOLS.folder.exists()


@pytest.mark.usefixtures("tools")
def test_an_installed_environment_is_listed_and_not_installed_again(invoke):
    assert invoke("doctor", "--install", "imx500").stdout == f"installed: {IMX500_TOOLS.folder}\n"
    rows = [line.split() for line in invoke("convert", "--npu", "list").stdout.splitlines()]
    assert ["imx500", "Sony", "IMX500", "installed"] in rows


def test_an_installation_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tool = ToolEnvironment("x", "x", "npm", ("y@1",), 1)
    monkeypatch.setattr("fer_edge.artifacts.tool_environment.shutil.which", lambda name: "npm")
    monkeypatch.setattr(ToolEnvironment, "_run", _fail_after_writing)
    with pytest.raises(RuntimeError, match="interrupted"):
        tool.install()
    assert not tool.folder.exists()


def _fail_after_writing(self, words):
    (self.folder / "part").write_text("")
    raise RuntimeError("interrupted")


def test_weights_are_those_that_the_int8_file_computes_with():
    layers = read_layers(read_model_file(NANO).flatbuffer).layers
    first, relu = layers[0], layers[1]
    settings = first.settings
    assert (first.kind, settings["filters"], settings["kernel_size"], first.operator) == ("Conv2D", 16, (3, 3), "CONV_2D")
    assert first.weights[0].shape == (3, 3, 3, 16)
    levels = np.unique(np.abs(first.weights[0][..., 0]))
    step = np.abs(first.weights[0][..., 0]).max() / 127
    assert np.allclose(levels / step, np.rint(levels / step), atol=1e-3)
    assert (relu.kind, relu.inputs) == ("ReLU", (first.output,))
    assert [layer.kind for layer in layers[-3:]] == ["GlobalAveragePooling2D", "Dense", "Softmax"]


@pytest.mark.parametrize("model", [NANO, MOBILENET], ids=["cnn_nano", "mobilenet_v2"])
def test_the_rebuilt_network_gives_the_outputs_of_the_file(model, labeled):
    tf_keras = pytest.importorskip("tf_keras", reason="tf-keras is not installed: pip install 'fer-edge[convert]'")
    file = read_model_file(model)
    network = read_layers(file.flatbuffer)
    data = json.loads(json.dumps(network.to_data()))
    rebuilt = imx500_worker.build(tf_keras, data, network.arrays())
    size = file.contract.image_size
    from fer_edge.edge_runtime.crop import preprocess_face, to_rgb

    faces = np.stack([to_rgb(preprocess_face(image, size, 48)) for image in labeled.images[:48]])
    expected = classify_faces(Classifier(model), list(faces))
    found = imx500_worker.compare(imx500_worker.predict(rebuilt, faces), expected)
    assert found["agreement"] >= imx500.MIN_FLOAT_AGREEMENT
    assert found["difference"] <= imx500.MAX_FLOAT_DIFFERENCE


def test_sonys_real_tools_compile_a_bundled_model(tmp_path, labeled):
    if not IMX500_TOOLS.is_installed():
        pytest.skip("Sony's tools are not installed: fer-edge doctor --install imx500")
    result = compile_nano(labeled, tmp_path, Thresholds(100, 100, 0))
    assert 100 < sum(result.summary.memory_kib.values()) < 1000
    assert result.summary.simulated.agreement >= 0.9
