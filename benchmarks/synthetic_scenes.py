"""Images and clips made of face crops: pasted at any size, position and angle into drawn backgrounds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_edge.edge_runtime.crop import Box
from fer_edge.edge_runtime.detectors.detection import largest_box
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.images import Image, import_cv2, read_image

SIZE = (640, 480)


@dataclass(frozen=True)
class LabeledCrop:
    """A face crop of a dataset.

    Attributes:
        name: Its id in the dataset.
        label: Its label.
        face: uint8 array (height, width), gray.
    """

    name: str
    label: str
    face: Image


@dataclass(frozen=True)
class CropSource:
    """What a benchmark ran on, for its record.

    Attributes:
        model: Name of the .tflite file.
        data: Name of the dataset of the crops.
        split: Its split.
    """

    model: str
    data: str
    split: str


def to_gray(image: Image) -> Image:
    """Return a uint8 image (height, width) or (height, width, 3), RGB, as gray."""
    cv2 = import_cv2()
    return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def read_face(path: Path) -> Image:
    """Read the face in an image file, gray and square: what the Haar detector finds, otherwise the whole image."""
    image = read_image(path)
    gray = to_gray(image)
    box = largest_box(open_detector("haar").detect(image))
    if box is None:
        side = min(gray.shape)
        return np.ascontiguousarray(gray[:side, :side])
    x, y, side, _ = box
    margin = min(side // 8, x, y)  # some hair and chin
    return np.ascontiguousarray(gray[y - margin : y + side + margin, x - margin : x + side + margin])


def background(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> Image:
    """Draw something like a room: soft light, shapes with edges, sensor noise.

    Args:
        rng: Random number generator.
        size: Width and height, pixels.

    Returns:
        uint8 array (height, width), gray.
    """
    cv2 = import_cv2()
    width, height = size
    light = rng.integers(50, 206, (5, 7), dtype=np.uint8)
    scene = np.asarray(cv2.resize(light, size, interpolation=cv2.INTER_CUBIC))
    for _ in range(int(rng.integers(3, 9))):
        corner = int(rng.integers(0, width)), int(rng.integers(0, height))
        extent = int(rng.integers(20, width // 2)), int(rng.integers(20, height // 2))
        shade = int(rng.integers(30, 226))
        if rng.random() < 0.5:
            cv2.rectangle(scene, corner, (corner[0] + extent[0], corner[1] + extent[1]), shade, -1)
        else:
            cv2.ellipse(scene, corner, (extent[0] // 2, extent[1] // 2), float(rng.integers(0, 180)), 0, 360, shade, -1)
    return add_noise(np.asarray(cv2.GaussianBlur(scene, (0, 0), 1.5), np.uint8), 3.0, rng)


def face_free_images(count: int, seed: int = 0, size: tuple[int, int] = SIZE) -> list[Image]:
    """Draw images without a face, in turn: a room, noise at every scale, white noise, soft and hard blocks, and stripes.

    Args:
        count: Number of images.
        seed: Seed of all random choices.
        size: Width and height, pixels.

    Returns:
        uint8 arrays (height, width, 3), RGB.
    """
    cv2 = import_cv2()
    rng = np.random.default_rng(seed)
    width, height = size
    kinds: list[Callable[[], Image]] = [
        lambda: background(rng, size),
        lambda: _noise_at_every_scale(rng, size),
        lambda: rng.integers(0, 256, (height, width), np.uint8),
        lambda: _blocks(rng, size, cv2.INTER_CUBIC),
        lambda: _blocks(rng, size, cv2.INTER_NEAREST),
        lambda: _stripes(rng, size),
    ]
    images = [kinds[number % len(kinds)]() for number in range(count)]
    return [np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8) for image in images]


def _noise_at_every_scale(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    """Draw noise whose amplitude is proportional to its wavelength, as in photos of foliage or stone."""
    width, height = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) / frequency, s=(height, width))
    return np.asarray(np.clip(128 + 50 * noise / noise.std(), 0, 255), np.uint8)


def _blocks(rng: np.random.Generator, size: tuple[int, int], interpolation: int) -> Image:
    cells = rng.integers(0, 256, (int(rng.integers(6, 40)), int(rng.integers(8, 50))), np.uint8)
    return np.asarray(import_cv2().resize(cells, size, interpolation=interpolation), np.uint8)


def _stripes(rng: np.random.Generator, size: tuple[int, int]) -> Image:
    """Draw two crossing waves, as in curtains and fabric."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    angles, frequencies = rng.uniform(0, np.pi, 2), rng.uniform(0.05, 0.6, 2)
    waves = [np.sin((x * np.cos(a) + y * np.sin(a)) * f) for a, f in zip(angles, frequencies, strict=True)]
    return add_noise(np.asarray(128 + 50 * (waves[0] + waves[1]), np.uint8), 5.0, rng)


