"""Cut a face out of an image and resize it to the input size of the network."""

import math

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.contract import BoxTransform, CropConvention
from fer_edge.edge_runtime.images import Image, check_image, import_cv2

Box = tuple[int, int, int, int]  # x, y, width, height in pixels of the image
Eyes = tuple[tuple[float, float], tuple[float, float]]  # (x, y) of both eyes in pixels, the eye further left first

# Training faces are upright within a few degrees. Rotation interpolates, so small angles are not corrected.
MIN_ROLL_DEGREES = 5.0
MAX_ROLL_DEGREES = 45.0  # larger angles were wrong eye positions more often than tilted heads


def preprocess_face(face: Image, image_size: int, training_resolution_px: int) -> Image:
    """Resize a face crop to the network's input size, in the same way for training, calibration and inference.

    A crop larger than the training faces is first reduced to their resolution by area averaging, so that it is as soft as
    they are. It is then resized bilinearly to the input size, exactly: OpenCV's INTER_LINEAR gives other bytes on ARM.

    Args:
        face: uint8 array (height, width), gray, or (height, width, 3), RGB.
        image_size: Side of the network's input, pixels.
        training_resolution_px: Side of the training faces, pixels.

    Returns:
        uint8 array (image_size, image_size) or (image_size, image_size, 3). ``face`` itself if it has this size already.

    Raises:
        ValueError: If the array is not an image.
    """
    check_face(face)
    if face.shape[0] == image_size and face.shape[1] == image_size and image_size >= training_resolution_px:
        return face
    cv2 = import_cv2()
    face = _downscale_to_training_resolution(face, training_resolution_px)
    if face.shape[:2] != (image_size, image_size):
        shrinks = image_size < min(face.shape[:2])
        method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR_EXACT
        face = cv2.resize(face, (image_size, image_size), interpolation=method)
    return np.asarray(face, np.uint8)


def to_rgb(face: Image) -> Image:
    """Return a face as (height, width, 3). A gray face gets three equal channels."""
    return np.repeat(face[:, :, None], 3, axis=2) if face.ndim == 2 else face


def crop_face(image: Image, box: Box, detector: str, crop: CropConvention, eyes: Eyes | None = None) -> Image:
    """Cut a square face out of an image by the contract's crop convention.

    Pixels outside the image repeat its border.

    Args:
        image: uint8 array (height, width, 3), RGB, or (height, width), gray.
        box: Box from the detector, pixels of the image.
        detector: Name of the detector that returned the box.
        crop: Crop convention of the contract.
        eyes: Eye centers, pixels of the image. If given, a tilted face is rotated upright.

    Returns:
        uint8 array (side, side, 3) or (side, side). The side is at most the training resolution.

    Raises:
        ValueError: If there is no box transform for this detector.
    """
    transform = crop.box_transform(detector)
    x, y, width, height = box
    side = max(1, round(max(width, height) * transform.scale))
    angle = roll_degrees(eyes) if eyes else 0.0
    if MIN_ROLL_DEGREES <= abs(angle) <= MAX_ROLL_DEGREES:
        return _crop_aligned(image, box, side, transform, angle, crop.training_resolution_px)
    left = round(x + width * (0.5 + transform.shift_x) - side / 2)
    top = round(y + height * (0.5 + transform.shift_y) - side / 2)
    if left >= 0 and top >= 0 and left + side <= image.shape[1] and top + side <= image.shape[0]:
        face = image[top : top + side, left : left + side]
    else:
        rows = _clamped_range(top, side, image.shape[0])
        columns = _clamped_range(left, side, image.shape[1])
        face = np.ascontiguousarray(image[rows][:, columns])
    return _downscale_to_training_resolution(face, crop.training_resolution_px)


def roll_degrees(eyes: Eyes) -> float:
    """Return the angle of the line from the left eye to the right eye, degrees clockwise; 0 is upright."""
    (left_x, left_y), (right_x, right_y) = eyes
    return math.degrees(math.atan2(right_y - left_y, right_x - left_x))


def _crop_aligned(
    image: Image, box: Box, side: int, transform: BoxTransform, angle: float, training_resolution_px: int
) -> Image:
    """Cut out a tilted face and rotate it upright. The transform's shift rotates with the face."""
    cv2 = import_cv2()
    x, y, width, height = box
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    shift_x, shift_y = width * transform.shift_x, height * transform.shift_y
    center_x = x + width / 2 + cosine * shift_x - sine * shift_y
    center_y = y + height / 2 + sine * shift_x + cosine * shift_y
    # Maps a pixel of the crop to a pixel of the image. The center of a pixel is half a pixel from its corner.
    half = (side - 1) / 2
    matrix = np.array(
        [
            [cosine, -sine, center_x - 0.5 - cosine * half + sine * half],
            [sine, cosine, center_y - 0.5 - sine * half - cosine * half],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    upright = cv2.warpAffine(image, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return _downscale_to_training_resolution(np.asarray(upright, np.uint8), training_resolution_px)


def _downscale_to_training_resolution(face: Image, training_resolution_px: int) -> Image:
    """Reduce a face to the resolution of the training faces if it is larger."""
    if min(face.shape[:2]) <= training_resolution_px:
        return face
    cv2 = import_cv2()
    side = (training_resolution_px, training_resolution_px)
    return np.asarray(cv2.resize(face, side, interpolation=cv2.INTER_AREA), np.uint8)


def check_face(face: Image) -> None:
    """Check that an array is a face image.

    Raises:
        ValueError: If it is empty, or not uint8 of shape (height, width) or (height, width, 3).
    """
    check_image(face, "a face")


def _clamped_range(start: int, length: int, limit: int) -> npt.NDArray[np.intp]:
    return np.clip(np.arange(start, start + length), 0, limit - 1)
