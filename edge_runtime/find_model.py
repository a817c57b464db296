"""Find the model file that a name refers to."""

from pathlib import Path

from fer_edge.models import FOLDER as BUNDLED_FOLDER

RUNS_FOLDER = Path("runs")
DEFAULT_NETWORK = "cnn_nano"


def find_model(model: str | Path | None = None) -> Path:
    """Return the path of a model file.

    Args:
        model: One of:

            - a file
            - a folder: the newest int8 model in it or its subfolders
            - the name of a bundled network (``cnn_nano``, ``mobilenet_v2``), unless a file or folder has that name
            - None: the newest int8 model in the folder ``runs``, otherwise the bundled default

    Raises:
        FileNotFoundError: If no such model exists.
    """
    if model is None:
        return _newest(RUNS_FOLDER) or bundled_models()[DEFAULT_NETWORK]
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
    """Return the model files in the installed package by network name."""
    return {path.name.partition("_fer2013")[0]: path for path in sorted(BUNDLED_FOLDER.glob("*_fer2013_int8.tflite"))}


def resolve_model(source: str | Path) -> Path:
    """Return the bundled model if ``source`` is its network name and no such path exists, otherwise ``source`` as a path."""
    path = Path(source)
    return path if path.exists() else bundled_models().get(str(source), path)


def _newest(folder: Path) -> Path | None:
    return max(folder.rglob("*_int8*.tflite"), key=lambda path: path.stat().st_mtime_ns, default=None)
