"""The sets of images of the detection benchmark: portraits, crops, drawn scenes with pasted faces, photos, no faces."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from fer_edge.benchmarks.marked_images import MarkedFace, MarkedImage
from fer_edge.benchmarks.portraits import Portrait
from fer_edge.benchmarks.synthetic_scenes import (
    SIZE,
    LabeledCrop,
    add_noise,
    background,
    box_of,
    face_free_images,
    paste,
    to_gray,
)
from fer_edge.edge_runtime.crop import Box
from fer_edge.edge_runtime.images import Image, import_cv2

SIDES_PX = (60, 300)  # of the faces in scenes
MAX_DEGREES = 15.0
TURNED_DEGREES = 30.0
DARK_GAIN = 0.12  # of the light in dark scenes
DARK_NOISE = 4.0
MANY_FACES = (2, 6)  # faces in a scene with several
MANY_SIDES_PX = (60, 140)
FACE_FREE_IMAGES = 300
# Medians of the first Haar cascade over the portraits of the development set: center and side, of the portrait's side.
PORTRAIT_CENTER = (0.5, 0.49)
PORTRAIT_SIDE = 0.84
TIGHT_SCALES = (1.0, 1.2)  # sides of a tight crop, as multiples of that box
SCENES = ("faces", "turned 30 degrees", "half covered", "dark", "several faces")


def scene_sets(crops: Sequence[LabeledCrop], count: int, condition_count: int) -> dict[str, list[MarkedImage]]:
    """Return scenes of pasted face crops.

    Args:
        crops: Face crops, chosen in a fixed random order without replacement.
        count: Number of scenes with one face and no condition.
        condition_count: Number of scenes per condition.
    """
    order = np.random.default_rng(0).permutation(len(crops)).tolist()
    sets = {}
    for number, name in enumerate(SCENES):
        length = condition_count if number else count
        sets[name] = [_scene(name, [crops[order[(k + j * length) % len(order)]] for j in range(6)], k) for k in range(length)]
    return sets


def _scene(name: str, crops: Sequence[LabeledCrop], seed: int) -> MarkedImage:
    """Return one scene. Its places are chosen now, its pixels are drawn when they are read."""
    rng = np.random.default_rng([SCENES.index(name), seed])
    if name == "several faces":
        boxes = _places(rng, int(rng.integers(MANY_FACES[0], MANY_FACES[1] + 1)), MANY_SIDES_PX)
    else:
        boxes = _places(rng, 1, SIDES_PX)
    limit = TURNED_DEGREES if name == "turned 30 degrees" else MAX_DEGREES
    degrees = [float(rng.choice([-limit, limit]) if limit > MAX_DEGREES else rng.uniform(-limit, limit)) for _ in boxes]
    used = crops[: len(boxes)]
    faces = tuple(MarkedFace(box, (), crop.label) for box, crop in zip(boxes, used, strict=True))
    return MarkedImage(f"{name} {seed}", partial(_draw, name, used, boxes, degrees, seed), faces)


def _places(rng: np.random.Generator, count: int, sides: tuple[int, int]) -> list[Box]:
    """Return random boxes in a scene that do not touch; fewer than ``count`` if there is no room."""
    boxes: list[Box] = []
    for _ in range(20 * count):
        side = float(np.exp(rng.uniform(*np.log(sides))))
        x, y = (float(rng.uniform(side / 2, length - side / 2)) for length in SIZE)
        box = box_of((x, y), side)
        apart = all(
            abs(x - bx - bw / 2) > (side + bw) * 0.6 or abs(y - by - bh / 2) > (side + bh) * 0.6 for bx, by, bw, bh in boxes
        )
        if apart:
            boxes.append(box)
        if len(boxes) == count:
            break
    return boxes


def _draw(name: str, crops: Sequence[LabeledCrop], boxes: Sequence[Box], degrees: Sequence[float], seed: int) -> Image:
    rng = np.random.default_rng([SCENES.index(name), seed, 1])
    scene = background(rng)
    for crop, (x, y, side, _), angle in zip(crops, boxes, degrees, strict=True):
        face = half_covered(crop.face, rng) if name == "half covered" else crop.face
        scene = paste(scene, face, (x + side / 2, y + side / 2), side, angle)
    if name == "dark":
        scene = add_noise(np.asarray(scene * DARK_GAIN, np.uint8), DARK_NOISE, rng)
    return _rgb(scene)


def half_covered(face: Image, rng: np.random.Generator) -> Image:
    """Return a face of which one half is covered by a plain surface: the lower, the left or the right one.

    Args:
        face: uint8 array (height, width), gray.
        rng: Random number generator.
    """
    covered = face.copy()
    height, width = face.shape
    half = int(rng.integers(3))
    rows = slice(height // 2, None) if half == 0 else slice(None)
    columns = (slice(None), slice(width // 2), slice(width // 2, None))[half]
    covered[rows, columns] = int(rng.integers(40, 216))
    return covered


def portrait_sets(portraits: Sequence[Portrait], heads: int) -> dict[str, list[MarkedImage]]:
    """Return portraits, tight crops of them, and scenes with their heads.

    Args:
        portraits: Portraits that a head fills, as in the development set.
        heads: Number of scenes with a head.
    """
    rng = np.random.default_rng(0)
    scales = rng.uniform(*TIGHT_SCALES, len(portraits)).tolist()
    chosen = rng.permutation(len(portraits))[:heads].tolist()
    return {
        "portraits": [_portrait(portrait, None) for portrait in portraits],
        "tight crops": [_portrait(portrait, scale) for portrait, scale in zip(portraits, scales, strict=True)],
        "heads": [_head_scene(portraits[index], seed) for seed, index in enumerate(chosen)],
    }


def _portrait(portrait: Portrait, tight_scale: float | None) -> MarkedImage:
    """Return a portrait or its tight crop, with the usual box as the mark."""
    image = portrait.read()
    box = _portrait_box(image)
    if tight_scale is None:
        return MarkedImage(portrait.name, portrait.read, (MarkedFace(box, (), portrait.label),))
    x, y, side, _ = box
    half = side * tight_scale / 2
    left, top = (max(0, round(start + side / 2 - half)) for start in (x, y))
    right, bottom = round(x + side / 2 + half), round(y + side / 2 + half)
    face = MarkedFace((x - left, y - top, side, side), (), portrait.label)
    return MarkedImage(portrait.name, partial(_cut, portrait, (left, top, right, bottom)), (face,))


def _cut(portrait: Portrait, corners: Sequence[int]) -> Image:
    left, top, right, bottom = corners
    return portrait.read()[top:bottom, left:right].copy()


def _portrait_box(image: Image) -> Box:
    height, width = image.shape[:2]
    side = min(height, width)
    return box_of((PORTRAIT_CENTER[0] * width, PORTRAIT_CENTER[1] * height), PORTRAIT_SIDE * side)


def _head_scene(portrait: Portrait, seed: int) -> MarkedImage:
    rng = np.random.default_rng([len(SCENES), seed])
    (box,) = _places(rng, 1, SIDES_PX)
    degrees = float(rng.uniform(-MAX_DEGREES, MAX_DEGREES))
    face = MarkedFace(box, (), portrait.label)
    return MarkedImage(f"head {seed}", partial(_draw_head, portrait, box, degrees, seed), (face,))


def _draw_head(portrait: Portrait, box: Box, degrees: float, seed: int) -> Image:
    rng = np.random.default_rng([len(SCENES), seed, 1])
    x, y, side, _ = box
    head = side / PORTRAIT_SIDE
    # The face is the box, so that the head is slightly lower than its center.
    center = x + side / 2 + (0.5 - PORTRAIT_CENTER[0]) * head, y + side / 2 + (0.5 - PORTRAIT_CENTER[1]) * head
    gray = to_gray(portrait.read())
    square = gray[: min(gray.shape), : min(gray.shape)]
    return _rgb(paste(background(rng), square, center, head, degrees, oval=True))


def face_free_sets(photos: Sequence[MarkedImage]) -> dict[str, list[MarkedImage]]:
    """Return drawn images without a face, and the photos without one.

    Args:
        photos: Marked photos; those with faces or ignored areas are left out.
    """
    empty = [photo for photo in photos if not photo.faces and not photo.ignored_px]
    return {"drawn, no face": drawn_face_free(FACE_FREE_IMAGES)} | ({"photos, no face": empty} if empty else {})


def drawn_face_free(count: int) -> list[MarkedImage]:
    """Return drawn images without a face.

    Args:
        count: Number of images; fewer are the first ones of more.
    """
    return [MarkedImage(f"drawn {k}", partial(_given, image)) for k, image in enumerate(face_free_images(count))]


def _given(image: Image) -> Image:
    return image


def _rgb(gray: Image) -> Image:
    return np.asarray(import_cv2().cvtColor(gray, import_cv2().COLOR_GRAY2RGB), np.uint8)
