"""Which model file is meant."""

from pathlib import Path

DEFAULT_FOLDER = Path("runs")


def find_model(model: Path | None = None) -> Path:
    """Return a model file: ``model`` itself, or the int8 model below a folder that was written last.

    Args:
        model: A file, a folder, or None for the folder ``runs``.

    Raises:
        FileNotFoundError: If the folder holds no int8 model.
    """
    if model is not None and not model.is_dir():
        return model
    folder = model or DEFAULT_FOLDER
    models = list(folder.rglob("*_int8*.tflite"))
    if not models:
        raise FileNotFoundError(
            f"no int8 model under '{folder}'. Name one: --model FILE.tflite, or make one: "
            "fer-edge train cnn --data synthetic, then fer-edge convert --int8"
        )
    return max(models, key=lambda path: path.stat().st_mtime_ns)
