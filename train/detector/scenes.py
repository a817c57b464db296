"""Draw training scenes: photos cut at any scale, and faces and heads blended into images without faces."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.detector_run import SceneMix
from fer_edge.edge_runtime.images import Image, import_cv2
from fer_edge.train.detector.drawing import (
    Floats,
    Placement,
    Random,
    lower_quality,
    map_points,
    relight,
    soft_mask,
    texture,
    warp,
    warp_matrix,
)
from fer_edge.train.detector.sources import Sources

FRAME_SHAPES = (4 / 3, 1.0, 5 / 4, None)  # width / height of a camera's image; None: any
FRAME_SHARES = (0.5, 0.25, 0.1, 0.15)  # of the scenes
SIDES_PX = (13.0, 120.0)  # of a face in a scene with one, pixels of the input
CROWD_SIDES_PX = (13.0, 64.0)
MAX_ANGLE = 0.7  # radians
PROFILE_EYE_DISTANCE = 0.25  # in sides of the box; eyes nearer to each other belong to a face turned sideways
PROFILE_SHARE = 0.35  # of the scenes from photos show a face turned sideways, where photos have some
DEFAULT_MIX = SceneMix()


@dataclass
class Scene:
    """A drawn scene.

    Attributes:
        image: uint8 array (height, width), gray; float32 while it is drawn.
        visible: x, y, width and height of the part that is not padding, pixels.
        faces: Center x and y, side, eyes (x, y twice; NaN where unknown) per face, pixels.
        ignored: x, y, width, height per region that may show a face, pixels.
    """

    image: npt.NDArray[Any]
    visible: tuple[int, int, int, int]
    faces: list[Floats] = field(default_factory=list)
    ignored: list[Floats] = field(default_factory=list)


class SceneArtist:
    """Draws scenes from packed sources.

    Args:
        sources: The images.
        size: Height and width of a scene, pixels.
        validation: Whether to use the images kept for validation, else those for training.
        mix: Shares of the kinds of scenes.
        hard: Mined false detections, gray images; drawn more often than other backgrounds.
    """

    def __init__(
        self,
        sources: Sources,
        size: tuple[int, int],
        validation: bool = False,
        mix: SceneMix = DEFAULT_MIX,
        hard: tuple[Image, ...] = (),
    ) -> None:
        self._sources, self._size, self._hard = sources, size, hard
        self._mix = mix
        indices = {role: sources.indices(role, validation) for role in ("portraits", "faces", "backgrounds", "garments")}
        photos = sources.indices("photos", validation)
        self._photos = np.array([index for index in photos if len(sources.faces_of(index))], np.int64)
        self._profiles = profiles_of(sources, self._photos)
        empty = [index for index in photos if not len(sources.faces_of(index)) and not len(sources.ignored_of(index))]
        portraits = [index for index in indices["portraits"] if len(sources.faces_of(index)) == 1]
        self._heads, self._crops = np.array(portraits, np.int64), indices["faces"]
        self._garments = indices["garments"]
        self._backgrounds = np.concatenate([indices["backgrounds"], indices["garments"], np.array(empty, np.int64)])

    def draw(self, rng: Random) -> Scene:
        """Draw one scene.

        Args:
            rng: Source of randomness; equal states draw equal scenes.
        """
        height, width = self._size
        left, top, visible_width, visible_height = self._frame(rng)
        scene = Scene(np.zeros((height, width), np.float32), (left, top, visible_width, visible_height))
        kind = rng.random()
        mix = self._mix
        if kind < mix.close and len(self._heads) + len(self._crops):
            self._draw_close(scene, rng)
        elif kind < mix.close + mix.photo and len(self._photos):
            self._draw_photo(scene, rng)
        elif kind < mix.close + mix.photo + mix.person and len(self._garments) and len(self._heads):
            self._draw_person(scene, rng)
        else:
            self._draw_background(scene, rng)
            count = int(rng.choice([0, 1, 1, 1, 2, 3, 4]))
            for _ in range(count):
                self._add_face(scene, rng, SIDES_PX if count == 1 else CROWD_SIDES_PX)
        if kind >= mix.close:
            for _ in range(rng.integers(0, 3)):
                self._add_decoy(scene, rng)
        if scene.faces and rng.random() < 0.15:
            self._cover(scene, rng)
        self._finish(scene, rng)
        return scene

    def _frame(self, rng: Random) -> tuple[int, int, int, int]:
        """Return the part of the scene that the letterbox of a camera image leaves."""
        height, width = self._size
        shape = FRAME_SHAPES[int(rng.choice(len(FRAME_SHAPES), p=FRAME_SHARES))]
        ratio = shape or float(np.exp(rng.uniform(np.log(0.6), np.log(1.9))))
        visible = (width, int(width / ratio)) if width / ratio <= height else (int(height * ratio), height)
        return (width - visible[0]) // 2, (height - visible[1]) // 2, *visible

    def _draw_background(self, scene: Scene, rng: Random, zoom: float = 0.25) -> None:
        """Fill the visible part with a random part of an image without faces, or a texture."""
        left, top, width, height = scene.visible
        if rng.random() < 0.12 or not len(self._backgrounds):
            part: Image = texture(rng, height, width)
        else:
            part = self._part(rng, height, width, zoom)
        pixels = relight(part, rng)
        if rng.random() < 0.3:
            pixels = np.asarray(import_cv2().GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 2)), np.float32)
        scene.image[top : top + height, left : left + width] = pixels

    def _part(self, rng: Random, height: int, width: int, zoom: float) -> Image:
        """Return a random part of a random background, resized to height x width."""
        cv2 = import_cv2()
        hard = len(self._hard) > 0 and rng.random() < self._mix.hard
        image = self._hard[rng.integers(len(self._hard))] if hard else self._pick(rng, self._backgrounds)
        factor = float(np.exp(rng.uniform(np.log(0.6 if hard else zoom), 0)))
        part_width = min(image.shape[1], image.shape[0] * width / height) * factor
        part_height = part_width * height / width
        x, y = rng.uniform(0, image.shape[1] - part_width), rng.uniform(0, image.shape[0] - part_height)
        part = image[int(y) : int(y + part_height) + 1, int(x) : int(x + part_width) + 1]
        way = cv2.INTER_AREA if width < part_width else cv2.INTER_LINEAR
        resized = np.asarray(cv2.resize(part, (width, height), interpolation=way), np.uint8)
        return resized[:, ::-1] if rng.random() < 0.5 else resized

    def _pick(self, rng: Random, indices: npt.NDArray[np.int64]) -> Image:
        return self._sources.image(int(indices[rng.integers(len(indices))]))

    def _source(self, rng: Random, heads_only: bool = False) -> tuple[Image, Floats, bool]:
        """Return a face to draw: its image, box and eyes (8 numbers), and whether it shows a whole head."""
        head = len(self._heads) > 0 and (heads_only or not len(self._crops) or rng.random() < 0.5)
        indices = self._heads if head else self._crops
        index = int(indices[rng.integers(len(indices))])
        image, face = self._sources.image(index), self._sources.faces_of(index)[0].copy()
        if rng.random() < 0.5:
            image = image[:, ::-1]
            width = image.shape[1]
            face[0] = width - face[0] - face[2]
            face[4:] = width - face[6], face[7], width - face[4], face[5]
        return image, face, head

    def _add_face(self, scene: Scene, rng: Random, sides: tuple[float, float], place: Placement | None = None) -> None:
        """Blend a face into the scene, where it covers no other."""
        image, face, head = self._source(rng, heads_only=place is not None)
        place = place or self._free_place(scene, rng, sides)
        if place is None:
            return
        matrix = warp_matrix(face[:4], place)
        mask = warp(soft_mask(rng, image.shape, head), matrix, self._size, import_cv2().BORDER_CONSTANT)
        drawn = relight(warp(image, matrix, self._size, import_cv2().BORDER_REPLICATE), rng, 0.8)
        inside = mask > 0.5
        if rng.random() < 0.7 and inside.sum() > 4:  # near the brightness of its surroundings
            drawn = np.clip(drawn + (scene.image[inside].mean() - drawn[inside].mean()) * rng.uniform(0, 0.8), 0, 255)
        scene.image[:] = scene.image * (1 - mask) + drawn * mask
        self._append(scene, face, matrix, place)

    def _append(self, scene: Scene, face: Floats, matrix: npt.NDArray[np.float64], place: Placement) -> None:
        side = place.side * np.sqrt(place.aspect)
        eyes = map_points(face[4:].reshape(2, 2), matrix).reshape(-1)
        scene.faces.append(np.array([place.x, place.y, side, *eyes], np.float32))
        scene.ignored = [
            box
            for box in scene.ignored
            if abs(box[0] + box[2] / 2 - place.x) > (side + box[2]) / 2
            or abs(box[1] + box[3] / 2 - place.y) > (side + box[3]) / 2
        ]

    def _free_place(self, scene: Scene, rng: Random, sides: tuple[float, float], reach: float = 0.6) -> Placement | None:
        """Return a place that covers no face, None if chance finds none. ``reach`` is half of the drawn width, in sides."""
        left, top, width, height = scene.visible
        side = float(np.exp(rng.uniform(*np.log(sides))))
        margin = 0.35 * side
        x = left + (rng.uniform(margin, width - margin) if width > 2 * margin else width / 2)
        y = top + (rng.uniform(margin, height - margin) if height > 2 * margin else height / 2)
        for other in scene.faces:
            if max(abs(x - other[0]), abs(y - other[1])) <= 0.55 * other[2] + reach * side:
                return None
        angle = float(np.clip(rng.normal(0, 0.24), -MAX_ANGLE, MAX_ANGLE))
        return Placement(x, y, side, angle, float(np.exp(rng.normal(0, 0.06))))

    def _add_decoy(self, scene: Scene, rng: Random) -> None:
        """Blend a part of a background into the scene with the mask of a face, so that a mask is not a sign of a face."""
        if not len(self._backgrounds):
            return
        place = self._free_place(scene, rng, SIDES_PX, reach=0.85)  # it is drawn with its surroundings
        if place is None:
            return
        image, head = self._part(rng, 96, 96, 0.25), rng.random() < 0.5
        box = np.array([16, 16, 64, 64] if head else [0, 0, 96, 96], np.float32)
        matrix = warp_matrix(box, place)
        mask = warp(soft_mask(rng, (96, 96), head), matrix, self._size, import_cv2().BORDER_CONSTANT)
        drawn = relight(warp(image, matrix, self._size, import_cv2().BORDER_REPLICATE), rng)
        scene.image[:] = scene.image * (1 - mask) + drawn * mask

    def _draw_close(self, scene: Scene, rng: Random) -> None:
        """Fill the scene with one face: a portrait or a tight crop."""
        cv2 = import_cv2()
        left, top, width, height = scene.visible
        image, face, head = self._source(rng)
        base = min(width, height)
        side = base * (float(np.exp(rng.uniform(np.log(0.5), np.log(1.15)))) if head else rng.uniform(0.82, 1.15))
        x, y = left + width / 2 + rng.normal(0, 0.1) * width, top + height / 2 + rng.normal(0, 0.08) * height
        place = Placement(x, y, side, rng.normal(0, 0.2), float(np.exp(rng.normal(0, 0.1))))
        borders = [cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT]
        if head and side > 0.8 * base:  # a smaller head would be mirrored as a second face
            borders.append(cv2.BORDER_REFLECT_101)
        matrix = warp_matrix(face[:4], place)
        drawn = warp(image, matrix, self._size, borders[rng.integers(len(borders))])
        if rng.random() < 0.35:
            reduced = cv2.resize(drawn, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            drawn = cv2.resize(reduced, self._size[::-1], interpolation=cv2.INTER_LINEAR)
        scene.image[:] = relight(drawn, rng)
        self._append(scene, face, matrix, place)

    def _draw_photo(self, scene: Scene, rng: Random) -> None:
        """Draw a part of a photo in which one of its faces has a random size."""
        left, top, width, height = scene.visible
        if len(self._profiles) and rng.random() < PROFILE_SHARE:
            index, chosen = self._profiles[rng.integers(len(self._profiles))]
        else:
            index = self._photos[rng.integers(len(self._photos))]
            chosen = rng.integers(len(self._sources.faces_of(index)))
        image, faces, ignored = (
            self._sources.image(index),
            self._sources.faces_of(index),
            self._sources.ignored_of(index),
        )
        face = faces[chosen]
        whole = min(width / image.shape[1], height / image.shape[0])
        scale = float(np.exp(rng.uniform(*np.log(SIDES_PX)))) / float(face[2])
        scale = whole if rng.random() < 0.3 else min(scale, 2.0)
        x, y = left + rng.uniform(0.1, 0.9) * width, top + rng.uniform(0.1, 0.9) * height
        if scale <= whole * 1.01:
            x = left + width / 2 + (face[0] + face[2] / 2 - image.shape[1] / 2) * scale
            y = top + height / 2 + (face[1] + face[3] / 2 - image.shape[0] / 2) * scale
        matrix = warp_matrix(face[:4], Placement(x, y, float(face[2]) * scale, rng.normal(0, 0.08)))
        cv2 = import_cv2()
        border = cv2.BORDER_CONSTANT if rng.random() < 0.5 else cv2.BORDER_REPLICATE
        scene.image[:] = relight(warp(image, matrix, self._size, border), rng)
        for row in faces:
            center = map_points(np.array([[row[0] + row[2] / 2, row[1] + row[3] / 2]], np.float32), matrix)[0]
            eyes = map_points(row[4:].reshape(2, 2), matrix).reshape(-1)
            scene.faces.append(np.array([*center, (row[2] + row[3]) / 2 * scale, *eyes], np.float32))
        for box in ignored:
            center = map_points(np.array([[box[0] + box[2] / 2, box[1] + box[3] / 2]], np.float32), matrix)[0]
            scene.ignored.append(np.array([*(center - box[2:] * scale / 2), *(box[2:] * scale)], np.float32))
        if rng.random() < 0.5:
            self._mirror(scene)

    def _mirror(self, scene: Scene) -> None:
        width = self._size[1]
        scene.image[:] = scene.image[:, ::-1].copy()
        for face in scene.faces:
            face[0] = width - face[0]
            face[3:] = width - face[5], face[6], width - face[3], face[4]
        for box in scene.ignored:
            box[0] = width - box[0] - box[2]

    def _draw_person(self, scene: Scene, rng: Random) -> None:
        """Draw a piece of clothing with a head where the collar is."""
        left, top, width, height = scene.visible
        self._draw_background(scene, rng)
        image = self._pick(rng, self._garments)
        wide = float(np.exp(rng.uniform(np.log(0.25), np.log(1.3)))) * width
        scale = wide / image.shape[1]
        x, y = left + rng.uniform(0.25, 0.75) * width, top + rng.uniform(0.45, 1.0) * height
        half = image.shape[1] / 2
        matrix = warp_matrix(np.array([0, 0, 2 * half, 2 * half], np.float32), Placement(x, y, wide, rng.normal(0, 0.06)))
        mask = warp(soft_mask(rng, image.shape, False), matrix, self._size, import_cv2().BORDER_CONSTANT)
        drawn = relight(warp(image, matrix, self._size, import_cv2().BORDER_REPLICATE), rng)
        scene.image[:] = scene.image * (1 - mask) + drawn * mask
        side = wide * rng.uniform(0.22, 0.42)
        collar = y - half * scale + rng.uniform(0.05, 0.2) * image.shape[0] * scale
        place = Placement(x + rng.normal(0, 0.03) * wide, collar - 0.35 * side, side, float(rng.normal(0, 0.15)))
        self._add_face(scene, rng, SIDES_PX, place)

    def _cover(self, scene: Scene, rng: Random) -> None:
        """Cover up to half of a face with a part of a background or a plain area: a mask, a hand, a neighbor."""
        face = scene.faces[rng.integers(len(scene.faces))]
        x, y, side = (float(value) for value in face[:3])
        share = rng.uniform(0.2, 0.5)
        left, top, width, height = {
            0: (x - side / 2, y + side / 2 - share * side, side, share * side),
            1: (x - side / 2, y - side / 2, share * side, side),
            2: (x + side / 2 - share * side, y - side / 2, share * side, side),
        }[int(rng.integers(3))]
        box = [max(0, round(value)) for value in (left, top, left + width, top + height)]
        rows, columns = slice(box[1], box[3]), slice(box[0], box[2])
        target = scene.image[rows, columns]
        if min(target.shape, default=0) < 2:
            return
        if rng.random() < 0.5 or not len(self._backgrounds):
            target[:] = rng.uniform(0, 255)
        else:
            target[:] = self._part(rng, target.shape[0], target.shape[1], 0.25)

    def _finish(self, scene: Scene, rng: Random) -> None:
        image = relight(lower_quality(scene.image, rng), rng, 0.6)
        left, top, width, height = scene.visible
        padding = 0.0 if rng.random() < 0.85 else rng.uniform(0, 255)
        if rng.random() < 0.93:
            outside = np.ones(self._size, bool)
            outside[top : top + height, left : left + width] = False
            image[outside] = padding
        else:
            scene.visible = (0, 0, self._size[1], self._size[0])
        scene.image = image.astype(np.uint8)


def profiles_of(sources: Sources, photos: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the faces turned sideways: those whose eyes are near to each other.

    Args:
        sources: The images.
        photos: Indices of the photos to search.

    Returns:
        int64 array (n, 2): index of the photo, and of the face among its faces.
    """
    rows = []
    for index in photos:
        faces = sources.faces_of(index)
        distances = np.hypot(*(faces[:, 6:8] - faces[:, 4:6]).T) / faces[:, 2]  # NaN where the eyes are not known
        rows += [(index, face) for face in np.flatnonzero(distances < PROFILE_EYE_DISTANCE)]
    return np.array(rows, np.int64).reshape(-1, 2)
