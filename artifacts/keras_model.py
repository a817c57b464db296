"""model.keras: stored with its labels inside, and loaded in one way only: checked first, and never running code of the file."""

import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fer_edge.artifacts.training_data import check_labels

LABELS_MEMBER = "fer_edge_labels.json"  # Keras ignores members that it does not know
CONFIG_MEMBER = "config.json"
MAX_CONFIG_BYTES = 64_000_000  # DenseNet121 has 0.4 MB
# The modules of everything that a network of fer-edge consists of. Code ran through functions of keras.utils and keras.config.
MODULES = (None, "keras", "keras.layers", "keras.initializers", "keras.regularizers", "keras.src.models.functional")
CODE_LAYERS = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")


def write_keras_model(model: Any, path: Path, labels: Sequence[str]) -> None:
    """Write a Keras model together with the labels of its outputs.

    Args:
        model: The keras.Model.
        path: The .keras file.
        labels: Label names in output order.
    """
    model.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(LABELS_MEMBER, json.dumps(list(labels)))


def read_model_labels(path: Path) -> tuple[str, ...] | None:
    """Return the labels that write_keras_model stored in a .keras file; None in a file without.

    Args:
        path: The .keras file.

    Raises:
        ValueError: If the file is damaged.
    """
    text = _read_member(path, LABELS_MEMBER)
    if text is None:
        return None
    try:
        labels = json.loads(text)
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ValueError("the labels in it are not a list of texts")
        check_labels(labels)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}). Train again, or copy the file again") from error
    return tuple(labels)


def load_keras_model(keras: Any, path: Path, labels: Sequence[str] | None = None, image_size: int | None = None) -> Any:
    """Load a .keras file. Nothing in it is run: it may consist of the layers of Keras only.

    Args:
        keras: The module keras. This package does not import it.
        path: The .keras file.
        labels: Label names of the outputs; None if they are not known.
        image_size: Side of the input, pixels; None if it is not known.

    Returns:
        The keras.Model, not compiled.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, contains code, or does not fit the labels or the image size.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no Keras model '{path}'. Train one: fer-edge train")
    _check_no_code(path)
    try:
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a damaged file makes Keras and h5py raise exceptions of many kinds
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path} cannot be loaded ({reason}). Train again, or copy the file again") from error
    if labels is not None and model.output_shape != (None, len(labels)):
        raise ValueError(f"{path} has outputs of shape {model.output_shape}, but there are {len(labels)} labels. Train again")
    if image_size is not None and model.input_shape != (None, image_size, image_size, 3):
        raise ValueError(
            f"{path} has inputs of shape {model.input_shape}, but run.json names an image size of {image_size}. Train again"
        )
    return model


def _check_no_code(path: Path) -> None:
    """Check that a .keras file names only layers and parts of layers, before Keras imports them."""
    text = _read_member(path, CONFIG_MEMBER)
    try:
        entries = list(_objects(json.loads(text or b"")))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: its {CONFIG_MEMBER} cannot be read ({error}). Train again") from error
    for entry in entries:
        module, name = entry.get("module"), entry["class_name"]
        if module not in MODULES or name in CODE_LAYERS:
            raise ValueError(
                f"{path} contains {f'{module}.{name}'[:80]!a}, which can run code. The file was not loaded: no model of "
                "fer-edge contains it. Use models that fer-edge trained, from people you trust"
            )


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all parts of a configuration that name a class."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        for part in value.values():
            yield from _objects(part)
    elif isinstance(value, list):
        for part in value:
            yield from _objects(part)


def _read_member(path: Path, name: str) -> bytes | None:
    """Return the content of a member of a zip; None if it has no such member."""
    try:
        with zipfile.ZipFile(path) as archive:
            if name not in archive.namelist():
                return None
            if archive.getinfo(name).file_size > MAX_CONFIG_BYTES:
                raise ValueError(f"{name} in it has more than {MAX_CONFIG_BYTES:,} bytes")
            return archive.read(name)
    except (ValueError, OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}). Train again, or copy the file again") from error
