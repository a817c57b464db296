"""Modes of the sensor of a Raspberry Pi camera. Many modes read only the middle of the sensor."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

# Such as "1640x1232 [41.85 fps - (0, 0)/3280x2464 crop]", after "'SRGGB10_CSI2P' : " in the first line of its format.
LISTED_MODE = re.compile(
    r"(?:'[A-Z]+(?P<depth>\d+)\w*' : )?(?P<width>\d+)x(?P<height>\d+) "
    r"\[(?P<fps>[\d.]+) fps - \(\d+, \d+\)/(?P<crop_width>\d+)x(?P<crop_height>\d+) crop\]"
)
MAX_BIT_DEPTH = 12  # more is a mode with high dynamic range, whose frames combine several exposures
MIN_FRAME_RATE = 0.99  # of the requested one: 29.97 is enough for 30


@dataclass(frozen=True)
class SensorMode:
    """A mode of a sensor.

    Attributes:
        size: Width and height of its images, pixels.
        bit_depth: Bits per pixel.
        crop: Width and height of the part of the sensor that it reads, pixels of the sensor.
        fps: Its maximum frame rate.
    """

    size: tuple[int, int]
    bit_depth: int
    crop: tuple[int, int]
    fps: float


def choose_mode(modes: Iterable[SensorMode], frame_size: tuple[int, int], fps: float) -> SensorMode | None:
    """Return the mode with the widest view at a frame rate; of several, the one with the fewest pixels.

    libcamera prefers the mode whose size is nearest to that of the frames. For frames of 640x480, it reads 39 % of the width of
    a Camera Module 2.

    Args:
        modes: The modes of the sensor.
        frame_size: Width and height of the frames, pixels. Modes that are smaller count only if no other has the view.
        fps: Requested frame rate. If no mode reaches it, the rate does not count.

    Returns:
        The mode; None if there are none.
    """

    def key(mode: SensorMode) -> tuple[float, ...]:
        width, height = mode.size
        return (
            mode.fps >= MIN_FRAME_RATE * fps,
            round(mode.crop[0] * mode.crop[1] / widest, 1),
            width >= frame_size[0] and height >= frame_size[1],
            -width * height,
            mode.bit_depth <= MAX_BIT_DEPTH,
            mode.bit_depth,
        )

    usable = [mode for mode in modes if min(mode.crop) > 0]
    widest = max((mode.crop[0] * mode.crop[1] for mode in usable), default=0)
    return max(usable, key=key, default=None)


def read_listing(listing: str) -> list[SensorMode]:
    """Return the modes of the first camera in the output of ``rpicam-vid --list-cameras``.

    Args:
        listing: The output. Releases before 2023 list no crops, which gives no modes.
    """
    first_camera = re.split(r"^1 : ", listing, maxsplit=1, flags=re.MULTILINE)[0]
    modes, depth = [], 0
    for match in LISTED_MODE.finditer(first_camera):
        depth = int(match["depth"] or depth)
        size, crop = (int(match["width"]), int(match["height"])), (int(match["crop_width"]), int(match["crop_height"]))
        modes.append(SensorMode(size, depth, crop, float(match["fps"])))
    return modes
