"""README and docs against the code: links, commands and error messages. `make docs` checks the links between pages."""

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import click
import pytest

from fer_edge.main import main

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
GENERATED = {"comparison.md", "comparison-details.md"}
README = ROOT / "README.md"
MIN_FRAGMENT = 8  # characters of an error message between two values


def anchors(page):
    """The ids of a page's headings, made as MkDocs and GitHub make them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [README, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in link]
    for link in links:
        target, _, anchor = link.partition("#")
        assert (ROOT / target).is_file(), link
        assert not anchor or anchor in anchors(ROOT / target), link


def test_the_readme_is_short_and_starts_with_a_command():
    text = README.read_text()
    assert len(text.splitlines()) <= 120
    assert len(text[: text.index("    pip install")].split()) <= 60


def commands(page):
    """The fer-edge commands in the code blocks of a page."""
    for line in re.findall(r"^(?: {4}|\t)(?:\$ )?(.*\bfer-edge .*)$", page.read_text(), re.MULTILINE):
        yield re.sub(r"^.*?\bfer-edge ", "", line)


@pytest.mark.parametrize(
    ("page", "command"),
    [(page.name, command) for page in [README, *PAGES] if page.name not in GENERATED for command in commands(page)],
)
def test_a_command_in_the_docs_is_accepted_by_the_command_line(page, command):
    words, group, name = shlex.split(command), main, "fer-edge"
    while isinstance(group, click.Group):
        name, group, words = group.resolve_command(click.Context(group), words)
        assert group is not None, name
    group.make_context(name, words)


@cache
def texts_in_the_code():
    """All string literals of the package, without the values in f-strings."""
    folders = ("cli", "artifacts", "train", "convert", "edge_runtime", "deploy", "benchmarks")
    trees = [ast.parse(path.read_text()) for folder in folders for path in (ROOT / folder).rglob("*.py")]
    nodes = [node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return "\n".join(value for value in nodes if isinstance(value, str))


@pytest.mark.parametrize("message", re.findall(r"^### `(.+)`", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE))
def test_a_message_in_troubleshooting_is_in_the_code(message):
    fragments = [part.strip(" '.") for part in message.split("...")]
    fragments = [part for part in fragments if len(part) >= MIN_FRAGMENT]
    assert fragments
    assert [part for part in fragments if part not in texts_in_the_code()] == []
