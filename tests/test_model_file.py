"""Reading .tflite files: contract, digest, graph, and the trial in a child process."""

import hashlib
import json
import os
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
from graph_mutants import objects
from mutants import Original, make_archive

from fer_edge.artifacts.check_graph import check_graph
from fer_edge.artifacts.contract import CONTRACT_FILE, LABELS_FILE, BoxTransform, ModelError, read_contract
from fer_edge.artifacts.flatbuffer_reader import FlatbufferError, Table, read_root
from fer_edge.artifacts.graph import GraphError
from fer_edge.artifacts.model_file import read_model_file
from fer_edge.edge_runtime import Classifier, trial_load
from fer_edge.edge_runtime.find_model import bundled_models
from fer_edge.edge_runtime.interpreter import PROBE_MODEL

DIGEST = "flatbuffer_sha256"


@pytest.fixture(scope="module")
def original(int8_model):
    return Original.read(int8_model)


@pytest.fixture
def write(tmp_path):
    """Write a model file of a flatbuffer and a contract, with the digest of the flatbuffer unless the contract has one."""

    def to_file(original, **changes):
        digest = {DIGEST: hashlib.sha256(original.flatbuffer).hexdigest()}
        path = tmp_path / "model.tflite"
        path.write_bytes(original.with_contract({**original.contract, **digest, **changes}).content)
        return path

    return to_file


def with_graph(original, change):
    """The same file with a changed object tree."""
    content = objects(lambda model, rng, schema: change(model))(original, None)
    return replace(original, flatbuffer=content[: len(content) - len(original.tail)])


@pytest.mark.parametrize("name", sorted(bundled_models()))
def test_the_bundled_models_pass_the_check_of_their_graph(name):
    file = read_model_file(bundled_models()[name])
    assert file.contract == read_contract(file.path)
    assert file.path.read_bytes().startswith(file.flatbuffer)


@pytest.mark.tensorflow
def test_the_files_of_all_precisions_have_a_digest_and_pass_the_check(models):
    for precision, path in models.items():
        file = read_model_file(path)
        assert file.contract.precision == precision
        assert file.contract.flatbuffer_sha256 == file.sha256


def test_one_changed_bit_of_the_flatbuffer_is_noticed(original, write):
    path = write(original)
    assert read_model_file(path).flatbuffer == original.flatbuffer
    content = bytearray(path.read_bytes())
    content[original.constants[5][0]] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"differs from the digest in its contract: it is truncated, damaged or was changed"):
        Classifier(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 10**6}, "the image size of a contract must be between 8 and 1024"),
        ({"image_size": True}, "image_size must be int"),
        ({"parameters": 10**400}, "contract inside the model is damaged"),
        ({"labels": ["happy"]}, "the number of labels must be between 2 and 1000. Received: 1"),
        ({"unsure_threshold": 1.5}, "the unsure_threshold of a contract must be between 0 and 1"),
        ({"temperature": float("nan")}, "temperature must be a finite number. Received: nan"),
        ({"recipe": "\x1b[2Jedge"}, "a text with control characters"),
        ({"contract_version": "x" * 10**5}, "contract version x{20}, this fer-edge reads"),
        ({"extra": 1}, "has unknown 'extra'"),
    ],
)
def test_a_contract_out_of_range_is_rejected(original, write, changes, message):
    with pytest.raises(ModelError, match=message):
        read_contract(write(original, **changes))


@pytest.mark.parametrize("bad", [{"scale": 0.0}, {"scale": float("inf")}, {"shift_x": 1e9}, {"shift_y": float("nan")}])
def test_a_box_transform_out_of_range_is_rejected(bad):
    with pytest.raises(ValueError, match="of a box transform must be between"):
        BoxTransform(**bad)


def test_a_contract_of_more_than_1_mb_is_not_read(original, tmp_path):
    path = tmp_path / "large.tflite"
    path.write_bytes(original.with_contract(b" " * (2 << 20)).content)
    with pytest.raises(ModelError, match=r"its fer_edge.json has 2097152 bytes; the maximum is 1048576"):
        read_contract(path)


