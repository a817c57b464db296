import hashlib
import shutil
import struct
import zipfile

import numpy as np
import pytest
from flatbuffers.number_types import Float32Flags, Int8Flags, Uint32Flags
from flatbuffers.table import Table
from tensorflow.lite.python.schema_py_generated import BuiltinOperator

import fer_edge
from fer_edge.artifacts.contract import Contract, ModelError, read_contract
from fer_edge.artifacts.gate import Thresholds
from fer_edge.artifacts.run_folder import newest_run, read_run
from fer_edge.convert.calibrate import rank_by_activation_outliers
from fer_edge.convert.compare import compare
from fer_edge.convert.convert_run import ConvertOptions
from fer_edge.convert.flatbuffer import read_flatbuffer
from fer_edge.convert.metadata import model_metadata, pack
from fer_edge.convert.quantization_recipes import find_quantization_recipe
from fer_edge.convert.tf_converter import full_range
from fer_edge.edge_runtime.interpreter import open_interpreter


def test_int8_takes_the_bytes_of_the_camera_unchanged(models):
    interpreter = open_interpreter(models["int8"])
    (face,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (face["dtype"], output["dtype"]) == (np.uint8, np.uint8)
    calibration = read_contract(models["int8"]).quantization.calibration
    assert 100 <= calibration.distinct == calibration.faces <= 256
    assert min(calibration.per_class.values()) > 0
    assert read_contract(models["float16"]).quantization.calibration is None
    assert face["quantization"] == (1.0, 0)
    assert face["shape"].tolist() == [1, 32, 32, 3]


@pytest.mark.parametrize("precision", ["float32", "float16", "dynamic"])
def test_other_precisions_take_the_same_bytes_as_floats(models, precision):
    (face,) = open_interpreter(models[precision]).get_input_details()
    assert face["dtype"] == np.float32
    assert face["shape"].tolist() == [1, 32, 32, 3]


def test_file_size_decreases_with_the_precision(models):
    sizes = {name: path.stat().st_size for name, path in models.items()}
    assert 0.4 < sizes["float16"] / sizes["float32"] < 0.6
    assert 0.2 < sizes["int8"] / sizes["float32"] < 0.35


def test_file_names_contain_network_data_and_precision(models):
    assert {path.name for path in models.values()} == {f"cnn_synthetic_{name}.tflite" for name in models}


def test_a_file_contains_labels_contract_and_standard_metadata(models, run_folder, faces):
    run = read_run(run_folder)
    for precision, path in models.items():
        with zipfile.ZipFile(path) as archive:
            assert archive.read("labels.txt").decode().split() == list(faces.labels)
        contract = read_contract(path)
        assert contract.precision == precision
        assert contract.labels == faces.labels
        assert contract.source_digest == run.results.model_digest
        assert contract.crop.training_resolution_px == 48
        assert contract.split == run.record.split
        assert b"TFLITE_METADATA" in path.read_bytes()
        assert Contract.from_json(contract.to_json()) == contract


def table(parent, *slots):
    """Follow slots of flatbuffer tables. Where a slot has a vector of tables, take the first one."""
    for slot in slots:
        offset = parent.Offset(4 + 2 * abs(slot))
        position = parent.Vector(offset) if slot < 0 else parent.Pos + offset
        parent = Table(parent.Bytes, parent.Indirect(position))
    return parent


def test_the_metadata_have_the_layout_of_the_tflite_metadata_schema(models):
    contract = read_contract(models["int8"])
    content = bytearray(pack(model_metadata(contract)))
    assert content[4:8] == b"M001"
    root = Table(content, int.from_bytes(content[:4], "little"))
    # Slots of the schema; a negative number is a vector of tables.
    normalization = table(root, -3, -2, -4, 1)  # subgraph, input tensor, process unit, options
    mean, std = (normalization.Get(Float32Flags, normalization.Vector(normalization.Offset(slot))) for slot in (4, 6))
    assert (mean, std) == (0.0, 1.0)
    size = table(root, -3, -2, 3, 1, 1)  # subgraph, input tensor, content, image properties, default size
    assert [size.Get(Uint32Flags, size.Pos + size.Offset(slot)) for slot in (4, 6)] == [32, 32]
    labels = table(root, -3, -3, -6)  # subgraph, output tensor, associated file
    assert labels.String(labels.Pos + labels.Offset(4)) == b"labels.txt"
    assert labels.Get(Int8Flags, labels.Pos + labels.Offset(8)) == 2  # TENSOR_AXIS_LABELS
    file = table(root, -6)
    assert file.String(file.Pos + file.Offset(4)) == b"fer_edge.json"


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_weights_start_at_multiples_of_16_bytes(models, precision):
    from tensorflow.lite.python import schema_py_generated as schema

    content = models[precision].read_bytes()
    start = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    model = schema.Model.GetRootAs(content, 0)
    buffers = [model.Buffers(k).DataAsNumpy() for k in range(model.BuffersLength()) if model.Buffers(k).DataLength()]
    assert len(buffers) > 8
    assert {(buffer.__array_interface__["data"][0] - start) % 16 for buffer in buffers} == {0}


def test_deprecated_operator_codes_repeat_the_operator_codes(models):
    codes = read_flatbuffer(models["int8"].read_bytes()).operatorCodes
    assert {BuiltinOperator.QUANTIZE, BuiltinOperator.DEQUANTIZE} <= {code.builtinCode for code in codes}
    assert [code.deprecatedBuiltinCode for code in codes] == [min(127, code.builtinCode) for code in codes]


def test_operators_have_the_version_that_takes_int8(models):
    model = read_flatbuffer(models["int8"].read_bytes())
    versions = {code.builtinCode: code.version for code in model.operatorCodes}
    assert versions[BuiltinOperator.CONV_2D] == 3
    assert versions[BuiltinOperator.MAX_POOL_2D] == 2
    assert versions[BuiltinOperator.QUANTIZE] == 1


def test_the_contract_has_the_digest_of_the_flatbuffer_and_the_scale_of_the_output(models):
    for precision, path in models.items():
        content, contract = path.read_bytes(), read_contract(path)
        with zipfile.ZipFile(path) as archive:
            assert archive.start_dir < len(content)
            start = min(entry.header_offset for entry in archive.infolist())
        assert contract.flatbuffer_sha256 == hashlib.sha256(content[:start]).hexdigest()
        (output,) = open_interpreter(path).get_output_details()
        if precision == "int8":
            assert (contract.output.scale, contract.output.zero_point) == output["quantization"]
        else:
            assert contract.output is None


def test_zip_offsets_count_from_the_start_of_the_file(models):
    content = models["int8"].read_bytes()
    end = content.rindex(b"PK\x05\x06")
    (directory,) = struct.unpack_from("<I", content, end + 16)
    assert content[directory : directory + 4] == b"PK\x01\x02"
    (local,) = struct.unpack_from("<I", content, directory + 42)
    assert content[local : local + 4] == b"PK\x03\x04"


def test_float32_agrees_with_keras_and_its_metrics_are_those_of_the_held_out_faces(models, run_folder):
    metrics = read_contract(models["float32"]).metrics
    test = read_run(run_folder).results.metrics.test
    assert metrics.agreement == 1.0
    assert metrics.max_difference < 1e-4
    assert metrics.before.accuracy == pytest.approx(test.accuracy)
    assert metrics.faces == test.count


def test_compare_counts_agreement_and_recalls_by_hand():
    before = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], np.float32)
    after = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]], np.float32)
    metrics = compare(before, after, np.array([0, 0, 1]), ("happy", "sad"))
    assert metrics.agreement == pytest.approx(2 / 3)
    assert (metrics.before.accuracy, metrics.after.accuracy) == pytest.approx((1.0, 2 / 3))
    assert metrics.after.recall == {"happy": 0.5, "sad": 1.0}
    assert metrics.max_difference == pytest.approx(0.4)
    assert (metrics.before.ece, metrics.after.ece) == pytest.approx((0.6 / 3, 1.0 / 3))


