"""Mine hard backgrounds: parts of images without a face on which a detector reports one."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_path
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.edge_runtime.detectors.decode import decode
from fer_edge.edge_runtime.images import Image, import_cv2
from fer_edge.train.detector.fit import Predict
from fer_edge.train.detector.sources import Sources
from fer_edge.train.detector.stream import HARD_FILE

LOOKS_PER_IMAGE = 3  # the whole image and two random parts
MARGIN = 0.6  # around a false detection, in sides of its box
MIN_SIDE_PX = 16
MAX_HARD = 20_000
BATCH = 64

Boxes = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Look:
    """A gray image to search, and the boxes (x, y, width, height, pixels) where faces are or may be."""

    image: Image
    occupied: Boxes


def mine(
    predict: Predict,
    sources: Sources,
    folder: Path,
    size: tuple[int, int],
    strides: tuple[int, ...],
    min_logit: float = -1.0,
    reporter: Reporter = SILENT,
) -> int:
    """Find false detections in the training backgrounds and photos and write them to the run folder.

    In photos, a detection is false if the part cut out around it touches no face and no region to ignore.
    Scenes are drawn with them from the next start of the training on.

    Args:
        predict: From predictor.
        sources: The packed images.
        folder: The run folder.
        size: Height and width of the input, pixels.
        strides: Pixels of the input per cell, one per heat map.
        min_logit: Detections from this logit on are kept.
        reporter: Receives progress.

    Returns:
        The number of parts written.
    """
    looks = list(_looks(sources))
    hard: list[Image] = []
    with reporter.progress("mining") as progress:
        for start in range(0, len(looks), BATCH):
            parts = looks[start : start + BATCH]
            boxed = [letterbox(part.image, size) for part in parts]
            maps = predict(np.stack([image for image, *_ in boxed]))
            for index, (part, (_, scale, left, top)) in enumerate(zip(parts, boxed, strict=True)):
                heat = [one[index] for one in maps[: len(strides)]]
                geometry = [one[index] for one in maps[len(strides) :]]
                for x, y, side, _ in decode(heat, geometry, strides, min_logit).boxes:
                    cut = _cut(part.image.shape, (x - left) / scale, (y - top) / scale, side / scale)
                    if min(cut[2:]) >= MIN_SIDE_PX and not _touches(cut, part.occupied):
                        hard.append(part.image[cut[1] : cut[1] + cut[3], cut[0] : cut[0] + cut[2]])
            progress(min(start + BATCH, len(looks)), len(looks))
    rng = np.random.default_rng(0)
    chosen = [hard[index] for index in rng.permutation(len(hard))[:MAX_HARD]]
    _write(folder / HARD_FILE, chosen)
    return len(chosen)


def letterbox(image: Image, size: tuple[int, int]) -> tuple[Image, float, int, int]:
    """Fit an image into the input of a detector, with black around it.

    Args:
        image: uint8 array (height, width), gray.
        size: Height and width of the input, pixels.

    Returns:
        The input, its pixels per pixel of the image, and the position of the image in it.
    """
    cv2 = import_cv2()
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    width, height = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    left, top = (size[1] - width) // 2, (size[0] - height) // 2
    result = np.zeros(size, np.uint8)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    result[top : top + height, left : left + width] = cv2.resize(image, (width, height), interpolation=way)
    return result, scale, left, top


def _looks(sources: Sources) -> Iterator[_Look]:
    rng = np.random.default_rng(0)
    for role in ("backgrounds", "garments", "photos"):
        for index in sources.indices(role, validation=False):
            occupied = np.concatenate([sources.faces_of(index)[:, :4], sources.ignored_of(index)])
            yield from _parts(sources.image(int(index)), occupied, rng)


def _parts(image: Image, occupied: Boxes, rng: np.random.Generator) -> Iterator[_Look]:
    """Yield the image and random parts of it."""
    yield _Look(image, occupied)
    for _ in range(LOOKS_PER_IMAGE - 1):
        fraction = rng.uniform(0.35, 0.7)
        height, width = (max(1, int(side * fraction)) for side in image.shape)
        top, left = int(rng.integers(image.shape[0] - height + 1)), int(rng.integers(image.shape[1] - width + 1))
        yield _Look(image[top : top + height, left : left + width], occupied - np.array([left, top, 0, 0], np.float32))


def _cut(shape: tuple[int, ...], x: float, y: float, side: float) -> tuple[int, int, int, int]:
    """Return the part around a detection inside the image: x, y, width, height, pixels."""
    margin = MARGIN * side
    left, top = max(0, int(x - margin)), max(0, int(y - margin))
    right, bottom = min(shape[1], int(x + side + margin)), min(shape[0], int(y + side + margin))
    return left, top, max(0, right - left), max(0, bottom - top)


def _touches(cut: tuple[int, int, int, int], occupied: Boxes) -> bool:
    left, top, width, height = cut
    across = (occupied[:, 0] < left + width) & (occupied[:, 0] + occupied[:, 2] > left)
    down = (occupied[:, 1] < top + height) & (occupied[:, 1] + occupied[:, 3] > top)
    return bool((across & down).any())


def _write(path: Path, images: list[Image]) -> None:
    pixels: npt.NDArray[np.uint8] = np.concatenate([image.reshape(-1) for image in images]) if images else np.empty(0, np.uint8)
    sizes = np.array([image.shape for image in images], np.int32).reshape(-1, 2)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, pixels=pixels, sizes=sizes)