def test_labels_that_differ_from_labels_txt_are_rejected(original, write):
    names = original.contract["labels"]
    with pytest.raises(ModelError, match=r"labels.txt inside the model differs from its contract"):
        read_contract(write(original, labels=[names[1], names[0], *names[2:]]))


def test_two_contracts_are_rejected(original, tmp_path):
    members = [(LABELS_FILE, b""), (CONTRACT_FILE, b"{}"), (CONTRACT_FILE, b"{}")]
    path = tmp_path / "two.tflite"
    with pytest.warns(UserWarning, match="Duplicate name"):
        path.write_bytes(original.flatbuffer + make_archive(members))
    with pytest.raises(ModelError, match=r"it contains 2 files fer_edge.json"):
        read_contract(path)


def set_shape(model):
    model.subgraphs[0].tensors[model.subgraphs[0].operators[0].outputs[0]].shape = [1, 47, 48, 3]


def set_operator(model):
    code = model.operatorCodes[model.subgraphs[0].operators[0].opcodeIndex]
    code.builtinCode = code.deprecatedBuiltinCode = 65


def set_stride(model):
    for operator in model.subgraphs[0].operators:
        if hasattr(operator.builtinOptions, "strideW"):
            operator.builtinOptions.strideW = 0


def set_input(model):
    model.subgraphs[0].operators[3].inputs[0] = model.subgraphs[0].outputs[0]


def set_kernel(model):
    graph = model.subgraphs[0]
    first = next(operator for operator in graph.operators if hasattr(operator.builtinOptions, "dilationWFactor"))
    first.inputs[1] = first.inputs[0]


def set_scale(model):
    quantization = model.subgraphs[0].tensors[model.subgraphs[0].operators[0].outputs[0]].quantization
    quantization.scale = np.full(len(quantization.scale), np.nan, np.float32)


def add_graph(model):
    model.subgraphs = model.subgraphs * 2


def shorten_buffer(model):
    buffer = next(buffer for buffer in model.buffers[1:] if buffer.data is not None and len(buffer.data) > 64)
    buffer.data = buffer.data[:-1]


def move_buffer(model):
    model.buffers[2].offset, model.buffers[2].size = 2**40, 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_shape, r"to the shape \(1, 47, 48, 3\), expected \(1, 48, 48, 3\)"),
        (set_operator, "the operator 65, which fer-edge does not emit"),
        (set_stride, "a window of a bad size"),
        (set_input, "an operator that reads an unwritten tensor"),
        (set_kernel, "a kernel"),
        (set_scale, "a scale that is not finite and positive"),
        (add_graph, "2 subgraphs, expected 1"),
        (shorten_buffer, "bytes for a tensor of shape"),
        (move_buffer, "a buffer outside the flatbuffer"),
    ],
)
def test_a_graph_that_fer_edge_does_not_make_is_rejected_before_the_interpreter(original, write, change, message):
    with pytest.raises(ModelError, match=f"is damaged, or was not converted by fer-edge \\(.*{message}"):
        read_model_file(write(with_graph(original, change)))


def test_an_output_that_cannot_be_a_probability_is_rejected(original, write):
    def double(model):
        graph = model.subgraphs[0]
        graph.tensors[graph.outputs[0]].quantization.scale = np.array([0.5], np.float32)

    with pytest.raises(ModelError, match=r"an output of scale 0\.5 and zero point 0, not a probability"):
        Classifier(write(with_graph(original, double)))

    def saturate(model):
        graph = model.subgraphs[0]
        graph.tensors[graph.outputs[0]].quantization.scale = np.array([0.0001], np.float32)

    with pytest.raises(ModelError, match=r"the model does not output probabilities: \[0\.0255, "):
        Classifier(write(with_graph(original, saturate), output={"scale": 0.0001, "zero_point": 0}))
    path = write(original, output={"scale": 0.002, "zero_point": 0})
    with pytest.raises(ModelError, match=r"contract 0\.002"):
        read_model_file(path)


def test_another_input_than_in_the_contract_is_rejected(original):
    with pytest.raises(GraphError, match=r"input \(1, 48, 48, 3\), output \(1, \d\), contract \(1, 96, 96, 3\) and \(1, 3\)"):
        check_graph(original.flatbuffer, 96, 3)
    with pytest.raises(GraphError):
        check_graph(PROBE_MODEL.read_bytes(), 96, 3)


