"""Loss of image quality as a camera causes it, in the training graph: blur, few pixels, noise and compression.

Resampling and blur of an image are two matrix products, one over the rows and one over the columns. The matrices come from a
fixed set, so that a step of training only selects and multiplies them.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.training_plan import Augmentation
from fer_edge.train.draws import Draws

LEVELS = 12  # of blur and of resolution, from none to the largest
BLOCK_PX = 8  # side of the blocks of a JPEG image

# Source: JPEG, ITU-T T.81, table K.1: quantization of brightness at quality 50.
JPEG_STEPS = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)


def blur_and_downscale(faces: Any, ranges: Augmentation, draws: Draws, resolution_px: int) -> Any:
    """Blur each face, downscale it to fewer pixels and enlarge it again.

    Half of the faces are out of focus, the others move horizontally or vertically. The strengths are squares of uniform
    numbers: mild changes are common, strong ones rare.

    Args:
        faces: Tensor (batch, side, side, 1), 0..255.
        ranges: ``defocus``, ``motion_blur`` and ``resolution_loss``.
        draws: Source of the random numbers.
        resolution_px: Side of the faces before they were enlarged to the input size, pixels.

    Returns:
        Tensor of the same shape, 0..255.
    """
    from keras import ops

    count = ops.shape(faces)[0]
    numbers = draws.uniform((4, count), axis=1)
    downscaled, blurred = (ops.cast(LEVELS * numbers[index] * numbers[index], "int32") for index in (0, 1))
    moves, vertical = numbers[2] < 0.5, numbers[3] < 0.5
    size, none = 2 * LEVELS * downscaled, ops.zeros_like(blurred)
    focus_or_motion = blurred + ops.where(moves, LEVELS, 0)
    matrices = ops.convert_to_tensor(quality_matrices(faces.shape[1], ranges, resolution_px))
    rows = ops.take(matrices, size + ops.where(ops.logical_and(moves, ~vertical), none, focus_or_motion), axis=0)
    columns = ops.take(matrices, size + ops.where(ops.logical_and(moves, vertical), none, focus_or_motion), axis=0)
    return ops.matmul(ops.matmul(rows, faces[..., 0]), ops.transpose(columns, (0, 2, 1)))[..., None]


def quality_matrices(side: int, ranges: Augmentation, resolution_px: int) -> npt.NDArray[np.float32]:
    """Return the matrices of blur_and_downscale.

    Args:
        side: Side of the face, pixels.
        ranges: ``defocus``, ``motion_blur`` and ``resolution_loss``.
        resolution_px: Side of the faces before they were enlarged to the input size, pixels.

    Returns:
        float32 array (2 * LEVELS * LEVELS, side, side): for each resolution, the levels of defocus and then of motion blur.
    """
    shares = np.linspace(0, 1, LEVELS)
    blurs = [defocus_matrix(side, share * ranges.defocus * side) for share in shares]
    blurs += [motion_matrix(side, share * ranges.motion_blur * side) for share in shares]
    pixels = [max(1, round(resolution_px * (1 - share * ranges.resolution_loss))) for share in shares]
    resolutions = [np.eye(side) if count == resolution_px else resolution_matrix(side, count) for count in pixels]
    return np.stack([resolution @ blur for resolution in resolutions for blur in blurs]).astype(np.float32)


def resolution_matrix(side: int, pixels: int) -> npt.NDArray[np.float64]:
    """Return the matrix that averages a line of pixels into fewer ones and enlarges them again.

    Args:
        side: Length of the line, pixels.
        pixels: Length of the shorter line.

    Returns:
        Array (side, side).
    """
    return enlarge_matrix(pixels, side) @ shrink_matrix(side, pixels)


def shrink_matrix(side: int, pixels: int) -> npt.NDArray[np.float64]:
    """Return the matrix that averages a line of pixels into fewer ones, as cv2.INTER_AREA.

    Args:
        side: Length of the line, pixels.
        pixels: Length of the shorter line.

    Returns:
        Array (pixels, side).
    """
    edges = np.arange(pixels + 1) * side / pixels
    low, high = np.maximum.outer(edges[:-1], np.arange(side)), np.minimum.outer(edges[1:], np.arange(1, side + 1))
    return np.maximum(high - low, 0) * pixels / side


def enlarge_matrix(pixels: int, side: int) -> npt.NDArray[np.float64]:
    """Return the matrix that interpolates a line of pixels bilinearly, as cv2.INTER_LINEAR.

    Args:
        pixels: Length of the line.
        side: Length of the longer line, pixels.

    Returns:
        Array (side, pixels).
    """
    position = np.clip((np.arange(side) + 0.5) * pixels / side - 0.5, 0, pixels - 1)
    return np.maximum(1 - np.abs(np.subtract.outer(position, np.arange(pixels))), 0)


def defocus_matrix(side: int, deviation_px: float) -> npt.NDArray[np.float64]:
    """Return the matrix that blurs a line of pixels with a Gaussian; the line is repeated at its ends.

    Args:
        side: Length of the line, pixels.
        deviation_px: Standard deviation of the Gaussian, pixels; 0 for no blur.

    Returns:
        Array (side, side).
    """
    reach = int(np.ceil(4 * deviation_px))
    distances = np.arange(-reach, reach + 1)
    return _filter_matrix(side, np.exp(-0.5 * (distances / max(deviation_px, 1e-6)) ** 2))


def motion_matrix(side: int, length_px: float) -> npt.NDArray[np.float64]:
    """Return the matrix that averages a line of pixels along a motion; the line is repeated at its ends.

    Args:
        side: Length of the line, pixels.
        length_px: Length of the motion, pixels; up to 1 for no blur.

    Returns:
        Array (side, side).
    """
    length_px = max(length_px, 1.0)
    reach = int(np.ceil(length_px / 2))
    distances = np.abs(np.arange(-reach, reach + 1))
    return _filter_matrix(side, np.clip(length_px / 2 + 0.5 - distances, 0, 1))


def _filter_matrix(side: int, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the matrix (side, side) of a filter of an odd number of weights around each pixel."""
    reach = len(weights) // 2
    matrix = np.zeros((side, side))
    for offset, weight in zip(range(-reach, reach + 1), weights / weights.sum(), strict=True):
        matrix[np.arange(side), np.clip(np.arange(side) + offset, 0, side - 1)] += weight
    return matrix


