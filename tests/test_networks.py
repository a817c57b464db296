import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from fer_edge.artifacts.contract import read_contract
from fer_edge.artifacts.run_folder import read_run_record
from fer_edge.convert.fold import fold_model
from fer_edge.convert.metadata import attach
from fer_edge.convert.quantization_recipes import RECIPES
from fer_edge.convert.tf_converter import convert_keras
from fer_edge.train.dataset import to_gray_batch
from fer_edge.train.gray_stem import CAFFE, MINUS_ONE_TO_ONE, TORCH, gray_stem_weights
from fer_edge.train.model_source import source_digest
from fer_edge.train.networks import build_network, check_image_size
from fer_edge.train.weights import load_weights, parse_weights

THREE = ("angry", "happy", "sad")
NO_FACES = np.empty((0, 32, 32, 1), np.uint8)  # only a .tflite file asks for some


@pytest.mark.parametrize(
    ("name", "minimum"), [("cnn", 32), ("vgg16", 32), ("inception_v3", 75), ("mobilenet_v2", 32), ("densenet121", 32)]
)
def test_image_sizes_below_the_minimum_are_rejected(name, minimum):
    assert check_image_size(name, minimum) == minimum
    with pytest.raises(ValueError, match=f"at least {minimum}. Received: image_size={minimum - 1}"):
        check_image_size(name, minimum - 1)


@pytest.mark.parametrize("scaling", [CAFFE, MINUS_ONE_TO_ONE, TORCH], ids=["caffe", "minus_one_to_one", "torch"])
def test_the_gray_stem_equals_the_scaled_rgb_stem_away_from_the_border(scaling):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 3, 5)).astype(np.float32)
    gray = rng.integers(0, 256, (3, 3)).astype(np.float64)
    rgb = np.stack([(gray - mean) / std for mean, std in zip(scaling.mean, scaling.std, strict=True)], axis=-1)
    fed = rgb[:, :, ::-1] if scaling.bgr else rgb
    expected = np.einsum("hwc,hwcf->f", fed, kernel)
    new, offset = gray_stem_weights(kernel, scaling)
    assert np.einsum("hw,hwf->f", gray / 255, new[:, :, 0]) + offset == pytest.approx(expected, abs=1e-3)


def test_offsets_of_1_limit_the_gradients_of_inception_v3(faces):
    keras.utils.set_random_seed(0)
    model = build_network("inception_v3", 75, len(faces.labels))
    few = faces.subset(np.arange(0, len(faces), 4))
    images = np.repeat(to_gray_batch(few, 75, faces.resolution_px), 3, axis=-1).astype(np.float32)
    kernels = [variable for variable in model.trainable_variables if variable.name == "kernel"]

    def growth():
        """Return the gradient of the first convolution over that of the last one, each relative to its weights."""
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(few.targets, model(images, training=True)))
        first, last = kernels[0].value, kernels[-2].value  # the fully connected layer comes after it
        gradients = tape.gradient(loss, [first, last])
        return float(tf.norm(gradients[0]) / tf.norm(first) / (tf.norm(gradients[1]) / tf.norm(last)))

    tamed = growth()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert np.all(layer.beta == 1)
            layer.beta.assign(np.zeros(layer.beta.shape))
    assert tamed < growth() / 5


def test_application_weights_give_the_features_of_the_application_on_a_gray_face(tmp_path):
    keras.utils.set_random_seed(0)
    backbone = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(64, 64, 3))
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(np.random.default_rng(1).normal(0, 0.1, layer.moving_mean.shape))
    backbone.save_weights(tmp_path / "mobile.weights.h5")
    model = build_network("mobilenet_v2", 64, 3)
    loaded = load_weights(model, "mobilenet_v2", str(tmp_path / "mobile.weights.h5"), THREE, NO_FACES)
    assert loaded.reinitialized_layers == ("probabilities",)
    # A face of one tone: only the zero-padded border differs, so compare the first convolution's middle.
    gray = np.full((1, 64, 64, 3), 90.0, np.float32)
    scaled = (gray - MINUS_ONE_TO_ONE.mean) / MINUS_ONE_TO_ONE.std
    ours = keras.Model(model.input, model.get_layer("bn_Conv1").output)(gray, training=False)
    theirs = keras.Model(backbone.input, backbone.get_layer("bn_Conv1").output)(scaled.astype(np.float32), training=False)
    assert np.asarray(ours)[:, 8:24, 8:24] == pytest.approx(np.asarray(theirs)[:, 8:24, 8:24], abs=1e-3)


