"""Initial weights: ImageNet, a file, another run, or none. ImageNet's input scaling is dealt with here, once."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.contract import read_contract
from fer_edge.artifacts.run_folder import MODEL_FILE, LoadedWeights, is_run_folder, read_finished_run, read_run_record
from fer_edge.edge_runtime.find_model import bundled_models, resolve_model
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.model_source import check_no_leakage_from_run, check_no_leakage_from_tflite, is_tflite
from fer_edge.train.networks import GREY_LAYER, NETWORKS, OUTPUT_LAYER, ImageNetScaling, copy_head
from fer_edge.train.splits import Split
from fer_edge.train.tflite_weights import check_network, load_tflite_weights

if TYPE_CHECKING:
    import keras

KEYWORDS = ("auto", "imagenet", "none")


def parse_weights(values: Sequence[str], networks: Sequence[str]) -> dict[str, str]:
    """Read ``[NETWORK=]SOURCE`` values into one source per network, ``auto`` where none is given.

    Raises:
        ValueError: If a network is named that is not trained.
    """
    result = dict.fromkeys(networks, "auto")
    for value in values:
        name, equals, source = value.partition("=")
        if not equals:
            result |= dict.fromkeys(networks, value)
        elif name in result:
            result[name] = source
        else:
            raise ValueError(f"--weights names '{name}', which is not trained here; trained are: {', '.join(networks)}")
    return result


def check_source(name: str, source: str) -> None:
    """Check that a source of initial weights is there and of a kind that can fit the network.

    Raises:
        FileNotFoundError: If it is a path and does not exist.
        ModelError: If it is a .tflite file, but not of fer-edge.
        ValueError: If the network has no weights of that kind, or a .tflite file is of another one.
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
    if application is None and path.is_file() and path.suffix not in (".keras", ".tflite"):
        raise ValueError(f"'{name}' is no network of keras.applications, so {path} cannot fit it. Use --weights {name}=RUN")


def _sources() -> str:
    return (
        "auto, imagenet, none, a .h5 file of keras.applications weights, a .keras or .tflite file, a run folder, or a model "
        f"that comes with fer-edge ({', '.join(bundled_models())})"
    )


def check_no_leakage(source: str, faces: FaceDataset, split: Split) -> None:
    """Check that initial weights are not those of a run that has seen the faces which this one will be judged by.

    Args:
        source: As load_weights takes it; what is neither a run nor a .tflite file cannot be checked and passes.
        faces: The dataset.
        split: Its division.

    Raises:
        FileNotFoundError: If it is a folder without a run.
        ModelError: If it is a .tflite file, but not of fer-edge.
        ValueError: If the run was trained on validation or test faces of this split, or the .tflite file may have been.
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
    """Give a freshly built network its initial weights, in place.

    Args:
        model: A network made by build_network.
        name: Its name in NETWORKS.
        source: ``auto`` (ImageNet where it can be had, else none), ``imagenet`` (keras downloads it), ``none``, or a path.
        labels: The network's labels, in output order.
        faces: uint8 array (n, size, size, 1), grey: training faces; a .tflite file asks for them, see load_tflite_weights.

    Returns:
        What was loaded.

    Raises:
        FileNotFoundError: If the path does not exist.
        ModelError: If it is a .tflite file that cannot be read.
        ValueError: If the file does not fit the network, or ImageNet weights cannot be had.
    """
    check_source(name, source)
    if source == "none":
        return LoadedWeights("none")
    if source in ("auto", "imagenet"):
        return _load_imagenet(model, name, required=source == "imagenet")
    path = resolve_model(source)
    if is_tflite(path):
        return LoadedWeights(source, load_tflite_weights(model, path, labels, faces))
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
    except Exception as error:  # keras wraps every network failure in a bare Exception
        why = f"the ImageNet weights of {name} could not be downloaded"
        if required:
            raise ValueError(f"{why} ({error}). Give a file: --weights {name}=FILE, or --weights {name}=none") from error
        return LoadedWeights("none", note=f"{why}: starting from random weights. A local file: --weights {name}=FILE")
    _copy_backbone(model, backbone, network.scaling)
    return LoadedWeights("imagenet", (OUTPUT_LAYER,))


def _load_application(model: "keras.Model", name: str, path: Path) -> LoadedWeights:
    import keras

    network = NETWORKS[name]
    if network.application is None or network.scaling is None:  # check_source has refused it
        raise ValueError(f"'{name}' is no network of keras.applications")
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
    donor = keras.models.load_model(path, compile=False)
    ours, theirs = _weighted(model), _weighted(donor)
    if [type(layer) for layer in ours] != [type(layer) for layer in theirs]:
        if donor.name == model.name:
            raise ValueError(f"{path} holds a {model.name} as another version of fer-edge built it. Give another run")
        raise ValueError(f"{path} holds another network ('{donor.name}') than '{model.name}'. Give a run of {model.name}")
    fresh = []
    for mine, other in zip(ours, theirs, strict=True):
        if mine.name == OUTPUT_LAYER:
            kernel, bias = other.get_weights()
            copied = copy_head(model, labels, kernel, bias, _labels_of(path, labels))
        else:
            copied = [w.shape for w in mine.weights] == [w.shape for w in other.weights]
            if copied:
                mine.set_weights(other.get_weights())
        if not copied:
            fresh.append(mine.name)
    return LoadedWeights(str(path), tuple(fresh))


def _labels_of(path: Path, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return the labels of a run's model; of a .keras file alone, which tells none, those that are wanted."""
    folder = path.parent
    return read_run_record(folder).labels if is_run_folder(folder) else wanted


def _weighted(model: "keras.Model") -> list["keras.Layer"]:
    return [layer for layer in model.layers if layer.weights]


def _copy_backbone(model: "keras.Model", backbone: "keras.Model", scaling: ImageNetScaling) -> None:
    ours = [layer for layer in _weighted(model) if layer.name not in (GREY_LAYER, OUTPUT_LAYER)]
    theirs = _weighted(backbone)
    stem, rest = ours[0], ours[1:]
    grey_kernel, offset = gray_stem_weights(theirs[0].get_weights()[0], scaling)
    biases = theirs[0].get_weights()[1:]
    stem.set_weights([grey_kernel, *(bias + offset for bias in biases)])
    for mine, other in zip(rest, theirs[1:], strict=True):
        mine.set_weights(other.get_weights())
    if not biases:
        # A convolution without bias is followed by batch normalisation: its mean takes the offset.
        normalisation = rest[0]
        normalisation.moving_mean.assign(normalisation.moving_mean - offset)


def gray_stem_weights(
    kernel: npt.NDArray[np.float32], scaling: ImageNetScaling
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Turn a first convolution over scaled RGB into one over grey 0..1.

    With a grey picture g in 0..1 each channel is (255 g - mean) / std, so the kernel is a weighted sum over channels
    and the rest is an offset that holds everywhere but at the zero-padded border.

    Args:
        kernel: float32 array (height, width, 3, filters).
        scaling: The network's ImageNet scaling.

    Returns:
        The kernel (height, width, 1, filters) and the offset (filters,) to add to its result.
    """
    rgb = kernel[:, :, ::-1] if scaling.bgr else kernel
    factor = 255.0 / np.array(scaling.std)
    shift = -np.array(scaling.mean) / np.array(scaling.std)
    grey = np.einsum("hwcf,c->hwf", rgb, factor)[:, :, None]
    offset = np.einsum("hwcf,c->f", rgb, shift)
    return grey.astype(np.float32), offset.astype(np.float32)
