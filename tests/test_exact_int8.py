"""Why int8 agrees with float: equalized channels, corrected biases, a float last layer."""

import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from fer_edge.convert import ai_edge
from fer_edge.convert.bias_correction import correct_biases
from fer_edge.convert.compare import kl_divergence
from fer_edge.convert.cross_layer_equalization import equalize
from fer_edge.convert.flatbuffer import add_signature, read_flatbuffer, write_flatbuffer
from fer_edge.convert.prepare_run import predict
from fer_edge.convert.quantization_recipes import RECIPES, find_quantization_recipe
from fer_edge.convert.quantize import quantize, run_flatbuffer
from fer_edge.convert.tf_converter import convert_keras
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.interpreter import open_interpreter, tensor_view

SIDE = 16
FACES = np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 3), np.uint8)


def magnitudes(model, name):
    """Return the magnitude of each output channel of a layer: the 90th percentile over the faces of its peak per face."""
    values = keras.Model(model.input, model.get_layer(name).output).predict(FACES.astype(np.float32), verbose=0)
    return np.percentile(np.abs(values).max(axis=tuple(range(1, values.ndim - 1))), 90, axis=0)


def uneven(*shape):
    """Return weights whose output channels differ a thousandfold."""
    return np.random.default_rng(1).normal(size=shape) * np.logspace(-2, 1, shape[-1])


def branched():
    """Return a network with a concatenation that only depthwise convolutions read, an addition and a ReLU6."""
    face = keras.Input((SIDE, SIDE, 3), name="face")
    first = layers.Conv2D(4, 3, padding="same", activation="relu", name="first")(face)
    second = layers.Conv2D(4, 3, padding="same", name="second")(first)
    both = layers.Concatenate(name="both")([first, layers.ReLU(name="second_relu")(second)])
    scaled = layers.DepthwiseConv2D(1, activation="relu", name="scaled")(both)
    third = layers.Conv2D(8, 1, name="third")(scaled)
    total = layers.Add(name="total")([third, layers.Conv2D(8, 1, name="parallel")(both)])
    cut = layers.ReLU(6.0, name="cut")(layers.Conv2D(8, 1, name="fourth")(total))
    answer = layers.Dense(3, activation="softmax", name="probabilities")(layers.GlobalAveragePooling2D()(cut))
    model = keras.Model(face, answer)
    for layer in model.layers:
        if layer.weights and layer.name != "probabilities":
            kernel, bias = layer.get_weights()
            depthwise = isinstance(layer, layers.DepthwiseConv2D)
            layer.set_weights([uneven(1, 1, 8).reshape(1, 1, 8, 1) if depthwise else uneven(*kernel.shape) / 50, bias + 0.1])
    return model


def test_channels_of_an_addition_are_scaled_by_the_square_root():
    model = branched()
    equal = equalize(model, FACES)
    assert predict(equal, FACES) == pytest.approx(predict(model, FACES), abs=1e-5)
    summed = magnitudes(model, "total")
    assert magnitudes(equal, "total") == pytest.approx(summed**0.5, rel=0.05)


def test_channels_that_only_depthwise_convolutions_read_become_equal():
    face = keras.Input((SIDE, SIDE, 3))
    made = layers.Conv2D(6, 3, name="made", activation="relu")(face)
    scaled = layers.DepthwiseConv2D(3, name="scaled")(made)
    model = keras.Model(face, layers.Dense(2, activation="softmax")(layers.Flatten()(scaled)))
    model.get_layer("made").set_weights([uneven(3, 3, 3, 6), np.ones(6)])
    alive = magnitudes(model, "made") > 0.01 * magnitudes(model, "made").max()
    equal = equalize(model, FACES)
    assert alive.sum() >= 3
    assert magnitudes(equal, "made")[alive] == pytest.approx(1.0, rel=1e-3)
    assert predict(equal, FACES) == pytest.approx(predict(model, FACES), abs=1e-5)