def test_weights_that_do_not_fit_are_rejected(tmp_path, run_folder):
    model = build_network("mobilenet_v2", 32, 3)
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load_weights(model, "mobilenet_v2", str(tmp_path / "none.h5"), THREE, NO_FACES)
    with pytest.raises(ValueError, match="contains the network 'cnn', not 'mobilenet_v2'"):
        load_weights(model, "mobilenet_v2", str(run_folder), THREE, NO_FACES)
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(ValueError, match="does not fit mobilenet_v2"):
        load_weights(model, "mobilenet_v2", str(tmp_path / "other.weights.h5"), THREE, NO_FACES)


def test_a_run_of_a_different_version_of_a_network_is_rejected(tmp_path):
    earlier = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(3)], name="cnn_nano")
    earlier.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="contains a cnn_nano of a different version of fer-edge"):
        load_weights(build_network("cnn_nano", 32, 3), "cnn_nano", str(tmp_path / "model.keras"), THREE, NO_FACES)


def test_another_run_gives_all_weights_except_those_of_unknown_labels(run_folder, faces, tmp_path):
    source = keras.models.load_model(run_folder / "model.keras", compile=False)
    kernel, bias = source.get_layer("probabilities").get_weights()
    labels = ("happy", "calm", "angry")
    model = build_network("cnn", 32, 3)
    random = model.get_layer("probabilities").get_weights()[0]
    loaded = load_weights(model, "cnn", str(run_folder), labels, NO_FACES)
    assert loaded.reinitialized_layers == ("probabilities",)
    assert np.array_equal(model.get_layer("fc").get_weights()[0], source.get_layer("fc").get_weights()[0])
    happy, angry = faces.labels.index("happy"), faces.labels.index("angry")
    given, given_bias = model.get_layer("probabilities").get_weights()
    assert np.array_equal(given, np.stack([kernel[:, happy], random[:, 1], kernel[:, angry]], axis=1))
    assert given_bias[[0, 2]] == pytest.approx(bias[[happy, angry]])
    whole = build_network("cnn", 32, len(faces.labels))
    loaded = load_weights(whole, "cnn", str(run_folder), faces.labels, NO_FACES)
    digest = read_run_record(run_folder).results.model_digest
    assert (loaded.reinitialized_layers, source_digest(str(run_folder))) == ((), digest)
    copy = shutil.copy(run_folder / "model.keras", tmp_path / "mine.keras")
    assert load_weights(whole, "cnn", str(copy), faces.labels, NO_FACES).reinitialized_layers == ()
    assert source_digest(str(copy)) == digest
    assert np.array_equal(whole.get_layer("probabilities").get_weights()[0], kernel)


def test_weights_are_named_per_network_or_for_all():
    assert parse_weights(["none", "cnn=run"], ["cnn", "vgg16"]) == {"cnn": "run", "vgg16": "none"}
    with pytest.raises(ValueError, match="names 'densenet121', which is not trained here"):
        parse_weights(["densenet121=x"], ["cnn"])


def test_cnn_nano_in_int8_with_its_contract_stays_under_100_kb(models, tmp_path):
    model = build_network("cnn_nano", 48, 7)
    faces = np.random.default_rng(0).integers(0, 256, (8, 48, 48, 3), np.uint8)
    flatbuffer = convert_keras(fold_model(model), RECIPES["int8"], faces, tmp_path / "log")
    file = attach(flatbuffer, read_contract(models["int8"]))
    assert len(file) <= 95_000
