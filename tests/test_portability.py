import numpy as np
import pytest
from tensorflow.lite.python.schema_py_generated import TensorType

from fer_edge.artifacts.model_file import read_model_file
from fer_edge.convert.flatbuffer import read_flatbuffer, write_flatbuffer
from fer_edge.convert.metadata import attach
from fer_edge.convert.portability import portability_problems


def changed(int8_model, end, **values):
    """The bundled model with other attributes of its input or output."""
    model = read_flatbuffer(read_model_file(int8_model).flatbuffer)
    graph = model.subgraphs[0]
    tensor = graph.tensors[getattr(graph, end)[0]]
    for name, value in values.items():
        setattr(tensor, name, value)
    return model


def test_the_bundled_model_is_portable(int8_model):
    assert portability_problems(changed(int8_model, "inputs")) == []


@pytest.mark.parametrize(
    ("end", "values", "problem"),
    [
        ("inputs", {"type": TensorType.INT8}, "the input is int8, and MediaPipe and LiteRT.js take only uint8 and float32"),
        ("outputs", {"type": TensorType.INT16}, "the output is int16, and MediaPipe and LiteRT.js take only uint8 and float32"),
        (
            "inputs",
            {"shapeSignature": np.array([-1, 48, 48, 3])},
            "the input has the shape [-1, 48, 48, 3], and LiteRT.js takes only a fixed batch of 1",
        ),
        (
            "inputs",
            {"shape": np.array([1, 48, 48, 1])},
            "the input has the shape [1, 48, 48, 1], and MediaPipe takes only images of 3 channels",
        ),
    ],
)
def test_a_model_that_apps_would_reject_is_not_written(int8_model, end, values, problem):
    model = changed(int8_model, end, **values)
    assert portability_problems(model) == [problem]
    with pytest.raises(ValueError, match=r"the converted model is rejected: the (in|out)put"):
        attach(write_flatbuffer(model), read_model_file(int8_model).contract)


def test_a_model_with_two_outputs_is_rejected(int8_model):
    model = changed(int8_model, "outputs")
    model.subgraphs[0].outputs = [model.subgraphs[0].outputs[0]] * 2
    assert portability_problems(model)[0] == "it has 2 outputs, and apps expect one"
