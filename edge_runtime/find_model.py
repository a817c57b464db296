"""Find the model file that a name refers to."""

import re
from pathlib import Path

from fer_edge.models import FOLDER as BUNDLED_FOLDER

RUNS_FOLDER = Path("runs")
DEFAULT_NETWORK = "cnn_nano"
# What the name of a network alone stands for, the preferred first: models of the FER+ votes agree with more people.
DATA_ORDER = ("ferplus", "fer2013")
BUNDLED_SUFFIX = "_int8"
# Files for NPUs, which have the target at the end, such as cnn_nano_fer2013_int8_ethos-u55-128.tflite.
NPU_FILE = re.compile(r".*_(qualcomm|ethos-u\d+)-[^_]+\.tflite")


def find_model(model: str | Path | None = None) -> Path:
    """Return the path of a model file.

    Args:
        model: One of:

            - a file
            - a folder: the newest int8 model in it or its subfolders
            - the name of a bundled model, see ``find_bundled``, unless a file or folder has that name
            - None: the newest int8 model in the folder ``runs``, otherwise the bundled default

    Raises:
        FileNotFoundError: If no such model exists.
    """
    if model is None:
        return _newest(RUNS_FOLDER) or default_model()
    path = resolve_model(model)
    if path.is_dir():
        newest = _newest(path)
        if newest is None:
            raise FileNotFoundError(f"no int8 model under '{path}'. Name a file, or create one: fer-edge convert RUN --int8")
        return newest
    if not path.exists():
        raise FileNotFoundError(
            f"no model file '{model}'. Create one with fer-edge convert RUN --int8, or choose a bundled model: "
            f"{', '.join(bundled_models())}"
        )
    return path


def bundled_models() -> dict[str, Path]:
    """Return the model files in the installed package by ``<network>_<data>``, such as ``cnn_nano_ferplus``, sorted."""
    return {path.stem.removesuffix(BUNDLED_SUFFIX): path for path in sorted(BUNDLED_FOLDER.glob(f"*{BUNDLED_SUFFIX}.tflite"))}


def find_bundled(name: str) -> Path | None:
    """Return the bundled model of a name, None if there is none.

    Args:
        name: A network, such as ``cnn_nano``: its model trained on FER+ votes if there is one, otherwise on FER2013; or a
            network and its data, ``cnn_nano_fer2013``; or the same with the precision, ``cnn_nano_fer2013_int8``.
    """
    models = bundled_models()
    stem = name.removesuffix(BUNDLED_SUFFIX)
    return next((models[key] for key in (stem, *(f"{name}_{data}" for data in DATA_ORDER)) if key in models), None)


def default_model() -> Path:
    """Return the bundled model that is used if the user names none.

    Raises:
        FileNotFoundError: If the package contains no model of the default network: the installation is damaged.
    """
    path = find_bundled(DEFAULT_NETWORK)
    if path is None:
        raise FileNotFoundError(f"no {DEFAULT_NETWORK} model in '{BUNDLED_FOLDER}'. Install fer-edge again, or name a model")
    return path


def resolve_model(source: str | Path) -> Path:
    """Return the bundled model if ``source`` is its name and no such path exists, otherwise ``source`` as a path."""
    path = Path(source)
    return path if path.exists() else find_bundled(str(source)) or path


def _newest(folder: Path) -> Path | None:
    files = (path for path in folder.rglob("*_int8*.tflite") if not NPU_FILE.fullmatch(path.name))
    return max(files, key=lambda path: path.stat().st_mtime_ns, default=None)
