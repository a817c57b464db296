"""The run folder of a detector, from which it is converted. Its format is defined here only.

It contains ``detector.json``, ``model.keras``, ``validation.npz`` (scenes with faces, for the gate) and ``calibration.npz``
(training scenes, for int8). A checkpoint and the packed sources are there too: the training can be continued from them.
"""

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_path, atomic_write
from fer_edge.artifacts.detector_contract import DataSource, DetectionScores
from fer_edge.artifacts.run_folder import DETECTOR_RUN_FILE
from fer_edge.artifacts.training_data import check_name, check_range
from fer_edge.artifacts.typed_json import from_data, to_data

DETECTOR_RUN_VERSION = 1
DETECTOR_MODEL_FILE = "model.keras"
VALIDATION_FILE = "validation.npz"
DETECTOR_CALIBRATION_FILE = "calibration.npz"


@dataclass(frozen=True)
class SceneMix:
    """Shares of the kinds of scenes, 0..1. The rest has 0 to 4 faces blended into a background.

    Attributes:
        close: One face or head that fills the scene.
        photo: A part of a photo with annotated faces.
        person: A head on a piece of clothing.
        hard: Share of the backgrounds taken from mined false detections.

    Raises:
        ValueError: If a share is not 0..1, or the first three are more than 1 together.
    """

    close: float = 0.24
    photo: float = 0.16
    person: float = 0.14
    hard: float = 0.3

    def __post_init__(self) -> None:
        for name, share in vars(self).items():
            check_range(f"the share {name} of the scenes", share, (0.0, 1.0))
        check_range(
            "the shares close, photo and person of the scenes together", self.close + self.photo + self.person, (0.0, 1.0)
        )


@dataclass(frozen=True)
class DetectorPlan:
    """The settings of a detector's training.

    Attributes:
        network: Name of the network.
        height: Height of its input, pixels.
        width: Width of its input, pixels.
        strides: Pixels of the input per cell, one per heat map.
        epochs: Number of epochs.
        scenes_per_epoch: Number of scenes in an epoch.
        shards: A scene is seen in this many epochs; in each, one part of the scenes is new.
        batch_size: Scenes per step.
        learning_rate: Highest learning rate. It rises over the first epoch and decays to 2 % of it (cosine).
        weight_decay: Weight decay of AdamW.
        seed: Seed of weights, scenes and order.
        mix: Shares of the kinds of scenes.

    Raises:
        ValueError: If a number is out of range.
    """

    network: str
    height: int
    width: int
    strides: tuple[int, ...]
    epochs: int = 40
    scenes_per_epoch: int = 20_000
    shards: int = 4
    batch_size: int = 16
    learning_rate: float = 4e-3
    weight_decay: float = 1e-4
    seed: int = 0
    mix: SceneMix = field(default_factory=SceneMix)

    def __post_init__(self) -> None:
        check_name("the network of a detector", self.network)
        check_range("the epochs of a detector", self.epochs, (1, 100_000))
        check_range("the batch size of a detector", self.batch_size, (1, 4096))
        check_range("the shards of a detector", self.shards, (1, 64))
        check_range("the scenes per epoch of a detector", self.scenes_per_epoch, (self.batch_size * self.shards, 10**7))
        check_range("the learning rate of a detector", self.learning_rate, (1e-7, 1.0))


@dataclass(frozen=True)
class DetectorEpoch:
    """The results of one epoch.

    Attributes:
        loss: Mean loss of the training scenes.
        scores: Results on the validation scenes, one look, logits from 0.
        seconds: Its wall time, seconds.
    """

    loss: float
    scores: DetectionScores
    seconds: float


@dataclass(frozen=True)
class DetectorRun:
    """The content of detector.json.

    Attributes:
        plan: The settings.
        data: The training images.
        parameters: Number of weights.
        multiply_adds: Multiply-add operations per look.
        hard_backgrounds: Number of mined false detections among the backgrounds.
        history: Results per epoch.
        model_digest: sha256 of model.keras.
        command: The last command that trained it.
        versions: Versions of the programs.
    """

    plan: DetectorPlan
    data: tuple[DataSource, ...]
    parameters: int
    multiply_adds: int
    hard_backgrounds: int
    history: tuple[DetectorEpoch, ...]
    model_digest: str
    command: tuple[str, ...]
    versions: dict[str, str]
    detector_run_version: int = DETECTOR_RUN_VERSION


@dataclass(frozen=True)
class SceneSet:
    """Drawn scenes with their faces.

    Attributes:
        images: uint8 array (n, height, width), gray.
        faces: float32 array (faces, 3): center x and y, side, pixels.
        face_counts: Number of faces of each scene, int64 array (n,).
        ignored: float32 array (regions, 4): x, y, width, height of regions that may show a face, pixels.
        ignored_counts: Number of these regions of each scene, int64 array (n,).
    """

    images: npt.NDArray[np.uint8]
    faces: npt.NDArray[np.float32]
    face_counts: npt.NDArray[np.int64]
    ignored: npt.NDArray[np.float32]
    ignored_counts: npt.NDArray[np.int64]

    def faces_of(self) -> list[npt.NDArray[np.float32]]:
        """Return the faces of each scene, float32 arrays (n, 3)."""
        return np.split(self.faces, np.cumsum(self.face_counts)[:-1])

    def ignored_of(self) -> list[npt.NDArray[np.float32]]:
        """Return the regions to ignore of each scene, float32 arrays (n, 4)."""
        return np.split(self.ignored, np.cumsum(self.ignored_counts)[:-1])


def write_scene_set(path: Path, scenes: SceneSet) -> None:
    """Write scenes to a compressed .npz file.

    Args:
        path: The file.
        scenes: The scenes.

    Raises:
        OSError: If it cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **vars(scenes))


def read_scene_set(path: Path) -> SceneSet:
    """Read scenes that write_scene_set wrote.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged.
    """
    try:
        with np.load(path) as content:
            scenes = SceneSet(**dict(content))
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"the scenes in {path} cannot be read ({error}). Train the detector again") from error
    fits = len(scenes.images) == len(scenes.face_counts) == len(scenes.ignored_counts)
    if not fits or scenes.face_counts.sum() != len(scenes.faces) or scenes.ignored_counts.sum() != len(scenes.ignored):
        raise ValueError(f"the scenes in {path} do not fit their faces. Train the detector again")
    return scenes


def is_detector_run(folder: Path) -> bool:
    """Return whether a folder is the run folder of a detector."""
    return (folder / DETECTOR_RUN_FILE).is_file()


def write_detector_run(folder: Path, run: DetectorRun) -> None:
    """Write detector.json.

    Args:
        folder: The run folder.
        run: Its content.

    Raises:
        OSError: If it cannot be written.
    """
    atomic_write(folder / DETECTOR_RUN_FILE, json.dumps(to_data(run), indent=1) + "\n")


def read_detector_run(folder: Path) -> DetectorRun:
    """Read detector.json.

    Args:
        folder: The run folder.

    Raises:
        FileNotFoundError: If the folder has none.
        ValueError: If it is damaged.
    """
    path = folder / DETECTOR_RUN_FILE
    if not path.is_file():
        raise FileNotFoundError(f"'{folder}' is not the run folder of a detector: it has no {DETECTOR_RUN_FILE}")
    try:
        return from_data(DetectorRun, json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}). Train the detector again") from error