def add_noise_and_compress(faces: Any, ranges: Augmentation, draws: Draws, resolution_px: int) -> Any:
    """Add Gaussian noise to each face and compress it as a JPEG image, each with a random strength.

    The strengths are squares of uniform numbers. Faces that were enlarged to the input size get the change of the smaller face.

    Args:
        faces: Tensor (batch, side, side, 1), 0..255.
        ranges: ``noise`` and ``compression``.
        draws: Source of the random numbers.
        resolution_px: Side of the faces before they were enlarged, pixels.

    Returns:
        Tensor of the same shape, 0..255.
    """
    from keras import ops

    side = faces.shape[1]
    shrink = ops.convert_to_tensor(shrink_matrix(side, resolution_px).astype(np.float32))
    enlarge = ops.convert_to_tensor(enlarge_matrix(resolution_px, side).astype(np.float32))
    original = faces[..., 0] if side == resolution_px else ops.matmul(ops.matmul(shrink, faces[..., 0]), ops.transpose(shrink))
    changed = original
    strength = ops.square(draws.uniform((2, ops.shape(faces)[0], 1, 1), axis=1))
    if ranges.noise:
        noise = draws.normal(ops.shape(original))
        changed = ops.clip(changed + 255 * ranges.noise * strength[0] * noise, 0, 255)
    if ranges.compression:
        changed = compress(changed, ops.maximum(100 - 100 * ranges.compression * strength[1], 1.0))
    if side == resolution_px:
        return changed[..., None]
    change = ops.matmul(ops.matmul(enlarge, changed - original), ops.transpose(enlarge))
    return ops.clip(faces + change[..., None], 0, 255)


def compress(faces: Any, quality: Any) -> Any:
    """Compress faces as JPEG images: quantize the cosine transform of each block of 8 x 8 pixels.

    Args:
        faces: Tensor (batch, side, side), 0..255. If the side is not a multiple of 8, the last blocks are smaller.
        quality: Tensor (batch, 1, 1), 1..100, as in libjpeg.

    Returns:
        Tensor of the same shape, 0..255.
    """
    from keras import ops

    side = faces.shape[1]
    transform = ops.convert_to_tensor(cosine_matrix(side))
    inverse = ops.transpose(transform)
    position = np.arange(side) % BLOCK_PX
    table = ops.convert_to_tensor(JPEG_STEPS[position][:, position])
    percent = ops.where(quality < 50, 5000.0 / quality, 200.0 - 2.0 * quality)
    steps = ops.clip(ops.floor((table * percent + 50.0) / 100.0), 1.0, 255.0)
    frequencies = ops.matmul(ops.matmul(transform, faces - 128.0), inverse)
    decoded = ops.matmul(ops.matmul(inverse, ops.round(frequencies / steps) * steps), transform)
    return ops.clip(decoded + 128.0, 0, 255)


def cosine_matrix(side: int) -> npt.NDArray[np.float32]:
    """Return the matrix of the orthonormal cosine transform (DCT-II) of blocks of 8 pixels.

    Args:
        side: Length of the line, pixels. The last block is smaller if it is not a multiple of 8.

    Returns:
        float32 array (side, side), zero outside the blocks on its diagonal.
    """
    matrix = np.zeros((side, side), np.float32)
    for start in range(0, side, BLOCK_PX):
        length = min(BLOCK_PX, side - start)
        frequency, pixel = np.arange(length)[:, None], np.arange(length)[None, :]
        block = np.sqrt(2 / length) * np.cos(np.pi * (pixel + 0.5) * frequency / length)
        block[0] /= np.sqrt(2)
        matrix[start : start + length, start : start + length] = block
    return matrix
