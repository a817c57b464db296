"""Networks that only teach, the optimizer sgd, dropout before the last layer, random crops, and published weights."""

import keras
import numpy as np
import pytest

from fer_edge.artifacts.training_plan import Augmentation
from fer_edge.train.augment import augment
from fer_edge.train.draws import StepDraws
from fer_edge.train.gray_stem import CAFFE
from fer_edge.train.networks import NETWORKS, build_network, count_parameters
from fer_edge.train.optimizer import build_optimizer
from fer_edge.train.plan import make_plan
from fer_edge.train.pretrained import PRETRAINED
from fer_edge.train.recipes import RECIPES, override
from fer_edge.train.weights import check_source, load_weights

LABELS = ("angry", "happy", "sad")


@pytest.mark.parametrize(
    ("name", "millions"), [("resnet18", 11.2), ("wide_resnet", 5.9), ("vgg19", 20.0), ("mobilenet_v1", 3.2)]
)
def test_networks_that_teach_have_the_published_size(name, millions):
    network = NETWORKS[name]
    assert network.teaches
    assert not network.compared
    model = build_network(name, network.min_image_size, 7)
    assert model.output_shape == (None, 7)
    assert count_parameters(model) / 1e6 == pytest.approx(millions, abs=0.1)


def test_sgd_has_nesterov_momentum_and_decoupled_weight_decay():
    recipe = override(
        RECIPES["edge"], ["optimizer=sgd", "learning_rate=0.5", "schedule=constant", "weight_decay=0.1", "ema_momentum=0"]
    )
    optimizer = build_optimizer(recipe, 100)
    weight = keras.Variable([2.0])
    for _ in range(2):
        optimizer.apply_gradients([([1.0], weight)])
    # Decay: x 0.95. Velocity: -0.5, then -0.95; Nesterov adds 0.9 times the velocity to the step.
    first = 2 * 0.95 - 0.5 - 0.9 * 0.5
    assert float(weight[0]) == pytest.approx(first * 0.95 - 0.5 - 0.9 * 0.95)


def test_the_dropout_before_the_last_layer_is_a_setting():
    rates = {
        rate: [layer.rate for layer in build_network("cnn", 32, 3, head_dropout=rate).layers if hasattr(layer, "rate")]
        for rate in (None, 0.6)
    }
    assert rates == {None: [0.1, 0.1, 0.1, 0.25], 0.6: [0.1, 0.1, 0.1, 0.6]}
    assert override(RECIPES["edge"], ["head_dropout=0.5"]).head_dropout == 0.5


def test_the_last_block_of_cnn_nano_can_be_wider():
    narrow, wide = (count_parameters(build_network("cnn_nano", 48, 7, last_filters=filters)) for filters in (None, 104))
    assert 3500 < wide - narrow < 4500
    with pytest.raises(ValueError, match=r"last_filters is a setting of cnn_nano. Received: last_filters=104 for cnn"):
        make_plan("cnn", override(RECIPES["edge"], ["last_filters=104"]))


def test_a_random_crop_enlarges_a_square_inside_the_face():
    ramp = np.tile(np.arange(100, dtype=np.float32)[None, None, :, None], (300, 100, 1, 1))
    cropped = np.asarray(augment(ramp, Augmentation(random_crop=0.4), StepDraws(keras.random.SeedGenerator(0))))[:, 50, :, 0]
    widths = (cropped[:, -1] - cropped[:, 0]) / 99
    assert 0.6 <= widths.min() < 0.62
    assert 0.98 < widths.max() <= 1
    assert cropped.min() >= -0.01
    assert cropped.max() <= 99.01
    starts = cropped[:, 0] / (100 * (1 - widths) + 1e-6)  # 0: at the left border, 1: at the right one
    assert np.histogram(starts[widths < 0.9], 4, (0, 1))[0].min() > 30


