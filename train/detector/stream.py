"""Scenes and their targets, drawn by worker processes. The same seed draws the same scenes, also after a restart."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.detector_run import DetectorPlan, SceneSet
from fer_edge.edge_runtime.images import Image, import_cv2
from fer_edge.train.detector.scenes import Scene, SceneArtist
from fer_edge.train.detector.sources import load_sources
from fer_edge.train.detector.targets import TARGET_CHANNELS, draw_targets, flip_targets

CHUNK = 250  # scenes per task of a worker
SOURCES_FOLDER = "sources"
HARD_FILE = "hard.npz"
VALIDATION_SEED, CALIBRATION_SEED = 10**6, 2 * 10**6  # in place of a shard's number

Maps = list[npt.NDArray[np.floating]]
Shard = tuple[npt.NDArray[np.uint8], Maps]

_artist: SceneArtist  # of a worker process


@dataclass(frozen=True)
class _Task:
    seed: tuple[int, ...]
    count: int
    size: tuple[int, int]
    strides: tuple[int, ...]


def open_artist(folder: Path, plan: DetectorPlan, validation: bool = False) -> SceneArtist:
    """Return an artist for the packed sources and the mined backgrounds of a run folder.

    Args:
        folder: The run folder.
        plan: The settings.
        validation: Whether to use the images kept for validation.
    """
    hard = () if validation else read_hard(folder)
    size = (plan.height, plan.width)
    return SceneArtist(load_sources(folder / SOURCES_FOLDER), size, validation, plan.mix, hard)


def read_hard(folder: Path) -> tuple[Image, ...]:
    """Return the mined backgrounds of a run folder; none before mining."""
    path = folder / HARD_FILE
    if not path.is_file():
        return ()
    with np.load(path) as content:
        pixels, sizes = content["pixels"], content["sizes"]
    ends = np.cumsum(sizes.prod(axis=1))
    return tuple(part.reshape(size) for part, size in zip(np.split(pixels, ends[:-1]), sizes, strict=True))


def _start_worker(folder: Path, plan: DetectorPlan) -> None:
    global _artist
    import_cv2().setNumThreads(1)
    _artist = open_artist(folder, plan)


def _draw(task: _Task) -> Shard:
    rng = np.random.default_rng(task.seed)
    images = np.empty((task.count, *task.size), np.uint8)
    targets: Maps = [
        np.empty((task.count, task.size[0] // stride, task.size[1] // stride, TARGET_CHANNELS), np.float16)
        for stride in task.strides
    ]
    for index in range(task.count):
        scene = _artist.draw(rng)
        images[index] = scene.image
        for target, drawn in zip(targets, scene_targets(scene, task.size, task.strides), strict=True):
            target[index] = drawn
    return images, targets


def scene_targets(scene: Scene, size: tuple[int, int], strides: Sequence[int]) -> list[npt.NDArray[np.float32]]:
    """Return the target maps of a scene, one per stride.

    Args:
        scene: The scene.
        size: Height and width of the scene, pixels.
        strides: Pixels per cell, one per map.
    """
    faces = np.array(scene.faces, np.float32).reshape(-1, 7)
    return draw_targets(faces, np.array(scene.ignored, np.float32).reshape(-1, 4), scene.visible, size, strides)


def draw_scene_set(artist: SceneArtist, count: int, seed: tuple[int, ...]) -> SceneSet:
    """Draw scenes for validation or calibration. Faces that are mostly outside of the scene are ignored.

    Args:
        artist: The artist.
        count: Number of scenes.
        seed: Seed.
    """
    rng = np.random.default_rng(seed)
    images, faces, ignored = [], [], []
    for _ in range(count):
        scene = artist.draw(rng)
        images.append(scene.image.astype(np.uint8))
        rows = np.array(scene.faces, np.float32).reshape(-1, 7)[:, :3]
        left, top, width, height = scene.visible
        centered = (rows[:, :2] > [left, top]).all(axis=1) & (rows[:, :2] < [left + width, top + height]).all(axis=1)
        outside = rows[~centered]
        faces.append(rows[centered])
        boxes = np.column_stack([outside[:, :2] - outside[:, 2:] / 2, outside[:, 2], outside[:, 2]])
        ignored.append(np.concatenate([np.array(scene.ignored, np.float32).reshape(-1, 4), boxes]).astype(np.float32))
    return SceneSet(
        np.array(images),
        np.concatenate(faces),
        np.array([len(rows) for rows in faces]),
        np.concatenate(ignored),
        np.array([len(rows) for rows in ignored]),
    )


class SceneStream:
    """The training scenes of each epoch. Use it as a context manager: it owns worker processes.

    Args:
        folder: The run folder.
        plan: The settings.
        workers: Number of worker processes.
    """

    def __init__(self, folder: Path, plan: DetectorPlan, workers: int) -> None:
        self._plan = plan
        self._shards: dict[int, list[Future[Shard]]] = {}
        # Not forked: the parent has started Keras.
        self._pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_start_worker, initargs=(folder, plan))

    def __enter__(self) -> "SceneStream":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def epoch(self, number: int) -> Shard:
        """Return the scenes of an epoch, from 0: the shards of its window. The next shard is drawn meanwhile.

        Args:
            number: The epoch.
        """
        window = range(number, number + self._plan.shards)
        for shard in [*self._shards]:
            if shard not in window:
                del self._shards[shard]
        for shard in range(number, number + self._plan.shards + 1):
            if shard not in self._shards:
                self._shards[shard] = self._submit(shard)
        parts = [future.result() for shard in window for future in self._shards[shard]]
        maps = range(len(self._plan.strides))
        return np.concatenate([part[0] for part in parts]), [np.concatenate([part[1][k] for part in parts]) for k in maps]

    def _submit(self, shard: int) -> list[Future[Shard]]:
        plan = self._plan
        count = plan.scenes_per_epoch // plan.shards
        sizes = [min(CHUNK, count - start) for start in range(0, count, CHUNK)]
        size = (plan.height, plan.width)
        tasks = [_Task((plan.seed, shard, part), number, size, plan.strides) for part, number in enumerate(sizes)]
        return [self._pool.submit(_draw, task) for task in tasks]


def batches(shard: Shard, batch_size: int, seed: tuple[int, ...]) -> Iterator[Shard]:
    """Yield the batches of an epoch in random order, half of them mirrored. An incomplete batch is left out.

    Args:
        shard: The scenes of the epoch.
        batch_size: Scenes per batch.
        seed: Seed of the order.

    Yields:
        float32 images (batch, height, width, 1) and target maps (batch, rows, columns, 11).
    """
    images, targets = shard
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))
    for start in range(0, len(order) - batch_size + 1, batch_size):
        rows = order[start : start + batch_size]
        chosen, maps = images[rows], [target[rows] for target in targets]
        if rng.random() < 0.5:
            chosen, maps = chosen[:, :, ::-1], [flip_targets(target) for target in maps]
        yield chosen[..., None], maps
