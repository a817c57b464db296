"""Initial weights: ImageNet, a file, another run, or none. The input scaling of ImageNet weights is handled only here."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.contract import read_contract
from fer_edge.artifacts.keras_model import load_keras_model, read_model_labels
from fer_edge.artifacts.run_folder import GRAY_LAYER, MODEL_FILE, LoadedWeights, is_run_folder, read_finished_run
from fer_edge.edge_runtime.find_model import bundled_models, resolve_model
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.gray_stem import ImageNetScaling, gray_stem_weights
from fer_edge.train.model_source import check_no_leakage_from_run, check_no_leakage_from_tflite, is_tflite
from fer_edge.train.networks import NETWORKS, OUTPUT_LAYER, copy_head
from fer_edge.train.pretrained import PRETRAINED, PRETRAINED_SUFFIX, load_pretrained
from fer_edge.train.splits import Split
from fer_edge.train.tflite_weights import check_network, load_tflite_weights

if TYPE_CHECKING:
    import keras

KEYWORDS = ("auto", "imagenet", "none")


def parse_weights(values: Sequence[str], networks: Sequence[str]) -> dict[str, str]:
    """Parse ``[NETWORK=]SOURCE`` values.

    Args:
        values: The values. A source without a network is that of all networks.
        networks: Names of the networks to be trained.

    Returns:
        The source per network; ``auto`` by default.

    Raises:
        ValueError: If a value names another network.
    """
    result = dict.fromkeys(networks, "auto")
    for value in values:
        name, equals, source = value.partition("=")
        if not equals:
            result |= dict.fromkeys(networks, value)
        elif name in result:
            result[name] = source
        else:
            raise ValueError(f"--weights names '{name}', which is not trained here; choose one of: {', '.join(networks)}")
    return result


def check_source(name: str, source: str) -> None:
    """Check that a source of initial weights exists and is of a kind that can fit the network.

    Args:
        name: Name of the network.
        source: See load_weights.

    Raises:
        FileNotFoundError: If it is a path and does not exist.
        ModelError: If it is a .tflite file that was not made by fer-edge.
        ValueError: If the network has no such weights, or a .tflite file is of another network.
    """
    if source in ("auto", "none"):
        return
    application = NETWORKS[name].application
    if source == "imagenet":
        if application is None:
            raise ValueError(f"there are no ImageNet weights for '{name}'. Use --weights {name}=none")
        return
    path = resolve_model(source)
    if not path.exists():
        raise FileNotFoundError(f"no weights at '{source}'. Give {_sources()}")
    if is_tflite(path):
        check_network(path, name)
    if path.suffix == PRETRAINED_SUFFIX and name not in PRETRAINED:
        raise ValueError(f"an .npz file can only have weights of {' or '.join(PRETRAINED)}. Received: {path} for {name}")
    if application is None and path.is_file() and path.suffix not in (".keras", ".tflite"):
        raise ValueError(f"'{name}' is not a keras.applications network, so {path} cannot fit it. Use --weights {name}=RUN")


def _sources() -> str:
    return (
        "auto, imagenet, none, a .h5 file of keras.applications weights, a .keras, .npz or .tflite file, a run folder, or a "
        f"bundled model ({', '.join(bundled_models())})"
    )


def check_no_leakage(source: str, faces: FaceDataset, split: Split) -> None:
    """Check that initial weights were not trained on faces that are held out here.

    Args:
        source: See load_weights. A source that is neither a run nor a .tflite file cannot be checked and passes.
        faces: The dataset.
        split: Its division.

    Raises:
        FileNotFoundError: If it is a folder without a finished run.
        ModelError: If it is a .tflite file that was not made by fer-edge.
        ValueError: If the run was trained on validation or test faces of this split, or its model was replaced; or if the
            .tflite file may have been trained on such faces.
    """
    path = resolve_model(source)
    if is_tflite(path):
        check_no_leakage_from_tflite(read_contract(path), f"'{path}' of --weights", faces, split)
        return
    folder = path if path.is_dir() else path.parent
    if source in KEYWORDS or not (path.is_dir() or (path.name == MODEL_FILE and is_run_folder(folder))):
        return
    check_no_leakage_from_run(read_finished_run(folder)[0], f"the run '{folder}' of --weights", faces, split)


def load_weights(
    model: "keras.Model", name: str, source: str, labels: tuple[str, ...], faces: npt.NDArray[np.uint8]
) -> LoadedWeights:
    """Set the initial weights of a new network, in place.

    Args:
        model: A network made by build_network.
        name: Its name in NETWORKS.
        source: ``auto`` (ImageNet if available, otherwise none), ``imagenet`` (Keras downloads it), ``none``, or a path.
        labels: Labels of the network, in output order.
        faces: uint8 array (n, size, size, 1), gray: training faces. A .tflite file needs them, see load_tflite_weights.

    Raises:
        FileNotFoundError: If the path does not exist.
        ModelError: If it is a .tflite file that cannot be read.
        ValueError: If the file does not fit the network, or ImageNet weights are not available.
    """
    check_source(name, source)
    if source == "none":
        return LoadedWeights("none")
    if source in ("auto", "imagenet"):
        return _load_imagenet(model, name, required=source == "imagenet")
    path = resolve_model(source)
    if is_tflite(path):
        return LoadedWeights(source, load_tflite_weights(model, path, labels, faces))
    if path.suffix == PRETRAINED_SUFFIX:
        return LoadedWeights(source, (OUTPUT_LAYER,), license=load_pretrained(model, name, path, faces))
    if path.is_dir() or path.suffix == ".keras":
        return _load_run(model, path / MODEL_FILE if path.is_dir() else path, labels)
    return _load_application(model, name, path)


def _load_imagenet(model: "keras.Model", name: str, required: bool) -> LoadedWeights:
    import keras

    network = NETWORKS[name]
    if network.application is None or network.scaling is None:
        return LoadedWeights("none")
    size = model.input_shape[1]
    try:
        backbone = getattr(keras.applications, network.application)(
            include_top=False, weights="imagenet", input_shape=(size, size, 3)
        )
    except Exception as error:  # Keras wraps every network failure in a bare Exception
        reason = f"the ImageNet weights of {name} could not be downloaded"
        if required:
            raise ValueError(f"{reason} ({error}). Give a file: --weights {name}=FILE, or --weights {name}=none") from error
        return LoadedWeights("none", note=f"{reason}: starting from random weights. A local file: --weights {name}=FILE")
    _copy_backbone(model, backbone, network.scaling)
    return LoadedWeights("imagenet", (OUTPUT_LAYER,))


def _load_application(model: "keras.Model", name: str, path: Path) -> LoadedWeights:
    import keras

    network = NETWORKS[name]
    if network.application is None or network.scaling is None:  # check_source has rejected it
        raise ValueError(f"'{name}' is not a keras.applications network")
    size = model.input_shape[1]
    backbone = getattr(keras.applications, network.application)(include_top=False, weights=None, input_shape=(size, size, 3))
    try:
        backbone.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} does not fit {name} without its top ({reason}). Give {_sources()}") from error
    _copy_backbone(model, backbone, network.scaling)
    return LoadedWeights(str(path), (OUTPUT_LAYER,))


def _load_run(model: "keras.Model", path: Path, labels: tuple[str, ...]) -> LoadedWeights:
    import keras

    if not path.is_file():
        raise FileNotFoundError(f"no finished model '{path}'. Finish that run first: fer-edge train ... --resume")
    if path.name == MODEL_FILE and is_run_folder(path.parent):
        source_labels = read_finished_run(path.parent)[0].labels
    else:
        source_labels = read_model_labels(path) or labels  # the file of an earlier version does not name its labels
    source = load_keras_model(keras, path)
    layers, source_layers = _layers_with_weights(model), _layers_with_weights(source)
    if [type(layer) for layer in layers] != [type(layer) for layer in source_layers]:
        if source.name == model.name:
            raise ValueError(f"{path} contains a {model.name} of a different version of fer-edge. Give another run")
        raise ValueError(f"{path} contains the network '{source.name}', not '{model.name}'. Give a run of {model.name}")
    reinitialized = []
    for layer, other in zip(layers, source_layers, strict=True):
        if layer.name == OUTPUT_LAYER:
            kernel, bias = other.get_weights()
            copied = copy_head(model, labels, kernel, bias, source_labels)
        else:
            copied = [w.shape for w in layer.weights] == [w.shape for w in other.weights]
            if copied:
                layer.set_weights(other.get_weights())
        if not copied:
            reinitialized.append(layer.name)
    return LoadedWeights(str(path), tuple(reinitialized))


def _layers_with_weights(model: "keras.Model") -> list["keras.Layer"]:
    return [layer for layer in model.layers if layer.weights]


def _copy_backbone(model: "keras.Model", backbone: "keras.Model", scaling: ImageNetScaling) -> None:
    stem, *rest = [layer for layer in _layers_with_weights(model) if layer.name not in (GRAY_LAYER, OUTPUT_LAYER)]
    source_stem, *source_rest = _layers_with_weights(backbone)
    kernel, *biases = source_stem.get_weights()
    gray_kernel, offset = gray_stem_weights(kernel, scaling)
    stem.set_weights([gray_kernel, *(bias + offset for bias in biases)])
    for layer, other in zip(rest, source_rest, strict=True):
        layer.set_weights(other.get_weights())
    if not biases:
        # A convolution without bias is followed by batch normalization, whose mean absorbs the offset.
        norm = rest[0]
        norm.moving_mean.assign(norm.moving_mean - offset)
