"""The text that stands for a label in an image."""

import unicodedata
from collections.abc import Callable, Sequence

# Letters that have no decomposition into an ASCII letter and an accent.
ASCII_LETTERS = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"})

DOTS = ".."  # at the end of a shortened label
MIN_LETTERS = 8  # of a shortened label with its probability; below that, the letters matter more


def drawn_label(label: str, labels: Sequence[str]) -> str:
    """Return the text that stands for a label in an image. OpenCV's fonts have only ASCII characters.

    Args:
        label: One of ``labels``, or "unsure".
        labels: Labels of the model, in output order.

    Returns:
        The label without accents; ``#3`` for the third label if that is not enough, or equals another label without accents.
    """
    text = _without_accents(label)
    alike = [other for other in labels if _without_accents(other) == text]
    return text if text.isascii() and len(alike) <= 1 else f"#{labels.index(label) + 1}"


def fitted_text(label: str, labels: Sequence[str], probability: str, has_room: Callable[[str], bool]) -> str:
    """Return the text that stands for a label and its probability where room is limited.

    Args:
        label: One of ``labels``, or "unsure".
        labels: Labels of the model, in output order.
        probability: Text that follows the label if there is room; may be empty.
        has_room: Returns whether there is room for a text.

    Returns:
        The first of these for which there is room: label and probability, the shortened label and the probability, the label,
        the shortened label, its number. A shortened label starts like no other label.
    """
    text, ending = drawn_label(label, labels), f" {probability}".rstrip()
    if has_room(text + ending):
        return text + ending
    drawn = [drawn_label(other, labels) for other in labels]
    starts = [text[:length] for length in range(len(text) - 1, 0, -1)]
    unlike = [start.rstrip() + DOTS for start in starts if sum(other.startswith(start) for other in drawn) <= 1]
    number = f"#{labels.index(label) + 1}" if label in labels else text
    long_enough = [start + ending for start in unlike if len(start) - len(DOTS) >= MIN_LETTERS]
    return next(filter(has_room, [*long_enough, text, *unlike]), number)


def _without_accents(label: str) -> str:
    if label.isascii():
        return label
    decomposed = unicodedata.normalize("NFKD", label.translate(ASCII_LETTERS))
    return "".join(character for character in decomposed if not unicodedata.combining(character))
