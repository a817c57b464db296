"""The parts of a drawn scene: textures, light, masks, and a face placed at any size and angle."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fer_edge.edge_runtime.images import Image, import_cv2

Floats = npt.NDArray[np.float32]
Random = np.random.Generator

MIN_WARPED_SIDE = 4  # pixels of an image after it was reduced


@dataclass(frozen=True)
class Placement:
    """Where a face is drawn.

    Attributes:
        x: Center, pixels.
        y: Center, pixels.
        side: Side of the box, pixels.
        angle: Rotation, radians.
        aspect: Factor of the width.
    """

    x: float
    y: float
    side: float
    angle: float = 0.0
    aspect: float = 1.0


def texture(rng: Random, height: int, width: int) -> Image:
    """Draw an image without objects: noise of one size, shapes, stripes, a plain area or a gradient.

    Args:
        rng: Source of randomness.
        height: Height, pixels.
        width: Width, pixels.

    Returns:
        uint8 array (height, width), gray.
    """
    cv2 = import_cv2()
    kind = rng.integers(5)
    if kind == 0:
        cells = rng.integers(0, 256, (rng.integers(2, 24), rng.integers(2, 24)), dtype=np.uint8)
        return np.asarray(cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
    if kind == 1:
        return _shapes(rng, height, width)
    if kind == 2:
        return np.full((height, width), rng.integers(0, 256), np.uint8)
    y, x = np.mgrid[:height, :width]
    if kind == 3:
        angle, step = rng.uniform(0, np.pi), rng.uniform(0.05, 1.5)
        wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * step)
        return (128 + rng.integers(20, 127) * wave).astype(np.uint8)
    ramp = (x - width / 2) * rng.uniform(-1.5, 1.5) + (y - height / 2) * rng.uniform(-1.5, 1.5)
    return np.clip(rng.integers(0, 256) + ramp, 0, 255).astype(np.uint8)


def _shapes(rng: Random, height: int, width: int) -> Image:
    cv2 = import_cv2()
    image = np.full((height, width), rng.integers(0, 256), np.uint8)
    for _ in range(rng.integers(3, 30)):
        gray, corner = int(rng.integers(0, 256)), (int(rng.integers(width)), int(rng.integers(height)))
        if rng.random() < 0.5:
            axes = (int(rng.integers(2, 50)), int(rng.integers(2, 50)))
            cv2.ellipse(image, corner, axes, float(rng.integers(180)), 0, 360, gray, -1 if rng.random() < 0.6 else 2)
        else:
            other = (int(rng.integers(width)), int(rng.integers(height)))
            cv2.rectangle(image, corner, other, gray, -1 if rng.random() < 0.4 else 1)
    return image


def relight(image: npt.NDArray[np.generic], rng: Random, amount: float = 1.0) -> Floats:
    """Change contrast, brightness and gamma at random.

    Args:
        image: Array (height, width), 0..255.
        rng: Source of randomness.
        amount: 0 for no change, 1 for the usual range.

    Returns:
        float32 array of the same shape, 0..255.
    """
    pixels = image.astype(np.float32)
    mean = float(pixels.mean())
    pixels = (pixels - mean) * np.exp(rng.normal(0, 0.25 * amount)) + mean * np.exp(rng.normal(0, 0.25 * amount))
    pixels += rng.normal(0, 15 * amount)
    pixels = np.clip(pixels, 0, 255)
    if rng.random() < 0.3:
        pixels = 255 * np.power(pixels / 255, np.exp(rng.normal(0, 0.35)))
    return np.asarray(pixels, np.float32)


def soft_mask(rng: Random, shape: tuple[int, ...], head: bool) -> Floats:
    """Draw the mask with which a face is blended into a scene: an ellipse or the whole crop, with soft edges.

    Args:
        rng: Source of randomness.
        shape: Height and width, pixels.
        head: Whether the crop shows a whole head, else a face.

    Returns:
        float32 array (height, width), 0..1. The outermost pixels are near 0.
    """
    cv2 = import_cv2()
    height, width = shape
    mask = np.zeros((height, width), np.float32)
    if rng.random() < (0.8 if head else 0.5):
        across, down = ((0.82, 1.05), (0.92, 1.1)) if head else ((0.85, 1.1), (0.95, 1.2))
        axes = (int(width / 2 * rng.uniform(*across)), int(height / 2 * rng.uniform(*down)))
        cv2.ellipse(mask, (width // 2, height // 2), axes, 0, 0, 360, 1, -1)
        if head and rng.random() < 0.5:  # neck and shoulders
            mask[int(height * 0.7) :, int(width * 0.15) : int(width * 0.85)] = 1
    else:
        mask[:] = 1
    mask[[0, -1]] = 0
    mask[:, [0, -1]] = 0
    blurred = cv2.GaussianBlur(mask, (0, 0), max(rng.uniform(0.005, 0.07) * width, 0.5))
    return np.asarray(np.clip(blurred * 2 - 1 if rng.random() < 0.7 else blurred, 0, 1), np.float32)


def warp_matrix(box: Floats, placement: Placement) -> npt.NDArray[np.float64]:
    """Return the affine map, float64 array (2, 3), of a square box (x, y, width, height) to its placement.

    Args:
        box: The box in the source image, pixels.
        placement: Where it is drawn.
    """
    scale, cosine, sine = placement.side / box[2], np.cos(placement.angle), np.sin(placement.angle)
    linear = scale * np.array([[cosine * placement.aspect, -sine], [sine * placement.aspect, cosine]])
    center = np.array([box[0] + box[2] / 2, box[1] + box[3] / 2], np.float64)
    return np.hstack([linear, (np.array([placement.x, placement.y]) - linear @ center)[:, None]])


def warp(image: npt.NDArray[np.generic], matrix: npt.NDArray[np.float64], size: tuple[int, int], border: int) -> Floats:
    """Draw an image by an affine map. A much larger image is reduced first, so that no pixels are skipped.

    Args:
        image: Array (height, width), uint8 or float32.
        matrix: From warp_matrix.
        size: Height and width of the result, pixels.
        border: OpenCV's border mode.

    Returns:
        float32 array (height, width).
    """
    cv2 = import_cv2()
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    source, matrix = np.ascontiguousarray(image), matrix.copy()
    if scale < 0.5:
        factor = max(2 * scale, MIN_WARPED_SIDE / min(image.shape))
        source = cv2.resize(source, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        matrix[:, 0] *= image.shape[1] / source.shape[1]
        matrix[:, 1] *= image.shape[0] / source.shape[0]
    drawn = cv2.warpAffine(source, matrix, size[::-1], flags=cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(drawn, np.float32)


def map_points(points: Floats, matrix: npt.NDArray[np.float64]) -> Floats:
    """Map points, float32 array (n, 2), by an affine map.

    Args:
        points: x and y, pixels; NaN stays NaN.
        matrix: From warp_matrix.
    """
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float32)


def lower_quality(image: Floats, rng: Random) -> Floats:
    """Blur, shake and add noise at random, as cameras do.

    Args:
        image: float32 array (height, width), 0..255.
        rng: Source of randomness.
    """
    cv2 = import_cv2()
    if rng.random() < 0.25:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.3))
    if rng.random() < 0.1:
        length = int(rng.integers(2, 7))
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2 if rng.random() < 0.5 else np.arange(length), np.arange(length)] = 1
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    if rng.random() < 0.4:
        image = image + rng.normal(0, rng.uniform(1, 10), image.shape).astype(np.float32)
    if rng.random() < 0.1:  # a dark room
        image = image * np.float32(rng.uniform(0.15, 0.6)) + rng.normal(0, 3, image.shape).astype(np.float32)
    return np.asarray(image, np.float32)
