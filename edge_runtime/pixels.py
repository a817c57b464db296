"""Convert decoded pixels of any depth, with or without transparency, to 8-bit RGB."""

from typing import Any

import numpy as np
import numpy.typing as npt

WHITE, BLACK = 255, 0
DEPTHS = (8, 10, 12, 14, 16)  # bits per sample of cameras
USUAL_PERCENTILE = 99.9
DARK_RATIO = 64  # an image whose usual peak is this much below its largest value would be black


def to_rgb(pixels: npt.NDArray[Any], max_value: int | None = None) -> npt.NDArray[np.uint8]:
    """Return pixels as 8-bit RGB.

    Transparent pixels are drawn on white, or on black if everything would be white.

    Args:
        pixels: Array (height, width), gray, or (height, width, 1 to 4), in OpenCV's order: gray, gray and alpha, BGR, BGR and
            alpha.
        max_value: Value of white that the file states. None: from the type of the array, or from the values, see to_8_bit.

    Returns:
        uint8 array (height, width, 3).

    Raises:
        ValueError: If the array has another shape.
    """
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.ndim not in (2, 3) or not 1 <= channels <= 4:
        raise ValueError(f"an image has 1 to 4 channels. Received: shape {pixels.shape}")
    planes = pixels.reshape(*pixels.shape[:2], channels)
    has_alpha = channels in (2, 4)
    color = to_8_bit(planes[:, :, : channels - has_alpha], max_value)
    rgb = np.repeat(color, 3, axis=2) if color.shape[2] == 1 else color[:, :, ::-1]
    if has_alpha:
        alpha = to_8_bit(planes[:, :, -1:], _full_scale(planes))
        if alpha.min() < WHITE:
            rgb = _drawn_on(rgb, alpha, WHITE)
            if rgb.min() == WHITE:
                rgb = _drawn_on(color[:, :, ::-1] if channels == 4 else np.repeat(color, 3, axis=2), alpha, BLACK)
    return np.ascontiguousarray(rgb)


def to_8_bit(pixels: npt.NDArray[Any], max_value: int | None = None) -> npt.NDArray[np.uint8]:
    """Scale samples to 0..255.

    Cameras store 10, 12 or 14 bits in files with 16 bits per sample. So without ``max_value``, white is 2^n - 1 for the
    smallest of DEPTHS that holds all values; for floating-point numbers 1, if none is larger.

    Args:
        pixels: Array of any shape and type.
        max_value: Value of white, above 0; None as above. Not needed for uint8.

    Returns:
        uint8 array of the same shape.
    """
    if pixels.dtype == np.uint8 and max_value in (None, WHITE):
        return pixels
    values = np.nan_to_num(np.asarray(pixels, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    peak = float(values.max(initial=0.0))
    if max_value is None and np.issubdtype(pixels.dtype, np.integer) and peak >= DARK_RATIO:
        # Hot pixels of a sensor reach the largest value of the type.
        usual_peak = float(np.percentile(values, USUAL_PERCENTILE))
        peak = usual_peak if 0 < usual_peak * DARK_RATIO < peak else peak
    if max_value is None and np.issubdtype(pixels.dtype, np.floating) and peak <= 1:
        max_value = 1
    white = max_value or next((2**bits - 1 for bits in DEPTHS if peak < 2**bits), peak)
    return np.asarray(np.clip(values * (WHITE / white) + 0.5, 0, WHITE), np.uint8)


def _drawn_on(rgb: npt.NDArray[np.uint8], alpha: npt.NDArray[np.uint8], background: int) -> npt.NDArray[np.uint8]:
    opacity = alpha.astype(np.uint32)
    return np.asarray((rgb * opacity + background * (WHITE - opacity) + WHITE // 2) // WHITE, np.uint8)


def _full_scale(pixels: npt.NDArray[Any]) -> int:
    """Return the value of full opacity for a type."""
    return int(np.iinfo(pixels.dtype).max) if np.issubdtype(pixels.dtype, np.integer) else 1
