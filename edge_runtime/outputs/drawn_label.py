"""The text that stands for a label in an image."""

import unicodedata
from collections.abc import Sequence

# Letters that have no decomposition into an ASCII letter and an accent.
ASCII_LETTERS = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"})


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


def _without_accents(label: str) -> str:
    if label.isascii():
        return label
    decomposed = unicodedata.normalize("NFKD", label.translate(ASCII_LETTERS))
    return "".join(character for character in decomposed if not unicodedata.combining(character))
