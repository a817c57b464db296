"""A generated part of a documentation page, between two comments."""

import re
from pathlib import Path

from fer_edge.artifacts.atomic_write import atomic_write


def replace_section(page: Path, name: str, content: str) -> None:
    """Write the content between ``<!-- NAME: generated -->`` and ``<!-- NAME: end -->`` on a page.

    Args:
        page: The page, a text file with these two comments.
        name: Name in the comments.
        content: The new content, markdown.

    Raises:
        OSError: If the page cannot be read or written.
        ValueError: If the page does not have both comments, in this order and once.
    """
    text = page.read_text(encoding="utf-8")
    start, end = f"<!-- {name}: generated -->\n", f"<!-- {name}: end -->"
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"{page} needs one line '{start.strip()}' and below it one line '{end}'. Add both lines")
    atomic_write(page, pattern.sub(lambda _: f"{start}\n{content.strip()}\n\n{end}", text))
