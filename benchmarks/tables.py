"""Tables as plain text and as markdown."""

import re
from collections.abc import Sequence

from tabulate import tabulate

NOT_MEASURED = "not measured"
NUMBER = re.compile(r"[+-]?\d[\d,.]*[*!]?( ± .*| \(\d.*)?|-|cannot run|emulated|" + NOT_MEASURED)


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table for terminals, with aligned columns.

    Args:
        header: Column titles.
        rows: Cells; every row has as many as there are titles.
    """
    return _table(header, rows, "simple")


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a markdown table.

    Args:
        header: Column titles.
        rows: Cells; every row has as many as there are titles.
    """
    return _table(header, rows, "pipe")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], style: str) -> str:
    """Return a table. Columns of numbers are aligned right; the cells themselves are not reformatted."""
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    align = ["right" if all(map(NUMBER.fullmatch, column)) else "left" for column in columns]
    return tabulate([*rows], [*header], style, disable_numparse=True, colalign=align if rows else None)
