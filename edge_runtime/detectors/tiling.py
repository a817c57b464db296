"""Choose the parts of an image (tiles) that a detector searches in each frame."""

from collections.abc import Sequence

from fer_edge.edge_runtime.crop import Box

MIN_FACE_FRACTION = 0.2  # of a tile's longer side; smaller faces are searched in smaller tiles
MAX_TILES_PER_SIDE = 4  # limits the search time whatever the smallest face
TILES_PER_SEARCH = 3  # per frame, in addition to the full frame, while no face is known
FULL_FRAME_EVERY = 3  # searches while a face is known; the full frame shows new faces of usual size


class TileScheduler:
    """Distributes the tiles of an image over successive frames."""

    def __init__(self) -> None:
        self._next = self._searches = 0

    def next_tiles(
        self, width: int, height: int, min_face_px: int, previous_boxes: Sequence[Box] | None
    ) -> tuple[list[Box], list[Box]]:
        """Return which known faces and which tiles to search in the next frame.

        Args:
            width: Width of the image, pixels.
            height: Height of the image, pixels.
            min_face_px: Side of the smallest face to find, pixels.
            previous_boxes: Boxes in the previous frame. None returns all tiles.

        Returns:
            The boxes around which to search; empty where the tiles cover the image. And the tiles in turn: boxes (x, y,
            width, height) inside the image.
        """
        all_tiles = tiles(width, height, min_face_px)
        if previous_boxes is None or len(previous_boxes) >= len(all_tiles):
            return [], all_tiles
        full_frame, *squares = all_tiles
        self._searches += 1
        if previous_boxes and (not squares or self._searches % FULL_FRAME_EVERY == 0):
            turn = [full_frame]
        else:
            count = min(len(squares), 1 if previous_boxes else TILES_PER_SEARCH)
            turn = [squares[(self._next + k) % len(squares)] for k in range(count)]
            self._next += count
            turn = turn if previous_boxes else [full_frame, *turn]
        return list(previous_boxes), turn


def tiles(width: int, height: int, min_face_px: int) -> list[Box]:
    """Return the full frame and, if faces may be too small in it, squares that overlap by half.

    Args:
        width: Width of the image, pixels.
        height: Height of the image, pixels.
        min_face_px: Side of the smallest face to find, pixels.

    Returns:
        Boxes (x, y, width, height) inside the image. The first one is the full frame.
    """
    full_frame = (0, 0, width, height)
    if min_face_px >= MIN_FACE_FRACTION * max(width, height):
        return [full_frame]
    side = max(min(round(min_face_px / MIN_FACE_FRACTION), width, height), max(width, height) // MAX_TILES_PER_SIDE)

    def starts(length: int) -> list[int]:
        last = max(0, length - side)
        steps = -(-last // max(1, side // 2))
        return [round(last * k / max(1, steps)) for k in range(steps + 1)]

    return [full_frame] + [(x, y, min(side, width), min(side, height)) for y in starts(height) for x in starts(width)]


def expand_box(box: Box, width: int, height: int) -> Box:
    """Return the tile around a face. The face fills a third of its width and height.

    Args:
        box: Box (x, y, width, height) of the face, pixels.
        width: Width of the image, pixels.
        height: Height of the image, pixels.

    Returns:
        Box (x, y, width, height), clipped to the image.
    """
    x, y, w, h = box
    margin = max(w, h)
    left, top = min(max(0, x - margin), width - 1), min(max(0, y - margin), height - 1)
    return left, top, max(1, min(width, x + w + margin) - left), max(1, min(height, y + h + margin) - top)


def iou(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the intersection over union of two boxes, 0..1.

    Args:
        first: Box (x, y, width, height).
        second: Box (x, y, width, height) in the same unit.
    """
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    intersection = max(0, width) * max(0, height)
    union = first[2] * first[3] + second[2] * second[3] - intersection
    return intersection / union if union > 0 else 0.0
