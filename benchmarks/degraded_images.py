"""Images of faces under difficult conditions of a camera, made from good images with OpenCV.

This code shares nothing with the augmentation in training, so that a model is not measured with the code that trained it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.edge_runtime.images import Image, import_cv2


@dataclass(frozen=True)
class FaceSquare:
    """A square around a face.

    Attributes:
        x: Column of its center, pixels of the image.
        y: Row of its center, pixels of the image.
        side: Its side, pixels of the image.
    """

    x: float
    y: float
    side: float

    def box(self) -> tuple[int, int, int, int]:
        """Return the square as (x, y, width, height), whole pixels."""
        side = max(1, round(self.side))
        return round(self.x - side / 2), round(self.y - side / 2), side, side


Degraded = tuple[Image, FaceSquare]
Condition = Callable[[Image, FaceSquare, np.random.Generator], Degraded]


def _unchanged(image: Image, face: FaceSquare, rng: np.random.Generator) -> Degraded:
    return image, face


def _dark(image: Image, face: FaceSquare, rng: np.random.Generator) -> Degraded:
    """A sixth to a third of the light, with the noise of an amplified signal."""
    return _to_uint8(image * np.float32(rng.uniform(1 / 6, 1 / 3)) + _noise(image, 3.0, rng)), face


def _overexposed(image: Image, face: FaceSquare, rng: np.random.Generator) -> Degraded:
    return _to_uint8(image * np.float32(rng.uniform(1.6, 2.2))), face


def _side_light(image: Image, face: FaceSquare, rng: np.random.Generator) -> Degraded:
    """One side of the face gets 1.6 times the light, the other a quarter."""
    rows, columns = np.indices(image.shape[:2], np.float32)
    angle = rng.uniform(-0.5, 0.5) + rng.choice([0, math.pi])
    across = ((columns - face.x) * math.cos(angle) + (rows - face.y) * math.sin(angle)) / face.side
    light = np.asarray(np.clip(0.925 + 1.35 * across, 0.25, 1.6), np.float32)
    return _to_uint8(image * light[:, :, None]), face


def _out_of_focus(image: Image, face: FaceSquare, rng: np.random.Generator) -> Degraded:
    """The circle of confusion of a lens: a disk of 10 to 14 % of the face."""
    cv2 = import_cv2()
    radius = rng.uniform(0.05, 0.07) * face.side
    rows, columns = np.indices((2 * math.ceil(radius) + 1,) * 2) - math.ceil(radius)
    disk = np.clip(radius + 0.5 - np.hypot(rows, columns), 0, 1)
    return np.asarray(cv2.filter2D(image, -1, disk / disk.sum(), borderType=cv2.BORDER_REPLICATE), np.uint8), face


def _moving(image: Image, face: FaceSquare, rng: np.random.Generator) -> Degraded:
    """A motion of 12 to 18 % of the face in any direction."""
    cv2 = import_cv2()
    length, angle = rng.uniform(0.12, 0.18) * face.side, rng.uniform(0, math.pi)
    size = 2 * math.ceil(length / 2) + 3
    kernel = np.zeros((size, size), np.float32)
    half = np.array([math.cos(angle), math.sin(angle)]) * length / 2
    start, end = (tuple(int(value) for value in np.round((size // 2 + sign * half) * 16)) for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0, 1, cv2.LINE_AA, 4)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE), np.uint8), face


def _small(image: Image, face: FaceSquare, rng: np.random.Generator) -> Degraded:
    """A face of 18 to 28 pixels, far from the camera."""
    return _scaled(image, face, rng.uniform(18, 28))


def _compressed(image: Image, face: FaceSquare, rng: np.random.Generator) -> Degraded:
    """A video stream with low bandwidth: JPEG quality 8 to 15 where the face has 64 pixels."""
    cv2 = import_cv2()
    image, face = _scaled(image, face, 64)
    written = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(8, 16))])[1]
    return np.asarray(cv2.imdecode(written, cv2.IMREAD_COLOR), np.uint8), face


def _noisy(image: Image, face: FaceSquare, rng: np.random.Generator) -> Degraded:
    """Noise of 12 to 20 gray levels where the face has 64 pixels."""
    image, face = _scaled(image, face, 64)
    return _to_uint8(image + _noise(image, rng.uniform(12, 20), rng)), face


def _tilted(image: Image, face: FaceSquare, rng: np.random.Generator) -> Degraded:
    cv2 = import_cv2()
    degrees = rng.uniform(12, 22) * rng.choice([-1, 1])
    matrix = cv2.getRotationMatrix2D((face.x, face.y), degrees, 1.0)
    size = (image.shape[1], image.shape[0])
    turned = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(turned, np.uint8), face


def _loose_box(image: Image, face: FaceSquare, rng: np.random.Generator) -> Degraded:
    """A box that is off by up to 10 % of its side in each direction and by up to a fifth in size."""
    x, y = (center + rng.uniform(-0.1, 0.1) * face.side for center in (face.x, face.y))
    return image, FaceSquare(x, y, face.side * math.exp(rng.uniform(-0.18, 0.18)))


def _sunglasses(image: Image, face: FaceSquare, rng: np.random.Generator) -> Degraded:
    cv2 = import_cv2()
    covered = image.copy()
    shade = (int(rng.integers(10, 50)),) * 3
    (left, y), (right, _) = (_point(face, column, -0.11) for column in (-0.19, 0.19))
    axes = (round(0.15 * face.side), round(0.1 * face.side))
    for x in (left, right):
        cv2.ellipse(covered, (x, y), axes, 0, 0, 360, shade, -1, cv2.LINE_AA)
    cv2.line(covered, (left, y), (right, y), shade, max(1, round(0.02 * face.side)), cv2.LINE_AA)
    return covered, face


def _mask(image: Image, face: FaceSquare, rng: np.random.Generator) -> Degraded:
    """A medical mask from the bridge of the nose to the chin."""
    cv2 = import_cv2()
    covered = image.copy()
    outline = [(0.0, 0.06), (0.36, 0.12), (0.34, 0.4), (0.16, 0.56), (-0.16, 0.56), (-0.34, 0.4), (-0.36, 0.12)]
    points = np.array([_point(face, *corner) for corner in outline], np.int32)
    cv2.fillPoly(covered, [points], (int(rng.integers(120, 240)),) * 3, cv2.LINE_AA)
    return covered, face


def _hand(image: Image, face: FaceSquare, rng: np.random.Generator) -> Degraded:
    """A hand at one cheek and the chin, as bright as the forehead."""
    cv2 = import_cv2()
    covered = image.copy()
    x, y = _point(face, 0.0, -0.3)
    size = max(1, round(0.1 * face.side))
    skin = image[max(0, y - size) : y + size, max(0, x - size) : x + size].reshape(-1, 3)
    tone = skin.mean(axis=0) * rng.uniform(0.8, 1.05) if len(skin) else np.full(3, 128.0)
    center = _point(face, rng.choice([-1, 1]) * rng.uniform(0.22, 0.32), rng.uniform(0.25, 0.35))
    axes = (round(0.18 * face.side), round(0.3 * face.side))
    cv2.ellipse(covered, center, axes, float(rng.uniform(-30, 30)), 0, 360, tuple(map(int, tone)), -1, cv2.LINE_AA)
    return covered, face


def _color_cast(image: Image, face: FaceSquare, rng: np.random.Generator) -> Degraded:
    """The light of a lamp or of the shade, without white balance."""
    gains = (1.25, 1.0, 0.6) if rng.random() < 0.5 else (0.7, 0.95, 1.3)
    return _to_uint8(image * np.array(gains, np.float32)), face


CONDITIONS: dict[str, Condition] = {
    "unchanged": _unchanged,
    "dark": _dark,
    "overexposed": _overexposed,
    "side light": _side_light,
    "out of focus": _out_of_focus,
    "moving": _moving,
    "small": _small,
    "compressed": _compressed,
    "noisy": _noisy,
    "tilted": _tilted,
    "loose box": _loose_box,
    "sunglasses": _sunglasses,
    "mask": _mask,
    "hand": _hand,
    "color cast": _color_cast,
}


def degrade(image: Image, face: FaceSquare, condition: str, seed: int = 0) -> Degraded:
    """Return an image as a camera delivers it under a condition.

    Args:
        image: uint8 array (height, width, 3), RGB.
        face: The face in it.
        condition: Name in CONDITIONS.
        seed: Seed of the random choices; use another one for each image.

    Returns:
        The changed image and the face in it.

    Raises:
        ValueError: If the condition is unknown.
    """
    if condition not in CONDITIONS:
        raise ValueError(f"unknown condition '{condition}'; choose one of: {', '.join(CONDITIONS)}")
    return CONDITIONS[condition](image, face, np.random.default_rng([seed, list(CONDITIONS).index(condition)]))


def _scaled(image: Image, face: FaceSquare, side: float) -> Degraded:
    """Reduce an image so that the face has the given side. It is not enlarged."""
    cv2 = import_cv2()
    scale = side / face.side
    if scale >= 1:
        return image, face
    size = tuple(max(1, round(length * scale)) for length in image.shape[1::-1])
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return small, replace(face, x=face.x * scale, y=face.y * scale, side=face.side * scale)


def _point(face: FaceSquare, right: float, down: float) -> tuple[int, int]:
    """Return a pixel at a distance from the center of the face, in sides of its square."""
    return round(face.x + right * face.side), round(face.y + down * face.side)


def _noise(image: Image, deviation: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return noise that is equal in the three channels, so that it does not average out in gray."""
    return np.float32(deviation) * rng.standard_normal((*image.shape[:2], 1), np.float32)


def _to_uint8(values: npt.NDArray[Any]) -> Image:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)