def test_one_unusual_face_does_not_decide_the_factors():
    model = branched()
    bright = np.full((1, SIDE, SIDE, 3), 255, np.uint8)
    dark = (FACES // 16).astype(np.uint8)
    without, with_bright = equalize(model, dark), equalize(model, np.concatenate([dark, bright]))
    for layer in ("first", "third"):
        kernels = [model.get_layer(layer).get_weights()[0] for model in (without, with_bright)]
        assert kernels[1] == pytest.approx(kernels[0], rel=0.2)


def test_the_input_of_relu6_keeps_its_scale():
    model = branched()
    assert magnitudes(equalize(model, FACES), "cut") == pytest.approx(magnitudes(model, "cut"), rel=1e-4)


def float_model(model, tmp_path):
    """Return a Keras model as the float flatbuffer that the quantizer takes."""
    flat = read_flatbuffer(convert_keras(model, RECIPES["float32"], FACES[:0], tmp_path / "log"))
    add_signature(flat)
    return write_flatbuffer(flat)


@pytest.mark.parametrize("kind", ["dense", "convolution", "depthwise"])
def test_bias_correction_removes_the_mean_error_of_rounded_weights(kind, tmp_path):
    face = keras.Input((SIDE, SIDE, 3), name="face")
    kinds = {
        "dense": lambda x: layers.Dense(4, name="tested")(layers.Flatten()(x)),
        "convolution": lambda x: layers.Conv2D(4, 5, name="tested")(x),
        "depthwise": lambda x: layers.DepthwiseConv2D(5, name="tested")(x),
    }
    rng = np.random.default_rng(2)
    tested = kinds[kind](face)
    # One large weight per channel makes the steps so coarse that all others round to 0 or to a whole step.
    pooled = layers.GlobalAveragePooling2D()(tested) if kind != "dense" else tested
    model = keras.Model(face, layers.Dense(3, activation="softmax", name="probabilities")(pooled))
    kernel, bias = model.get_layer("tested").get_weights()
    kernel = rng.uniform(0.0, 0.003, kernel.shape)
    kernel[(0,) * (kernel.ndim - 2) if kind != "dense" else (0,)] = 1.0
    model.get_layer("tested").set_weights([kernel, bias])
    content = float_model(model, tmp_path)
    ranges = ai_edge.calibrate(content, FACES)

    def mean_error(correct):
        quantized = read_flatbuffer(ai_edge.quantize_int8(content, ranges, 100.0, correct=correct))
        graph = quantized.subgraphs[0]
        weighted = next(op for op in graph.operators if len(op.inputs) > 1 and graph.tensors[op.inputs[1]].type == 9)
        output = graph.tensors[weighted.outputs[0]]
        interpreter = Interpreter(model_content=write_flatbuffer(quantized), experimental_preserve_all_tensors=True)
        interpreter.allocate_tensors()
        means = []
        for pixels in FACES:
            interpreter.set_tensor(graph.inputs[0], pixels[None])
            interpreter.invoke()
            values = interpreter.get_tensor(int(weighted.outputs[0])).astype(np.float64)
            values = (values - output.quantization.zeroPoint[0]) * output.quantization.scale[0]
            means.append(values.reshape(-1, values.shape[-1]).mean(axis=0))
        return np.abs(np.mean(means, axis=0) - ranges.means[output.name.decode()]).max()

    assert mean_error(correct=True) < 0.2 * mean_error(correct=False)


def test_biases_that_share_a_buffer_are_corrected_separately(tmp_path):
    face = keras.Input((SIDE, SIDE, 3), name="face")
    x = layers.Conv2D(4, 3, activation="relu", name="one")(face)
    x = layers.Conv2D(4, 3, activation="relu", name="two")(x)
    model = keras.Model(face, layers.Dense(3, activation="softmax", name="probabilities")(layers.Flatten()(x)))
    content = float_model(model, tmp_path)
    ranges = ai_edge.calibrate(content, FACES)
    plain = read_flatbuffer(ai_edge.quantize_int8(content, ranges, 100.0, correct=False))
    biases = [tensor for tensor in plain.subgraphs[0].tensors if tensor.type == 2 and tensor.shape[0] == 4]
    assert len(biases) == 2
    biases[1].buffer = biases[0].buffer
    correct_biases(plain, read_flatbuffer(content), ranges.means)
    first, second = (np.asarray(plain.buffers[tensor.buffer].data).view(np.int32) for tensor in biases)
    assert biases[0].buffer != biases[1].buffer
    assert not np.array_equal(first, second)


def test_large_logits_do_not_coarsen_close_ones(prepared):
    # Pixels, which are integers already, and a Dense layer: only the last layer can cause an error.
    rng = np.random.default_rng(0)
    face, classes = keras.Input(prepared.folded.input.shape[1:], name="face"), prepared.folded.output.shape[1]
    pixels = layers.DepthwiseConv2D(1, activation="relu", name="pixels")(face)
    model = keras.Model(face, layers.Dense(classes, activation="softmax", name="probabilities")(layers.Flatten()(pixels)))
    faces = rng.integers(0, 256, (64, *face.shape[1:]), np.uint8)
    flat = faces.reshape(len(faces), -1)
    kernel = rng.normal(size=(flat.shape[1], classes))
    kernel *= 12 / np.ptp((flat - flat.mean(axis=0)) @ kernel, axis=1).mean()  # 12 nats from the least probable to the most
    model.get_layer("pixels").set_weights([np.ones((1, 1, 3, 1)), np.zeros(3)])
    model.get_layer("probabilities").set_weights([kernel, -flat.mean(axis=0) @ kernel])
    loud = replace(prepared, folded=model, calibration=faces)
    keras_probs = predict(model, faces)

    def divergence(quantizer):
        recipe = find_quantization_recipe("int8", quantizer)
        flatbuffer, _ = quantize(loud, recipe)
        return float(kl_divergence(keras_probs, run_flatbuffer(loud, recipe, flatbuffer, faces)).mean())

    assert divergence("ai-edge") < 0.4 * divergence("tflite")


def test_a_tensor_view_is_memory_of_the_interpreter(models):
    interpreter = open_interpreter(models["int8"])
    (face,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()
    pixels, output = tensor_view(interpreter, face["index"]), tensor_view(interpreter, answer["index"])
    pixels[...] = np.random.default_rng(0).integers(0, 256, pixels.shape)
    interpreter.invoke()
    assert np.array_equal(interpreter.get_tensor(face["index"]), pixels)
    assert np.array_equal(interpreter.get_tensor(answer["index"]), output)
    assert (pixels.dtype, output.dtype) == (np.uint8, np.uint8)


def test_loading_a_model_prints_nothing(models):
    code = "import sys; from fer_edge import Classifier; Classifier(sys.argv[1]); print('last', file=sys.stderr)"
    process = subprocess.run([sys.executable, "-c", code, models["int8"]], capture_output=True, check=True, text=True)
    assert (process.stdout, process.stderr) == ("", "last\n")


def test_a_memory_mapped_face_is_one_face(models, prepared, tmp_path):
    face = prepared.calibration[0]
    mapped = np.memmap(tmp_path / "face", np.uint8, "w+", shape=face.shape)
    mapped[...] = face
    classifier = Classifier(models["int8"])
    assert classifier.predict(mapped) == classifier.predict(face)