def add_noise(image: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Return a copy with Gaussian sensor noise.

    Args:
        image: uint8 array of any shape.
        sigma: Standard deviation, of 255 steps.
        rng: Random number generator.
    """
    noise = rng.standard_normal(image.shape, np.float32) * sigma
    return np.asarray(np.clip(image + noise, 0, 255), np.uint8)


def paste(scene: Image, face: Image, center: tuple[float, float], side: float, degrees: float, oval: bool = False) -> Image:
    """Return the scene with a face crop in it. The border of the crop fades out.

    Args:
        scene: uint8 array (height, width), gray.
        face: uint8 array (n, n), gray.
        center: Center of the face, pixels.
        side: Side of the crop in the scene, pixels.
        degrees: Clockwise rotation.
        oval: Whether to paste an oval. The corners of a portrait show its background.
    """
    cv2 = import_cv2()
    reach = side * 0.75 + 2  # slightly more than half a diagonal
    left, top = (max(0, int(middle - reach)) for middle in center)
    right, bottom = (min(length, int(middle + reach)) for middle, length in zip(center, scene.shape[::-1], strict=True))
    size = right - left, bottom - top
    length = face.shape[0]
    matrix = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), -degrees, side / length)
    matrix[:, 2] += np.array(center) - (left + length / 2, top + length / 2)
    mask = np.zeros((length, length), np.float32)
    if oval:
        cv2.ellipse(mask, (length // 2, length // 2), (round(0.46 * length), round(0.48 * length)), 0, 0, 360, 1.0, -1)
    else:
        cv2.rectangle(mask, (1, 1), (length - 2, length - 2), 1.0, -1)
    sigma = 0.02 * length if oval else 0.7
    alpha: npt.NDArray[np.float32] = cv2.warpAffine(cv2.GaussianBlur(mask, (0, 0), sigma), matrix, size)
    pasted = cv2.warpAffine(face, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    result = scene.copy()
    area = result[top:bottom, left:right]
    area[:] = np.round(area * (1 - alpha) + pasted * alpha)
    return result


def box_of(center: tuple[float, float], side: float) -> Box:
    """Return the upright box of a pasted face.

    Args:
        center: Center of the face, pixels.
        side: Side of the crop in the scene, pixels.
    """
    return round(center[0] - side / 2), round(center[1] - side / 2), round(side), round(side)


def write_clip(path: Path, face: Image, frames: int, seed: int = 0, frames_per_second: float = 30.0) -> None:
    """Write a 640 x 480 clip in which one face moves, turns and changes its size.

    Args:
        path: An .mp4 or .avi file.
        face: uint8 array (n, n), gray: a face crop.
        frames: Number of frames.
        seed: Seed of the background and the noise.
        frames_per_second: Frames per second.

    Raises:
        OSError: If the file cannot be written.
    """
    cv2 = import_cv2()
    rng = np.random.default_rng(seed)
    scene = background(rng)
    codec = "MJPG" if path.suffix.lower() == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), frames_per_second, SIZE)
    if not writer.isOpened():
        raise OSError(f"cannot write the clip '{path}'")
    for number in range(frames):
        phase = number / 60
        center = 320 + 150 * np.sin(phase), 240 + 60 * np.sin(2.3 * phase)
        image = paste(scene, face, center, 170 + 40 * np.sin(0.7 * phase), 8 * np.sin(1.7 * phase))
        writer.write(cv2.cvtColor(add_noise(image, 3.0, rng), cv2.COLOR_GRAY2BGR))
    writer.release()
