"""Text from files and from strangers on a terminal and in a table: without control characters and without formulas."""

import unicodedata
from typing import Any

CONTROL_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control and format characters, lone surrogates, line separators
JOINERS = "\u200c\u200d"  # format characters of Persian, Hindi and emoji
FORMULA_STARTS = tuple("=+-@\uff1d\uff0b\uff0d\uff20")  # spreadsheets take the wide forms too


def printable(text: str) -> str:
    r"""Return a text in which control characters are escaped, such as ``\x1b`` and ``\n``.

    A terminal obeys them: an escape sequence in a file name could clear the screen or change the title of the window, and a
    line break could imitate a line of the program.
    """
    return "".join(_escape(character) if _is_control(character) else character for character in text)


def printable_lines(text: str) -> str:
    """Return a text of several lines in which all control characters but line breaks and tabs are escaped."""
    return "".join(
        _escape(character) if character not in "\n\t" and _is_control(character) else character for character in text
    )


def csv_cell(value: Any) -> Any:
    """Return a value for a cell of a CSV file: text that a spreadsheet would take for a formula gets a leading apostrophe."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(FORMULA_STARTS) else text


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in CONTROL_CATEGORIES and character not in JOINERS


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