def test_calibration_covers_the_whole_input_range_and_does_not_change_the_faces():
    faces = np.full((3, 4, 4, 3), 100, np.uint8)
    widened = full_range(faces)
    assert (widened.min(), widened.max()) == (0, 255)
    assert (widened != faces).sum() == 6
    assert (faces == 100).all()


def copy_of(run_folder, target):
    shutil.copytree(run_folder, target)
    return target


def test_runs_without_a_finished_model_are_rejected(run_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        read_run(tmp_path)
    stopped = copy_of(run_folder, tmp_path / "stopped")
    (stopped / "model.keras").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks model\.keras"):
        read_run(stopped)
    swapped = copy_of(run_folder, tmp_path / "swapped")
    (swapped / "model.keras").write_bytes(b"something else")
    with pytest.raises(ValueError, match="is not the model that this run finished with"):
        read_run(swapped)
    cut = copy_of(run_folder, tmp_path / "cut")
    (cut / "calibration.npz").write_bytes((cut / "calibration.npz").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"calibration.npz is damaged"):
        read_run(cut)


def test_the_newest_run_is_found(run_folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished run in"):
        newest_run(tmp_path)
    copy_of(run_folder, tmp_path / "a")
    newer = copy_of(run_folder, tmp_path / "b")
    (newer / "run.json").touch()
    assert newest_run(tmp_path) == newer


def test_the_package_converts_a_run_like_the_command(run_folder, tmp_path):
    options = ConvertOptions(precisions=("dynamic",), thresholds=Thresholds(100, 100, 0), out=tmp_path)
    (result,) = fer_edge.convert(run_folder, options, command=("fer-edge", "convert", str(run_folder)))
    assert result.path == tmp_path / "cnn_synthetic_dynamic.tflite"
    assert read_contract(result.path) == result.contract
    assert result.contract.command == ("fer-edge", "convert", run_folder.name)


def test_an_unknown_precision_is_rejected():
    with pytest.raises(
        ValueError, match="unknown precision 'int4'; choose one of: float32, float16, dynamic, weight_only, int8"
    ):
        find_quantization_recipe("int4")


def test_a_damaged_contract_is_rejected():
    with pytest.raises(ModelError, match="damaged"):
        Contract.from_json('{"contract_version": 2}')
    with pytest.raises(ModelError, match="version 99"):
        Contract.from_json('{"contract_version": 99}')


@pytest.mark.tensorflow
def test_a_face_that_extends_the_activation_ranges_comes_last():
    import keras

    face = keras.Input((4, 4, 3))
    dense = keras.layers.Dense(2, use_bias=False)
    model = keras.Model(face, dense(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(face))))
    dense.set_weights([np.ones((48, 2), np.float32)])
    faces = np.full((20, 4, 4, 3), 10, np.uint8)
    faces[3] = 200
    assert rank_by_activation_outliers(model, faces)[-1] == 3
    assert set(rank_by_activation_outliers(model, faces)) == set(range(20))
