"""Pictures and clips made of face crops: pasted at any size, place and angle into drawn backgrounds."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from fer_edge.edge_runtime.crop import Box
from fer_edge.edge_runtime.detectors.detector import largest_box, open_detector
from fer_edge.edge_runtime.images import IMAGE_SUFFIXES, Image, decode_image, import_cv2, read_image

SIZE = (640, 480)


@dataclass(frozen=True)
class LabeledCrop:
    """A face crop of a dataset.

    Attributes:
        name: Its path.
        label: The name of its folder.
        face: uint8 array (side, side), gray.
    """

    name: str
    label: str
    face: Image


def read_crops(path: Path, part: str, labels: tuple[str, ...]) -> list[LabeledCrop]:
    """Read face crops from class folders in a folder or a zip file.

    Args:
        path: Folder or zip.
        part: Only below a folder of this name; everywhere where empty.
        labels: Only class folders of these names.

    Raises:
        FileNotFoundError: If there is nothing at ``path``.
        ValueError: If no picture fits.
    """
    cv2 = import_cv2()
    crops = []
    for name, data in _files(path):
        where = PurePosixPath(name)
        fits = where.parent.name in labels and (not part or part in where.parts)
        if fits and where.suffix.lower() in IMAGE_SUFFIXES:
            gray = np.asarray(cv2.cvtColor(decode_image(data, name), cv2.COLOR_RGB2GRAY), np.uint8)
            crops.append(LabeledCrop(name, where.parent.name, gray))
    if not crops:
        raise ValueError(f"no pictures in folders named {', '.join(labels)} below '{part}' in '{path}'")
    return crops


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file():
                yield file.relative_to(path).as_posix(), file.read_bytes()
        return
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        for name in sorted(archive.namelist()):
            if not name.endswith("/"):
                yield name, archive.read(name)


def read_face(path: Path) -> Image:
    """Read the face of a picture, gray and square: what the Haar detector finds in it, or all of it where that is nothing."""
    picture = read_image(path)
    gray = np.asarray(import_cv2().cvtColor(picture, import_cv2().COLOR_RGB2GRAY), np.uint8)
    box = largest_box(open_detector("haar").detect(picture))
    if box is None:
        side = min(gray.shape)
        return np.ascontiguousarray(gray[:side, :side])
    x, y, side, _ = box
    margin = min(side // 8, x, y)  # a little of what is around it: hair, chin
    return np.ascontiguousarray(gray[y - margin : y + side + margin, x - margin : x + side + margin])


def background(rng: np.random.Generator, size: tuple[int, int] = SIZE) -> Image:
    """Draw a room of a kind: soft light, some shapes with edges, sensor noise; (height, width), gray."""
    cv2 = import_cv2()
    width, height = size
    light = rng.integers(50, 206, (5, 7), dtype=np.uint8)
    scene = np.asarray(cv2.resize(light, size, interpolation=cv2.INTER_CUBIC))
    for _ in range(int(rng.integers(3, 9))):
        corner = int(rng.integers(0, width)), int(rng.integers(0, height))
        reach = int(rng.integers(20, width // 2)), int(rng.integers(20, height // 2))
        shade = int(rng.integers(30, 226))
        if rng.random() < 0.5:
            cv2.rectangle(scene, corner, (corner[0] + reach[0], corner[1] + reach[1]), shade, -1)
        else:
            cv2.ellipse(scene, corner, (reach[0] // 2, reach[1] // 2), float(rng.integers(0, 180)), 0, 360, shade, -1)
    return noisy(np.asarray(cv2.GaussianBlur(scene, (0, 0), 1.5), np.uint8), 3.0, rng)


def noisy(picture: Image, sigma: float, rng: np.random.Generator) -> Image:
    """Return a copy with a sensor's noise: Gaussian, standard deviation ``sigma`` of 255 steps."""
    noise = rng.standard_normal(picture.shape, np.float32) * sigma
    return np.asarray(np.clip(picture + noise, 0, 255), np.uint8)


def paste(scene: Image, face: Image, centre: tuple[float, float], side: float, degrees: float) -> Image:
    """Return the scene with a face crop in it, ``side`` pixels long and turned clockwise; its rim fades out.

    Args:
        scene: uint8 (height, width), gray.
        face: uint8 (n, n), gray.
        centre: Middle of the face, pixels.
        side: Side of the crop in the scene, pixels.
        degrees: Angle.
    """
    cv2 = import_cv2()
    reach = side * 0.75 + 2  # half a diagonal and a little
    left, top = (max(0, int(middle - reach)) for middle in centre)
    right, bottom = (min(length, int(middle + reach)) for middle, length in zip(centre, scene.shape[::-1], strict=True))
    size = right - left, bottom - top
    length = face.shape[0]
    matrix = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), -degrees, side / length)
    matrix[:, 2] += np.array(centre) - (left + length / 2, top + length / 2)
    rim = np.zeros((length, length), np.float32)
    cv2.rectangle(rim, (1, 1), (length - 2, length - 2), 1.0, -1)
    cover: npt.NDArray[np.float32] = cv2.warpAffine(cv2.GaussianBlur(rim, (0, 0), 0.7), matrix, size)
    pasted = cv2.warpAffine(face, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    result = scene.copy()
    area = result[top:bottom, left:right]
    area[:] = np.round(area * (1 - cover) + pasted * cover)
    return result


def box_of(centre: tuple[float, float], side: float) -> Box:
    """Return the upright box of a pasted face."""
    return round(centre[0] - side / 2), round(centre[1] - side / 2), round(side), round(side)


def write_clip(path: Path, face: Image, frames: int, seed: int = 0, frames_per_second: float = 30.0) -> None:
    """Write a 640 x 480 clip in which one face moves about, nods and comes nearer.

    Args:
        path: An .mp4 or .avi file.
        face: uint8 (n, n), gray: the face's crop.
        frames: How many.
        seed: Of the background and its noise.
        frames_per_second: Its rate.

    Raises:
        OSError: If it cannot be written.
    """
    cv2 = import_cv2()
    rng = np.random.default_rng(seed)
    scene = background(rng)
    codec = "MJPG" if path.suffix.lower() == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), frames_per_second, SIZE)
    if not writer.isOpened():
        raise OSError(f"cannot write the clip '{path}'")
    for number in range(frames):
        turn = number / 60
        centre = 320 + 150 * np.sin(turn), 240 + 60 * np.sin(2.3 * turn)
        picture = paste(scene, face, centre, 170 + 40 * np.sin(0.7 * turn), 8 * np.sin(1.7 * turn))
        writer.write(cv2.cvtColor(noisy(picture, 3.0, rng), cv2.COLOR_GRAY2BGR))
    writer.release()
