"""The contract of a face detector, and the errors for the wrong kind of file."""

import io
import json
import zipfile
from dataclasses import replace

import pytest

from fer_edge.artifacts.contract import CONTRACT_FILE, ModelError, read_contract
from fer_edge.artifacts.detector_contract import (
    DataSource,
    DetectorContract,
    read_detector_contract,
    read_detector_file,
)
from fer_edge.artifacts.model_file import read_model_file
from fer_edge.edge_runtime.find_model import default_model

CONTRACT = DetectorContract(
    kind="face_detector",
    name="detector_nano",
    height=128,
    width=160,
    strides=(8,),
    score_threshold=0.5,
    second_look_threshold=0.2,
    score_calibration=(1.5, -0.25),
    precision="int8",
    parameters=54_664,
    multiply_adds=7_650_000,
    data=(DataSource("drawn", "photos", 12, "CC0-1.0", ("haar",)),),
    scenes_seen=1000,
    metrics=None,
    versions={"fer-edge": "0"},
    source_digest="0" * 64,
)


def detector_file(path, contract_json, flatbuffer=None):
    """A file with the contract; the flatbuffer is that of a classifier unless it is given."""
    content = io.BytesIO(flatbuffer or read_model_file(default_model()).flatbuffer)
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr(CONTRACT_FILE, contract_json)
    path.write_bytes(content.getvalue())
    return path


def test_a_detector_contract_survives_json(tmp_path):
    path = detector_file(tmp_path / "d.tflite", CONTRACT.to_json())
    assert read_detector_contract(path) == CONTRACT


def test_a_detector_is_not_a_classifier(tmp_path):
    path = detector_file(tmp_path / "d.tflite", CONTRACT.to_json())
    for read in (read_contract, read_model_file):
        with pytest.raises(ModelError, match=r"d\.tflite: this model is a face detector.*Pass it as --detector"):
            read(path)


def test_a_classifier_is_not_a_detector():
    for read in (read_detector_contract, read_detector_file):
        with pytest.raises(ModelError, match="is an expression classifier, not a face detector"):
            read(default_model())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "hand_detector"}, "has the kind 'hand_detector'"),
        ({"detector_contract_version": 9}, "contract version 9, this fer-edge reads 1"),
        ({"strides": [7]}, "must divide the input of 160x128 pixels. Received: 7"),
        ({"height": 0}, "height of a detector's input must be between 16 and 2048. Received: 0"),
        ({"second_look_threshold": 0.9}, "second-look threshold of a detector must be between 0 and 0.5. Received: 0.9"),
        ({"score_calibration": [0, 0]}, "slope of a score calibration"),
        ({"name": "../x"}, "may contain only"),
        ({"extra": 1}, "has unknown 'extra'"),
        ({"name": "a\x1b[2J"}, "control characters"),
    ],
)
def test_a_contract_with_a_wrong_value_is_rejected(change, message):
    with pytest.raises(ModelError, match=message.replace("[", r"\[")):
        DetectorContract.from_json(json.dumps({**json.loads(CONTRACT.to_json()), **change}))


def test_a_changed_flatbuffer_is_rejected(tmp_path):
    path = detector_file(tmp_path / "d.tflite", replace(CONTRACT, flatbuffer_sha256="1" * 64).to_json())
    with pytest.raises(ModelError, match="differs from the digest in its contract"):
        read_detector_file(path)


def test_the_graph_of_a_classifier_is_not_a_detector(tmp_path):
    digest = read_model_file(default_model()).sha256
    path = detector_file(tmp_path / "d.tflite", replace(CONTRACT, flatbuffer_sha256=digest).to_json())
    with pytest.raises(ModelError, match=r"input \(1, 48, 48, 3\), contract \(1, 128, 160, 1\)"):
        read_detector_file(path)
