"""Read a run folder that training wrote."""

import hashlib
import json
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.edge_runtime.images import Image

MODEL_FILE = "model.keras"
RUN_FILE = "run.json"
CALIBRATION_FILE = "calibration.npz"
HELD_OUT_FILE = "held_out.npz"


@dataclass(frozen=True)
class StoredFaces:
    """Faces that travel in a run folder.

    Attributes:
        images: uint8 arrays (height, width), grey, or (height, width, 3), RGB.
        targets: int64 array (n,), indices into the run's labels.
    """

    images: tuple[Image, ...]
    targets: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes:
        folder: Where it lies.
        facts: The content of run.json.
        calibration: Distinct training faces for quantisation.
        held_out: Test faces, for measuring what conversion costs.
    """

    folder: Path
    facts: dict[str, Any]
    calibration: StoredFaces
    held_out: StoredFaces

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in output order."""
        return tuple(self.facts["labels"])

    @property
    def model_path(self) -> Path:
        """The Keras model."""
        return self.folder / MODEL_FILE


def newest_run(runs: Path) -> Path:
    """Return the finished run under ``runs`` that was written last.

    Raises:
        FileNotFoundError: If there is none.
    """
    finished = [path.parent for path in runs.glob(f"*/{RUN_FILE}") if (path.parent / MODEL_FILE).is_file()]
    if not finished:
        raise FileNotFoundError(
            f"no finished run under '{runs}'. Train one: fer-edge train cnn --data synthetic; or name one: fer-edge convert RUN"
        )
    return max(finished, key=lambda folder: ((folder / RUN_FILE).stat().st_mtime_ns, folder.name))


def read_run(folder: str | Path) -> Run:
    """Read a run folder and check that it is whole.

    Raises:
        FileNotFoundError: If it is no run folder, or the run was not finished.
        ValueError: If one of its files is damaged, or the model is not the one that the run finished with.
    """
    path = Path(folder)
    if not (path / RUN_FILE).is_file():
        raise FileNotFoundError(f"'{path}' is no run folder: it has no {RUN_FILE}. Train one: fer-edge train")
    try:
        facts = json.loads((path / RUN_FILE).read_text(encoding="utf-8"))
        finished, expected = bool(facts["finished"]), facts.get("model_digest")
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path / RUN_FILE} is damaged ({error!r}). Train again") from error
    if not finished or not (path / MODEL_FILE).is_file():
        raise FileNotFoundError(f"the run in '{path}' has no finished model. Finish it: fer-edge train ... --resume")
    digest = hashlib.sha256((path / MODEL_FILE).read_bytes()).hexdigest()
    if digest != expected:
        raise ValueError(
            f"{path / MODEL_FILE} is not the model this run finished with: it is damaged or was replaced. Train again"
        )
    return Run(path, facts, _read_faces(path / CALIBRATION_FILE), _read_faces(path / HELD_OUT_FILE))


def _read_faces(path: Path) -> StoredFaces:
    try:
        with np.load(path) as content:
            targets = content["targets"]
            images = (
                content["images"] if "images" in content.files else [content[f"image_{k:05d}"] for k in range(len(targets))]
            )
            return StoredFaces(tuple(images), targets)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the run folder lacks {path.name}. Train again, or copy the whole folder") from error
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}). Train again, or copy the run folder again") from error
