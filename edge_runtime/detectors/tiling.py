"""Which parts of an image a detector looks at: all at first, then around known faces and, in turn, elsewhere."""

from collections.abc import Sequence

from fer_edge.edge_runtime.crop import Box

MIN_FACE_FRACTION = 0.2  # of a part's longer side: smaller faces are looked for in smaller parts
MAX_SQUARES_PER_SIDE = 4  # whatever the smallest face: more would take longer than anybody waits
SQUARES_PER_SEARCH = 3  # at a time beside the whole image, while no face is known
FULL_FRAME_EVERY = 3  # searches, while one is previous_boxes: a new face of usual size shows in the whole image


class TileScheduler:
    """Chooses the parts, and remembers whose turn it is."""

    def __init__(self) -> None:
        self._next = self._searches = 0

    def next_tiles(self, width: int, height: int, min_face_px: int, previous_boxes: Sequence[Box] | None) -> list[Box]:
        """Return the parts to look at in the next frame: around known faces, and the whole image or squares of it in turn.

        Args:
            width: Of the image, pixels.
            height: Of the image, pixels.
            min_face_px: Smallest box that is looked for.
            previous_boxes: Boxes of the frame before; None looks at everything.

        Returns:
            Boxes (x, y, width, height) inside the image; those around known faces first.
        """
        parts = tiles(width, height, min_face_px)
        if previous_boxes is None or len(previous_boxes) >= len(parts):
            return parts
        whole, *squares = parts
        self._searches += 1
        if previous_boxes and (not squares or self._searches % FULL_FRAME_EVERY == 0):
            turn = [whole]
        else:
            count = min(len(squares), 1 if previous_boxes else SQUARES_PER_SEARCH)
            turn = [squares[(self._next + k) % len(squares)] for k in range(count)]
            self._next += count
            turn = turn if previous_boxes else [whole, *turn]
        return [*(expand_box(box, width, height) for box in previous_boxes), *turn]


def tiles(width: int, height: int, min_face_px: int) -> list[Box]:
    """Return the whole image, and where faces may be too small in it, squares that overlap by half."""
    whole = (0, 0, width, height)
    if min_face_px >= MIN_FACE_FRACTION * max(width, height):
        return [whole]
    side = max(min(round(min_face_px / MIN_FACE_FRACTION), width, height), max(width, height) // MAX_SQUARES_PER_SIDE)

    def starts(length: int) -> list[int]:
        last = max(0, length - side)
        steps = -(-last // max(1, side // 2))
        return [round(last * k / max(1, steps)) for k in range(steps + 1)]

    return [whole] + [(x, y, min(side, width), min(side, height)) for y in starts(height) for x in starts(width)]


def expand_box(box: Box, width: int, height: int) -> Box:
    """Return the part of an image around a face, of which that fills a third."""
    x, y, w, h = box
    reach = max(w, h)
    left, top = min(max(0, x - reach), width - 1), min(max(0, y - reach), height - 1)
    return left, top, max(1, min(width, x + w + reach) - left), max(1, min(height, y + h + reach) - top)


def iou(first: Box, second: Box) -> float:
    """Return the intersection over union of two boxes, 0..1."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    shared = max(0, width) * max(0, height)
    return shared / max(first[2] * first[3] + second[2] * second[3] - shared, 1)