def faceres_arrays(rgb):
    """The arrays of a published MobileNetV1 that equal a network of keras.applications with random weights."""
    rng = np.random.default_rng(0)
    arrays = {}
    for layer in rgb.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            scale, offset = rng.uniform(0.5, 1.5, layer.beta.shape), rng.normal(0, 0.2, layer.beta.shape)
            if "_dw_" in layer.name:
                arrays[f"{layer.name}|batchnorm_1|mul"] = scale
            else:
                scale = np.ones_like(scale)
            arrays[f"{layer.name}|batchnorm_1|sub"] = offset
            layer.set_weights([scale, offset, np.zeros_like(scale), np.full_like(scale, 1 - layer.epsilon)])
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            arrays[f"{layer.name}|depthwise_kernel"] = layer.get_weights()[0]
        elif isinstance(layer, keras.layers.Conv2D):
            arrays[f"{layer.name}|convolution|merged_input"] = layer.get_weights()[0]
    return arrays


def test_weights_of_face_recognition_give_the_features_of_their_network_on_a_gray_face(tmp_path):
    keras.utils.set_random_seed(0)
    published = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(64, 64, 3))
    np.savez(tmp_path / "faces.npz", **faceres_arrays(published))
    model = build_network("mobilenet_v1", 64, 3)
    gray = np.random.default_rng(1).integers(0, 256, (4, 64, 64, 1), np.uint8)
    loaded = load_weights(model, "mobilenet_v1", str(tmp_path / "faces.npz"), LABELS, gray)
    assert loaded.reinitialized_layers == ("probabilities",)
    assert "Apache-2.0" in loaded.license
    rgb = np.repeat(gray, 3, axis=-1).astype(np.float32)
    bgr = rgb - np.array(CAFFE.mean[::-1], np.float32)
    for name in ("conv1_relu", "conv_pw_1_bn"):
        ours = keras.Model(model.input, model.get_layer(name).output)(rgb, training=False)
        theirs = keras.Model(published.input, published.get_layer(name).output)(bgr, training=False)
        inner = slice(4, -4)  # the zero-padded border differs
        assert np.asarray(ours)[:, inner, inner] == pytest.approx(np.asarray(theirs)[:, inner, inner], abs=2e-2)


def test_published_weights_of_inception_v3_are_assigned_in_their_order():
    rgb = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(1, 1, name="to_gray")(rgb)
    for number in range(12):
        suffix = f"_{number}" if number else ""
        x = keras.layers.Conv2D(2, 1, use_bias=False, name=f"conv2d{suffix}")(x)
        x = keras.layers.BatchNormalization(scale=False, name=f"batch_normalization{suffix}")(x)
    model = keras.Model(rgb, x)
    rng = np.random.default_rng(0)
    arrays = {}
    for number in range(1, 13):
        arrays[f"conv2d_{number}|kernel"] = rng.normal(size=(1, 1, 3 if number == 1 else 2, 2)).astype(np.float32)
        for part in ("beta", "moving_mean", "moving_variance"):
            arrays[f"batch_normalization_{number}|{part}"] = rng.uniform(0.1, 0.2, 2).astype(np.float32)
    faces = rng.integers(0, 256, (6, 8, 8, 1), np.uint8)
    PRETRAINED["inception_v3"].load(model, arrays, faces)
    assert np.asarray(model.get_layer("conv2d_10").kernel) == pytest.approx(arrays["conv2d_11|kernel"])
    assert np.asarray(model.get_layer("conv2d").kernel)[0, 0, 0] == pytest.approx(arrays["conv2d_1|kernel"].sum(axis=(0, 1, 2)))
    norm = model.get_layer("batch_normalization")
    assert np.asarray(norm.beta) == pytest.approx(arrays["batch_normalization_1|beta"])
    measured = np.asarray(keras.Model(rgb, norm.input)(np.repeat(faces, 3, axis=-1).astype(np.float32)))
    assert np.asarray(norm.moving_mean) == pytest.approx(measured.mean(axis=(0, 1, 2)), rel=1e-3)  # of these faces
    assert "MIT" in PRETRAINED["inception_v3"].license


def test_published_weights_that_do_not_fit_are_rejected(tmp_path):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match=r"an .npz file can only have weights of mobilenet_v1 or inception_v3"):
        check_source("cnn", str(tmp_path / "other.npz"))
    model = build_network("mobilenet_v1", 32, 3)
    with pytest.raises(ValueError, match=r"other.npz has no weights of mobilenet_v1 \(.*merged_input.*Give another file"):
        load_weights(model, "mobilenet_v1", str(tmp_path / "other.npz"), LABELS, np.zeros((1, 32, 32, 1), np.uint8))
