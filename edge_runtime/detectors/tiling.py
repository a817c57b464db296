"""Which parts of a picture a detector looks at: all at first, then around known faces and, in turn, elsewhere."""

from collections.abc import Sequence

from fer_edge.edge_runtime.crop import Box

SMALLEST_SHARE = 0.2  # of a part's longer side: smaller faces are looked for in smaller parts
MOST_SQUARES_A_SIDE = 4  # whatever the smallest face: more would take longer than anybody waits
SQUARES_A_SEARCH = 3  # at a time beside the whole picture, while no face is known
WHOLE_EVERY = 3  # searches, while one is known: a new face of usual size shows in the whole picture


class TileScheduler:
    """Chooses the parts, and remembers whose turn it is."""

    def __init__(self) -> None:
        self._next = self._searches = 0

    def choose(self, width: int, height: int, min_face_px: int, known: Sequence[Box] | None) -> list[Box]:
        """Return the parts to look at in the next frame: around known faces, and the whole picture or squares of it in turn.

        Args:
            width: Of the picture, pixels.
            height: Of the picture, pixels.
            min_face_px: Smallest box that is looked for.
            known: Boxes of the frame before; None looks at everything.

        Returns:
            Boxes (x, y, width, height) inside the picture; those around known faces first.
        """
        parts = tiles(width, height, min_face_px)
        if known is None or len(known) >= len(parts):
            return parts
        whole, *squares = parts
        self._searches += 1
        if known and (not squares or self._searches % WHOLE_EVERY == 0):
            turn = [whole]
        else:
            count = min(len(squares), 1 if known else SQUARES_A_SEARCH)
            turn = [squares[(self._next + k) % len(squares)] for k in range(count)]
            self._next += count
            turn = turn if known else [whole, *turn]
        return [*(around(box, width, height) for box in known), *turn]


def tiles(width: int, height: int, min_face_px: int) -> list[Box]:
    """Return the whole picture, and where faces may be too small in it, squares that overlap by half."""
    whole = (0, 0, width, height)
    if min_face_px >= SMALLEST_SHARE * max(width, height):
        return [whole]
    side = max(min(round(min_face_px / SMALLEST_SHARE), width, height), max(width, height) // MOST_SQUARES_A_SIDE)

    def starts(length: int) -> list[int]:
        last = max(0, length - side)
        steps = -(-last // max(1, side // 2))
        return [round(last * k / max(1, steps)) for k in range(steps + 1)]

    return [whole] + [(x, y, min(side, width), min(side, height)) for y in starts(height) for x in starts(width)]


def around(box: Box, width: int, height: int) -> Box:
    """Return the part of a picture around a face, of which that fills a third."""
    x, y, w, h = box
    reach = max(w, h)
    left, top = min(max(0, x - reach), width - 1), min(max(0, y - reach), height - 1)
    return left, top, max(1, min(width, x + w + reach) - left), max(1, min(height, y + h + reach) - top)


def overlap(first: Box, second: Box) -> float:
    """Return the intersection over union of two boxes, 0..1."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    shared = max(0, width) * max(0, height)
    return shared / max(first[2] * first[3] + second[2] * second[3] - shared, 1)
