"""What conversion and training do to a network, for every network. Each one is built, folded and converted once."""

import re
from dataclasses import dataclass, replace

import keras
import numpy as np
import pytest
from keras import layers

from fer_edge.artifacts.contract import read_contract
from fer_edge.convert.ai_edge import scope_of
from fer_edge.convert.cross_layer_equalization import equalize
from fer_edge.convert.flatbuffer import read_flatbuffer
from fer_edge.convert.fold import fold_model
from fer_edge.convert.metadata import attach
from fer_edge.convert.quantization_recipes import RECIPES
from fer_edge.convert.sensitivity import weighted_layers
from fer_edge.convert.tf_converter import convert_keras
from fer_edge.convert.tf_keras_copy import to_tf_keras
from fer_edge.edge_runtime.find_model import default_model
from fer_edge.train.networks import NETWORKS, build_network
from fer_edge.train.tflite_weights import load_tflite_weights

LABELS = ("angry", "fear", "happy", "sad", "surprise")
NORM = layers.BatchNormalization


@dataclass(frozen=True)
class Converted:
    """A network with random weights and statistics, and what conversion makes of it."""

    name: str
    size: int
    model: keras.Model
    gray: np.ndarray  # uint8 (8, size, size, 1)
    folded: keras.Model
    equal: keras.Model
    flatbuffer: bytes

    @property
    def faces(self):
        """The gray faces as RGB, and two faces in color: float32 (10, size, size, 3)."""
        color = np.random.default_rng(1).integers(0, 256, (2, self.size, self.size, 3))
        return np.concatenate([np.repeat(self.gray, 3, axis=-1), color]).astype(np.float32)


def probabilities(model, faces):
    """Call the model without a graph, which takes longer to build than a few faces take."""
    return np.asarray(model(faces, training=False))


@pytest.fixture(scope="module", params=[name for name, network in NETWORKS.items() if not network.teaches])
def converted(request, tmp_path_factory):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    size = NETWORKS[request.param].min_image_size
    model = build_network(request.param, size, len(LABELS), bn_momentum=0.9)
    for layer in model.layers:
        if isinstance(layer, NORM):
            layer.set_weights([np.abs(rng.normal(1, 0.3, value.shape)) + 0.05 for value in layer.get_weights()])
    gray = rng.integers(0, 256, (8, size, size, 1), np.uint8)
    folded = fold_model(model)
    equal = equalize(folded, np.repeat(gray, 3, axis=-1))
    log = tmp_path_factory.mktemp("log") / "log"
    flatbuffer = convert_keras(equal, RECIPES["float32"], np.empty((0, size, size, 3), np.uint8), log)
    return Converted(request.param, size, model, gray, folded, equal, flatbuffer)


@pytest.fixture(scope="module")
def expected(converted):
    """The probabilities of the network for Converted.faces."""
    return probabilities(converted.model, converted.faces)


def test_every_network_keeps_the_contract(converted, expected):
    model, size = converted.model, converted.size
    assert model.input_shape == (None, size, size, 3)
    assert model.output_shape == (None, len(LABELS))
    assert {layer.momentum for layer in model.layers if isinstance(layer, NORM)} <= {0.9}
    assert expected.sum(axis=1) == pytest.approx(np.ones(len(expected)), abs=1e-5)


def test_a_folded_network_has_the_same_outputs_and_no_norms(converted, expected):
    folded = converted.folded
    assert probabilities(folded, converted.faces) == pytest.approx(expected, abs=2e-5)
    assert not [layer.name for layer in folded.layers if isinstance(layer, NORM) or layer.name == "to_gray"]
    assert folded.count_params() < 1.03 * converted.model.count_params()


def test_equalization_keeps_the_outputs_and_changes_the_weights(converted, expected):
    equal, folded = converted.equal, converted.folded
    assert probabilities(equal, converted.faces) == pytest.approx(expected, abs=2e-5)
    changed = [
        layer.name
        for layer in folded.layers
        if layer.weights and not np.allclose(layer.get_weights()[0], equal.get_layer(layer.name).get_weights()[0], rtol=1e-3)
    ]
    assert len(changed) >= 8


def test_the_tf_keras_copy_has_the_same_outputs(converted, expected):
    copy = to_tf_keras(converted.folded)
    assert np.asarray(copy(converted.faces, training=False)) == pytest.approx(expected, abs=2e-5)


def test_the_pattern_of_a_layer_matches_only_its_operator(converted):
    graph = read_flatbuffer(converted.flatbuffer).subgraphs[0]
    names = [graph.tensors[operator.outputs[0]].name.decode() for operator in graph.operators]
    weighted = weighted_layers(converted.equal)
    assert {layer: sum(bool(re.search(scope_of(layer), name)) for name in names) for layer in weighted} == dict.fromkeys(
        weighted, 1
    )


def test_a_network_is_restored_from_its_file_with_statistics_of_the_faces(converted, expected, tmp_path):
    contract = replace(read_contract(default_model()), architecture=converted.name, labels=LABELS, image_size=converted.size)
    file = tmp_path / "model.tflite"
    file.write_bytes(attach(converted.flatbuffer, contract))
    again = build_network(converted.name, converted.size, len(LABELS))
    assert load_tflite_weights(again, file, LABELS, converted.gray) == ()
    assert probabilities(again, converted.faces) == pytest.approx(expected, abs=2e-4)
    norm = next((layer for layer in again.layers if isinstance(layer, NORM)), None)
    if norm is not None:
        seen = probabilities(keras.Model(again.input, norm.input), converted.faces[: len(converted.gray)])
        assert np.asarray(norm.moving_mean) == pytest.approx(seen.mean(axis=(0, 1, 2)), rel=1e-3, abs=1e-4)
        assert np.asarray(norm.moving_variance) == pytest.approx(seen.var(axis=(0, 1, 2)), rel=1e-3)
