from dataclasses import replace

import numpy as np
import pytest

from fer_edge.artifacts.conversion import FineTuning
from fer_edge.artifacts.gate import Thresholds
from fer_edge.convert import fine_tune as module
from fer_edge.convert.convert_run import convert_run
from fer_edge.convert.fine_tune import fine_tune, plan_fine_tuning
from fer_edge.convert.flatbuffer import operators, read_flatbuffer
from fer_edge.convert.prepare_run import predict
from fer_edge.convert.quantization_recipes import find_quantization_recipe
from fer_edge.convert.quantize import quantize
from fer_edge.convert.sensitivity import check_layers, find_keep_float, weighted_layers
from fer_edge.convert.tf_keras_copy import to_tf_keras
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.interpreter import open_interpreter


def test_a_network_that_is_not_folded_is_rejected_with_the_cause(prepared):
    with pytest.raises(ValueError, match=r"BatchNormalization.*must be folded into convolutions first"):
        to_tf_keras(prepared.model)


def test_quantization_aware_training_keeps_the_network_and_its_outputs(prepared):
    plan = FineTuning("qat", None, epochs=1, learning_rate=1e-4)
    tuned = fine_tune(prepared.folded, prepared.calibration[:32], plan)
    before, after = predict(prepared.folded, prepared.held_out), predict(tuned, prepared.held_out)
    assert [layer.name for layer in tuned.layers] == [layer.name for layer in prepared.folded.layers]
    assert np.abs(before - after).max() < 0.01
    assert np.abs(before - after).max() > 0


def test_pruning_sets_a_percentage_of_the_weights_of_inner_layers_to_zero(prepared):
    tuned = fine_tune(prepared.folded, prepared.calibration[:64], FineTuning("pruned", 60, epochs=4, learning_rate=1e-3))
    first, *inner, last = [layer.get_weights()[0] for layer in tuned.layers if layer.weights]
    assert [(kernel == 0).mean() for kernel in inner] == pytest.approx([0.6] * len(inner), abs=0.03)
    assert (first != 0).all() and (last != 0).all()


def test_layers_with_small_and_large_weights_change_by_similar_fractions(prepared):
    tuned = fine_tune(prepared.folded, prepared.calibration[:64], FineTuning("qat", None, epochs=1, learning_rate=1e-3))
    pairs = [
        (layer.get_weights()[0], tuned.get_layer(layer.name).get_weights()[0])
        for layer in prepared.folded.layers
        if layer.weights
    ]
    sizes = [np.sqrt(np.square(before).mean()) for before, _ in pairs]
    changes = [np.sqrt(np.square(after - before).mean()) / size for (before, after), size in zip(pairs, sizes, strict=True)]
    assert sizes[0] < 0.1 * sizes[1]  # it reads bytes
    assert max(changes) < 5 * min(changes)


def test_clustering_leaves_few_distinct_weights(prepared):
    tuned = fine_tune(prepared.folded, prepared.calibration[:32], FineTuning("clustered", 16, epochs=1, learning_rate=1e-5))
    for layer in tuned.layers:
        if layer.weights:
            assert len(np.unique(layer.get_weights()[0])) <= 16


def test_a_training_that_diverges_is_stopped(prepared):
    with pytest.raises(RuntimeError, match=r"fine-tuning diverged .* and was stopped"):
        fine_tune(prepared.folded, prepared.calibration[:64], FineTuning("qat", None, epochs=3, learning_rate=1e3))


def test_only_the_last_epoch_and_nan_count_as_divergence(prepared):
    tf_keras = module.import_tf_keras()
    monitor = module._divergence_monitor(tf_keras, constant_loss=1.0, epochs=2, steps=1, progress=None)
    monitor.set_model(to_tf_keras(prepared.folded))
    monitor.on_epoch_end(0, {"loss": 3.0})  # the sparsity still grows
    assert monitor.diverged is None
    monitor.on_epoch_end(1, {"loss": 1.5})
    assert monitor.diverged == "1.500"
    late = module._divergence_monitor(tf_keras, constant_loss=1.0, epochs=1, steps=1, progress=None)
    late.set_model(to_tf_keras(prepared.folded))
    late.model.set_weights([np.full_like(weight, np.nan) for weight in late.model.get_weights()])
    late.on_train_end()
    assert late.diverged == "nan"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((True, 50, None, 3), "one fine-tuning at a time. Received: --qat and --prune"),
        ((False, 100, None, 3), "between 0 and 100. Received: 100"),
        ((False, None, 1, 3), "at least 2 distinct weights. Received: 1"),
        ((True, None, None, 0), "at least one epoch. Received: --epochs 0"),
    ],
)
def test_options_out_of_range_are_rejected(options, message):
    with pytest.raises(ValueError, match=message):
        plan_fine_tuning(*options)


def test_missing_packages_are_named_with_the_extra(monkeypatch, prepared):
    import sys

    monkeypatch.setitem(sys.modules, "tensorflow_model_optimization", None)
    with pytest.raises(ImportError, match=r"pip install 'fer-edge\[convert\]'"):
        module._import_optimization()
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(ImportError, match=r"pip install 'fer-edge\[convert\]'"):
        to_tf_keras(prepared.folded)
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
    with pytest.raises(ImportError, match=r"pip install 'fer-edge\[convert\]', or use TensorFlow's own: --quantizer tflite"):
        quantize(prepared, find_quantization_recipe("int8"))


@pytest.mark.parametrize("kept", [("block1_conv_a",), ("block2_conv_b", "fc")])
def test_layers_kept_in_float_compute_in_float_and_the_interface_stays_bytes(prepared, kept):
    (result,) = convert_run(prepared, [find_quantization_recipe("int8", keep_float=kept)], Thresholds(100, 100, 0))
    assert result.path.name == "cnn_synthetic_int8-mixed.tflite"
    assert result.contract.quantization.recipe.keep_float == kept
    _, floats, _ = operators(read_flatbuffer(result.path.read_bytes()))
    assert floats["CONV_2D"] + floats["FULLY_CONNECTED"] == len(kept) + 1  # the last layer always does
    (face,) = open_interpreter(result.path).get_input_details()
    assert (face["dtype"], face["quantization"]) == (np.uint8, (1.0, 0))
    tflite_probs = np.stack([Classifier(result.path).probabilities(face) for face in prepared.held_out])
    assert np.abs(tflite_probs - prepared.keras_probs).max() < 0.1


def test_unknown_layers_are_rejected_with_those_that_exist(prepared):
    with pytest.raises(ValueError, match="no layer with weights is called conv9; choose among: block1_conv_a"):
        check_layers(prepared.folded, ["conv9"])


def test_auto_keeps_the_layer_float_that_int8_breaks(prepared):
    import keras

    # One huge output channel spoils the range of all others, but only in int8.
    folded = keras.models.clone_model(prepared.folded)
    folded.set_weights(prepared.folded.get_weights())
    kernel, bias = folded.get_layer("fc").get_weights()
    kernel[:, 0], bias[0] = 0, 3e4
    folded.get_layer("fc").set_weights([kernel, bias])
    kernel, bias = folded.get_layer("probabilities").get_weights()
    kernel[0] = 0
    folded.get_layer("probabilities").set_weights([kernel, bias])
    kept, sensitivities = find_keep_float(replace(prepared, folded=folded), find_quantization_recipe("int8"), Thresholds())
    assert set(sensitivities) == set(weighted_layers(folded)[:-1])
    assert kept == ("fc",)
