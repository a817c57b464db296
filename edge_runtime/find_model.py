"""Which model to take when none is named."""

from pathlib import Path


def newest_model(runs: Path = Path("runs")) -> Path:
    """Return the int8 model under ``runs`` that was written last.

    Raises:
        FileNotFoundError: If there is none.
    """
    models = list(runs.glob("**/*_int8.tflite"))
    if not models:
        raise FileNotFoundError(
            f"no int8 model under '{runs}'. Name one: --model FILE.tflite, or make one: "
            "fer-edge train cnn --data synthetic, then fer-edge convert --int8"
        )
    return max(models, key=lambda path: path.stat().st_mtime_ns)