def test_a_flatbuffer_reader_follows_no_offset_outside_the_data():
    table = Table(bytes([4, 0, 4, 0, 4, 0, 0, 0]), 4)
    assert (table.has(0), table.scalar(3, "i", 7), table.tables(1), table.text(2)) == (False, 7, [], b"")
    for data in (b"", b"\xff\xff\xff\xff", bytes(4), bytes([4, 0, 0, 0, 0, 0, 0, 128])):
        with pytest.raises(FlatbufferError):
            read_root(data)


@pytest.fixture
def untried(monkeypatch, tmp_path):
    """An empty cache folder, and the commands of the child processes that are started."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trial_load._loaded_before.clear()
    started = []
    run = trial_load.subprocess.run
    monkeypatch.setattr(trial_load.subprocess, "run", lambda *a, **k: started.append(a) or run(*a, **k))
    yield started
    trial_load._loaded_before.clear()


def test_a_file_without_a_digest_is_loaded_in_a_child_process_once(original, write, untried, tmp_path):
    path = write(original, **{DIGEST: None})
    Classifier(path)
    Classifier(path)
    trial_load._loaded_before.clear()  # as in another process
    Classifier(path)
    assert len(untried) == 1
    (mark,) = (tmp_path / "cache" / "fer-edge" / "models").iterdir()
    assert mark.name.startswith(hashlib.sha256(original.flatbuffer).hexdigest())
    Classifier(write(original))
    assert len(untried) == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (f"import os; os.kill(os.getpid(), {signal.SIGSEGV.value})", r"it ends the process that loads it \(SIGSEGV\)"),
        ("import time; time.sleep(9)", "loading it takes more than 0.2 s"),
        (f"import os; os.kill(os.getpid(), {signal.SIGXCPU.value})", "loading it takes more than 10 s"),
        ("import sys; sys.exit('loading it fails: no luck')", "loading it fails: no luck"),
    ],
)
def test_a_file_that_fails_in_the_child_process_is_rejected(original, write, untried, monkeypatch, code, message):
    monkeypatch.setattr(trial_load, "CHILD", code)
    if "sleep" in code:
        monkeypatch.setattr(trial_load, "MAX_SECONDS", 0.2)
    with pytest.raises(ModelError, match=f"cannot be used: {message}. Convert the run again"):
        Classifier(write(original, **{DIGEST: None}))
    assert not os.path.lexists(os.environ["XDG_CACHE_HOME"])


def test_the_child_process_reports_the_error_of_the_interpreter(untried):
    problem = trial_load._run(b"no model at all")
    assert problem.startswith("loading it fails: ")


def test_a_model_that_computes_for_ever_exceeds_the_limit_of_cpu_time(untried, monkeypatch):
    spin = "trial_load.MAX_CPU_SECONDS, trial_load.make_interpreter = 1, lambda **_: all(iter(lambda: 1, 0))"
    monkeypatch.setattr(trial_load, "CHILD", f"from fer_edge.edge_runtime import trial_load; {spin}; trial_load.run_child()")
    assert trial_load._run(b"") == f"loading it takes more than {trial_load.MAX_CPU_SECONDS} s"


def test_the_child_process_does_not_import_from_the_current_folder(untried, tmp_path, monkeypatch, original):
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(tmp_path)
    assert trial_load._run(original.flatbuffer) is None
    assert sys.executable


def test_info_says_whether_the_digest_matches(original, write, invoke, error_of):
    assert "sha256 " + hashlib.sha256(original.flatbuffer).hexdigest()[:12] in invoke("info", write(original)).stdout
    assert "no digest: converted by an older fer-edge" in invoke("info", write(original, **{DIGEST: None})).stdout
    assert "unsure  below 0.45" in invoke("info", write(original, unsure_threshold=0.45)).stdout
    path = write(original)
    path.write_bytes(path.read_bytes()[:3000] + b"x" + path.read_bytes()[3001:])
    assert "differs from the digest in its contract" in error_of("info", path)


def test_json_lines_of_a_model_are_json(int8_model, faces):
    (prediction,) = Classifier(int8_model).predict(faces.images[0])
    assert json.loads(json.dumps(prediction.as_dict(), allow_nan=False))
