"""Synthetic faces: gray cartoons whose parts move by facial action units, for demos and tests without any data.

The action units of each expression follow Ekman and Friesen's Facial Action Coding System (1978) and its EMFACS
prototypes. A network that is good on these faces says nothing of real ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.contract import CANONICAL_LABELS
from fer_edge.edge_runtime.images import Image, import_cv2
from fer_edge.train.dataset import FaceDataset

FACE_SIDE = 48
CANVAS_SIDE = 192  # drawn large, then averaged down: the edges come out smooth
POSES_PER_EXPRESSION = 2
SEED = 20240229

Canvas = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ActionUnits:
    """Strength of each action unit, 0..1."""

    inner_brow_raise: float = 0.0  # AU 1
    outer_brow_raise: float = 0.0  # AU 2
    brow_lower: float = 0.0  # AU 4
    lid_raise: float = 0.0  # AU 5
    cheek_raise: float = 0.0  # AU 6
    lid_tighten: float = 0.0  # AU 7
    nose_wrinkle: float = 0.0  # AU 9
    lip_corner_pull: float = 0.0  # AU 12
    one_sided_dimple: float = 0.0  # AU 14 of one side
    lip_corner_depress: float = 0.0  # AU 15
    chin_raise: float = 0.0  # AU 17
    lip_stretch: float = 0.0  # AU 20
    lip_tighten: float = 0.0  # AU 23
    jaw_drop: float = 0.0  # AU 25, 26


EXPRESSIONS: dict[str, ActionUnits] = {
    "angry": ActionUnits(brow_lower=1, lid_raise=0.4, lid_tighten=0.6, lip_tighten=1),
    "contempt": ActionUnits(one_sided_dimple=1),
    "disgust": ActionUnits(nose_wrinkle=1, brow_lower=0.3, lip_corner_depress=0.6, chin_raise=0.5, lid_tighten=0.6),
    "fear": ActionUnits(inner_brow_raise=1, outer_brow_raise=0.6, brow_lower=0.4, lid_raise=0.9, lip_stretch=1, jaw_drop=0.35),
    "happy": ActionUnits(cheek_raise=0.9, lip_corner_pull=1, jaw_drop=0.2),
    "neutral": ActionUnits(),
    "sad": ActionUnits(inner_brow_raise=1, brow_lower=0.3, lip_corner_depress=1, chin_raise=0.6),
    "surprise": ActionUnits(inner_brow_raise=1, outer_brow_raise=1, lid_raise=1, jaw_drop=1),
}


@dataclass(frozen=True)
class Identity:
    """What stays the same of one person. Lengths are in half face heights, tones in 0..255."""

    width: float
    skin: float
    hair: float
    hairline: float
    brow_thickness: float
    brow_height: float
    eye_distance: float
    eye_size: float
    nose_length: float
    nose_width: float
    mouth_width: float
    mouth_height: float
    lip_tone: float


def random_identity(rng: np.random.Generator) -> Identity:
    """Draw a person at random."""
    return Identity(
        width=rng.uniform(0.70, 0.84),
        skin=rng.uniform(120, 215),
        hair=rng.uniform(15, 80),
        hairline=rng.uniform(-0.82, -0.62),
        brow_thickness=rng.uniform(0.035, 0.075),
        brow_height=rng.uniform(0.17, 0.23),
        eye_distance=rng.uniform(0.29, 0.36),
        eye_size=rng.uniform(0.115, 0.15),
        nose_length=rng.uniform(0.34, 0.44),
        nose_width=rng.uniform(0.10, 0.16),
        mouth_width=rng.uniform(0.25, 0.34),
        mouth_height=rng.uniform(0.48, 0.56),
        lip_tone=rng.uniform(0.55, 0.75),
    )


def draw_face(person: Identity, units: ActionUnits, rng: np.random.Generator, side: int = FACE_SIDE) -> Image:
    """Draw one face with random pose, light and noise.

    Args:
        person: Who.
        units: The expression.
        rng: Source of pose, light and noise.
        side: Side of the image, pixels.

    Returns:
        uint8 array (side, side), gray.
    """
    cv2 = import_cv2()
    canvas = np.full((CANVAS_SIDE, CANVAS_SIDE), rng.uniform(40, 200), np.float32)
    _Drawing(canvas, person, units).draw()
    canvas = _pose(canvas, rng)
    canvas = _light(canvas, rng)
    small = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
    return np.clip(small + rng.normal(0, rng.uniform(1, 5), small.shape), 0, 255).astype(np.uint8)


class _Drawing:
    """Draws with x to the right and y downwards in -1..1, the face's center at 0."""

    def __init__(self, canvas: Canvas, person: Identity, units: ActionUnits) -> None:
        self._cv2 = import_cv2()
        self._canvas = canvas
        self._person = person
        self._units = units

    def draw(self) -> None:
        self._head()
        for side in (-1, 1):
            self._eye(side)
            self._brow(side)
            self._cheek(side)
        self._nose()
        self._frown()
        self._mouth()

    def _pixels(self, points: Points) -> npt.NDArray[np.int32]:
        # OpenCV takes 4 bits of fraction with shift=4.
        return np.round((points * 0.5 + 0.5) * CANVAS_SIDE * 16).astype(np.int32)

    def _fill(self, points: Points, tone: float, alpha: float = 1.0) -> None:
        layer = self._canvas.copy()
        self._cv2.fillPoly(layer, [self._pixels(points)], float(tone), self._cv2.LINE_AA, 4)
        self._blend(layer, alpha)

    def _line(self, points: Points, thickness: float, tone: float, alpha: float = 1.0) -> None:
        layer = self._canvas.copy()
        width = max(1, round(thickness * CANVAS_SIDE / 2))
        self._cv2.polylines(layer, [self._pixels(points)], False, float(tone), width, self._cv2.LINE_AA, 4)
        self._blend(layer, alpha)

    def _blend(self, layer: Canvas, alpha: float) -> None:
        self._canvas += alpha * (layer - self._canvas)

    def _shade(self, x: float, y: float, radius_x: float, radius_y: float, amount: float) -> None:
        """Darken (or brighten, amount < 0) softly around a point."""
        axis = (np.arange(CANVAS_SIDE) + 0.5) / CANVAS_SIDE * 2 - 1
        distance = ((axis[None, :] - x) / radius_x) ** 2 + ((axis[:, None] - y) / radius_y) ** 2
        self._canvas *= (1 - amount * np.exp(-distance)).astype(np.float32)

    def _head(self) -> None:
        person = self._person
        hair = _ellipse(0, -0.03, person.width * 1.12, 0.94)
        self._fill(hair, person.hair)
        jaw = 0.05 * self._units.jaw_drop
        face = _ellipse(0, 0, person.width, 0.92)
        face[:, 1] = np.where(face[:, 1] > 0, face[:, 1] * (1 + jaw), np.maximum(face[:, 1], person.hairline))
        self._fill(face, person.skin)
        self._shade(-person.width, 0.2, 0.3, 0.8, 0.35)
        self._shade(person.width, 0.2, 0.3, 0.8, 0.35)
        self._shade(0, -0.45, 0.5, 0.22, -0.10)

    def _eye(self, side: int) -> None:
        person, units = self._person, self._units
        x, y = side * person.eye_distance, -0.16
        opening = 0.55 + 0.45 * units.lid_raise - 0.22 * units.lid_tighten - 0.25 * units.cheek_raise - 0.1 * units.nose_wrinkle
        height = person.eye_size * max(0.12, opening) * 0.8
        self._shade(x, y - 0.02, person.eye_size * 1.7, person.eye_size * 1.5, 0.42)
        self._fill(_ellipse(x, y, person.eye_size, height), min(235.0, person.skin + 45))
        iris = _ellipse(x, y, person.eye_size * 0.48, person.eye_size * 0.5)
        iris[:, 1] = np.clip(iris[:, 1], y - height, y + height)
        self._fill(iris, 25)
        lid = _arc(x, y, person.eye_size * 1.05, -height)
        self._line(lid, 0.025, 30, 0.9)
        self._line(_arc(x, y, person.eye_size * 0.9, height), 0.014, 60, 0.6)
        if units.cheek_raise:
            for lift in (-0.05, 0.02, 0.09):
                start = x + side * person.eye_size * 1.15
                crow = np.array([[start, y + lift * 0.4], [start + side * 0.09, y + lift]])
                self._line(crow, 0.014, person.skin * 0.5, 0.5 * units.cheek_raise)

    def _brow(self, side: int) -> None:
        person, units = self._person, self._units
        base = -0.16 - person.brow_height
        inner = base - 0.14 * units.inner_brow_raise + 0.12 * units.brow_lower + 0.08 * units.nose_wrinkle
        outer = base + 0.02 - 0.13 * units.outer_brow_raise + 0.02 * units.brow_lower
        middle = (inner + outer) / 2 - 0.05 + 0.03 * units.brow_lower
        gap = 0.10 - 0.045 * units.brow_lower
        x = np.array([gap, (gap + person.eye_distance * 1.55) / 2, person.eye_distance * 1.55]) * side
        curve = _curve(np.column_stack([x, [inner, middle, outer]]))
        self._line(curve, person.brow_thickness, person.hair * 0.9, 0.9)

    def _cheek(self, side: int) -> None:
        person, units = self._person, self._units
        fold = max(units.lip_corner_pull, units.nose_wrinkle, 0.8 * units.one_sided_dimple * (side > 0))
        top = np.array([side * person.nose_width, 0.16])
        bottom = np.array([side * (person.mouth_width + 0.09), person.mouth_height - 0.06])
        middle = (top + bottom) / 2 + [side * 0.06, -0.02]
        self._line(_curve(np.array([top, middle, bottom])), 0.02, person.skin * 0.55, 0.12 + 0.5 * fold)
        self._shade(side * 0.42, 0.16, 0.2, 0.14, -0.08 - 0.14 * units.cheek_raise)

    def _nose(self) -> None:
        person, units = self._person, self._units
        tip = -0.12 + person.nose_length - 0.05 * units.nose_wrinkle
        self._shade(0, 0.0, 0.06, 0.26, -0.14)
        for side in (-1, 1):
            flank = np.array([[side * 0.05, -0.18], [side * 0.06, 0.05], [side * person.nose_width, tip]])
            self._line(_curve(flank), 0.018, person.skin * 0.6, 0.35)
            self._fill(_ellipse(side * person.nose_width * 0.55, tip + 0.02, 0.035, 0.022), person.skin * 0.35)
            for step in range(3):
                y = -0.08 + 0.05 * step
                wrinkle = np.array([[side * 0.03, y], [side * 0.11, y - 0.04]])
                self._line(wrinkle, 0.014, person.skin * 0.5, 0.7 * units.nose_wrinkle)

    def _frown(self) -> None:
        person, units = self._person, self._units
        for side in (-1, 1):
            crease = np.array([[side * 0.04, -0.46], [side * 0.05, -0.3]])
            self._line(crease, 0.016, person.skin * 0.5, 0.7 * units.brow_lower)
        raised = min(units.inner_brow_raise, units.outer_brow_raise + 0.4)
        for y in (-0.58, -0.51):
            line = np.array([[-0.3, y + 0.02], [0.0, y], [0.3, y + 0.02]])
            self._line(_curve(line), 0.014, person.skin * 0.6, 0.5 * raised)

    def _mouth(self) -> None:
        person, units = self._person, self._units
        width = person.mouth_width * (
            1 + 0.28 * units.lip_corner_pull + 0.25 * units.lip_stretch - 0.15 * units.lip_tighten - 0.2 * units.jaw_drop
        )
        y = person.mouth_height - 0.03 * units.chin_raise
        bend = 0.13 * units.lip_corner_pull - 0.12 * units.lip_corner_depress - 0.03 * units.lip_stretch
        corners = [bend, bend + 0.12 * units.one_sided_dimple]
        opening = 0.26 * units.jaw_drop + 0.02 * units.lip_corner_pull
        thickness = 0.05 * (1 - 0.6 * units.lip_tighten)
        left, right = (np.array([side * width, y - corner]) for side, corner in zip((-1, 1), corners, strict=True))
        upper = _curve(np.array([left, [0, y + 0.3 * bend - 0.25 * opening], right]))
        lower = _curve(np.array([left, [0, y + 0.3 * bend + 0.9 * opening + 0.01], right]))
        lips = person.skin * person.lip_tone
        self._fill(np.concatenate([upper - [0, thickness], (lower + [0, thickness * 1.2])[::-1]]), lips)
        self._fill(np.concatenate([upper, lower[::-1]]), 30)
        if opening > 0.04 and units.jaw_drop < 0.8:
            teeth = upper + [0, min(0.06, opening * 0.4)]
            self._fill(np.concatenate([upper, teeth[::-1]]), 225)
        self._line(upper, 0.018, 45, 0.8)
        self._shade(0, person.mouth_height + 0.17, 0.18, 0.05, 0.16 + 0.2 * units.chin_raise)


