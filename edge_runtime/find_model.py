"""Which model file is meant."""

from pathlib import Path

from fer_edge.models import FOLDER as SHIPPED

OWN_MODELS = Path("runs")
DEFAULT_NETWORK = "cnn_nano"


def find_model(model: str | Path | None = None) -> Path:
    """Return a model file.

    Args:
        model: A file; a folder: the int8 model below it that was written last; the name of a network that comes with
            fer-edge (``cnn_nano``, ``mobilenet_v2``), where nothing else is called so; None for the newest int8 model of the
            folder ``runs``, else the default that comes with fer-edge.

    Raises:
        FileNotFoundError: If there is no such model.
    """
    if model is None:
        return _newest(OWN_MODELS) or bundled_models()[DEFAULT_NETWORK]
    path = resolve_model(model)
    if path.is_dir():
        newest = _newest(path)
        if newest is None:
            raise FileNotFoundError(f"no int8 model under '{path}'. Name a file, or make one: fer-edge convert --int8")
        return newest
    if not path.exists():
        raise FileNotFoundError(
            f"no model file '{model}'. Make one: fer-edge convert RUN --int8; or take one that comes with fer-edge: "
            f"{', '.join(bundled_models())}"
        )
    return path


def bundled_models() -> dict[str, Path]:
    """Return the models that are part of the installed package, by the names of their networks."""
    return {path.name.partition("_fer2013")[0]: path for path in sorted(SHIPPED.glob("*_fer2013_int8.tflite"))}


def resolve_model(source: str | Path) -> Path:
    """Return the model that comes with fer-edge where ``source`` is its network's name and nothing else is called so.

    Anything else comes back as it is, whether it exists or not.
    """
    path = Path(source)
    return path if path.exists() else bundled_models().get(str(source), path)


def _newest(folder: Path) -> Path | None:
    return max(folder.rglob("*_int8*.tflite"), key=lambda path: path.stat().st_mtime_ns, default=None)