def _ellipse(x: float, y: float, radius_x: float, radius_y: float) -> Points:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.column_stack([x + radius_x * np.cos(angle), y + radius_y * np.sin(angle)])


def _arc(x: float, y: float, radius_x: float, height: float) -> Points:
    angle = np.linspace(0, np.pi, 24)
    return np.column_stack([x + radius_x * np.cos(angle), y + height * np.sin(angle)])


def _curve(points: Points) -> Points:
    """Return a smooth curve through three points."""
    t = np.linspace(0, 1, 24)[:, None]
    middle = 2 * points[1] - 0.5 * (points[0] + points[2])
    return (1 - t) ** 2 * points[0] + 2 * t * (1 - t) * middle + t**2 * points[2]


def _pose(canvas: Canvas, rng: np.random.Generator) -> Canvas:
    cv2 = import_cv2()
    center = CANVAS_SIDE / 2
    matrix = cv2.getRotationMatrix2D((center, center), rng.normal(0, 5), rng.uniform(0.95, 1.12))
    matrix[0, 1] += rng.normal(0, 0.04)
    matrix[:, 2] += rng.normal(0, 0.025 * CANVAS_SIDE, 2)
    turned = cv2.warpAffine(canvas, matrix, (CANVAS_SIDE, CANVAS_SIDE), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(turned, np.float32)


def _light(canvas: Canvas, rng: np.random.Generator) -> Canvas:
    axis = np.linspace(-1, 1, CANVAS_SIDE, dtype=np.float32)
    slope_x, slope_y = rng.normal(0, 0.14, 2)
    gain = 1 + slope_x * axis[None, :] + slope_y * axis[:, None]
    return np.asarray((canvas * gain) * rng.uniform(0.75, 1.15) + rng.uniform(-10, 15), np.float32)


def synthetic_faces(identities: int = 60, progress: Callable[[int, int], None] | None = None) -> FaceDataset:
    """Draw a dataset: every person with every expression, in several poses. The same every time.

    Args:
        identities: Number of people.
        progress: Called with (faces drawn, faces in all).

    Returns:
        identities x 8 x 2 faces, 48 x 48 gray, with their subjects.
    """
    rng = np.random.default_rng(SEED)
    total = identities * len(CANONICAL_LABELS) * POSES_PER_EXPRESSION
    ids, images, targets, subjects = [], [], [], []
    for number in range(identities):
        person = random_identity(rng)
        for target, label in enumerate(CANONICAL_LABELS):
            for pose in range(POSES_PER_EXPRESSION):
                strength = rng.uniform(0.65, 1.0)
                units = ActionUnits(*(strength * getattr(EXPRESSIONS[label], field.name) for field in fields(ActionUnits)))
                images.append(draw_face(person, units, rng))
                ids.append(f"{label}/P{number:03d}_{pose}.png")
                targets.append(target)
                subjects.append(f"P{number:03d}")
                if progress:
                    progress(len(ids), total)
    return FaceDataset(
        name="synthetic",
        labels=CANONICAL_LABELS,
        ids=tuple(ids),
        images=tuple(images),
        targets=np.array(targets, np.int64),
        subjects=tuple(subjects),
        official_split=(None,) * len(ids),
    )


def synthetic_image(label: str, seed: int = 0, width: int = 640, height: int = 480, face_side: int = 240) -> Image:
    """Draw a whole image with one face in it, for demos and tests of detection.

    Args:
        label: The face's expression, one of CANONICAL_LABELS.
        seed: Seed of person, pose and light.
        width: Width of the image, pixels.
        height: Height, pixels.
        face_side: Side of the drawn face, pixels.

    Returns:
        uint8 array (height, width, 3), RGB; the face is in its middle.
    """
    cv2 = import_cv2()
    rng = np.random.default_rng(seed)
    person = replace(random_identity(rng), skin=190.0)
    face = draw_face(person, EXPRESSIONS[label], rng, face_side)
    rows, columns = np.mgrid[0:height, 0:width]
    image = (120 + 40 * rows / height + 20 * np.sin(columns / 60)).astype(np.float32)
    top, left = (height - face_side) // 2, (width - face_side) // 2
    oval = np.zeros((face_side, face_side), np.float32)
    middle = (face_side // 2, face_side // 2)
    cv2.ellipse(oval, middle, (int(face_side * 0.44), int(face_side * 0.49)), 0, 0, 360, 1.0, -1)
    oval = cv2.GaussianBlur(oval, (0, 0), face_side / 60)
    patch = image[top : top + face_side, left : left + face_side]
    patch += oval * (face - patch)
    return np.repeat(np.clip(image, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
