"""Counts phrases that the project avoids in its code, help texts and documentation.

``python tests/test_wording.py PATH...`` lists the hits in files or folders, such as train or docs/train.md, with file and line.
"""

import re
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PATHS = (
    *("cli", "artifacts", "train", "convert", "edge_runtime", "deploy", "benchmarks", "tests", "docs"),
    *("web/__init__.py", "web/page", "web/tests", "web/README.md"),
    *("README.md", "CHANGELOG.md", "Makefile", "setup.cfg", "pyproject.toml", ".ci/run"),
)
SUFFIXES = {".py", ".md", ".html", ".js", ".css"}
THIS_FILE = Path(__file__).resolve()

NUMBER = r"\d[\d.,]*|one|two|three|ten|some|many|most|fewer|least"
COUNTED = (
    r"frames?|images?|pictures?|faces?|detections?|times|once|twice|bytes?|calls?|messages?|lines?|requests?|steps?|ms|[KM]B"
)
UNIT = (
    r"class|image|picture|face|frame|file|model|network|epoch|step|fold|person|subject|channel|layer|pixel|core|camera|row|line"
)
NEXT = r"as|into|and|or|of|on|with|for|in|at|than|is|are|to|but|when|while|from|that|which|by|if|where|until|alone"
COMPARED = r"longer|more|less|fewer|better|worse|larger|smaller|faster|slower|higher|lower"
GAP = r"(?:[ \t]|\n[ \t]*#?)+"
# A space matches any gap between two words, also a line break in a comment. Lookbehinds need a fixed width: \s.
TICS = {
    "is no X": rf"(?<!there\s)(?:is|are|was|were) no(?= )(?! (?:{COMPARED})\b)",
    "stands, lies": r"(?:stands?|stood)(?! (?:in )?for\b)(?!-)|lies?|lying",
    "begun, began": r"begun|began",
    "told, tell": r"tells?|told|telling",
    "beside": r"besides?",
    "behind": r"(?<!falls\s)(?<!fall\s)(?<!fell\s)(?<!lags\s)behind(?! (?:an? |the )?(?:\w+ )?(?:proxy|router|firewall))",
    "a second for per": rf"(?:\d[\d.,]*|{COUNTED}) an? (?:minute|hour|day|second(?=\s*$|[^\w\s]| (?:{NEXT})\b))",
    "a face for per": rf"(?:(?:{NUMBER}) (?!(?:{NEXT})\b)\w+|ms|once|twice) an? (?:{UNIT})",
    "_A_SECOND for _PER_SECOND": r"(?-i:[A-Z]{2,}_AN?_[A-Z]{2,})",
    "today": r"today",
    "what it": r"(?-i:what) (?:it|its|is|was|are|were|they|comes|came|lacks|stands)",
    "brings, brought": r"brings?|brought|bringing",
}
# Letters and digits, not \b, end a word: names such as tell_skipped count too.
PATTERNS = {
    name: re.compile(rf"(?<![A-Za-z0-9])(?:{pattern})(?![A-Za-z])".replace(" ", GAP), re.IGNORECASE | re.MULTILINE)
    for name, pattern in TICS.items()
}


def files(paths):
    for path in (ROOT / path for path in paths):
        inside = path.rglob("*") if path.is_dir() else [path]
        yield from sorted(file for file in inside if file.is_file() and (file == path or file.suffix in SUFFIXES))


def hits_in(text):
    """The phrases in a text as (position, name, phrase)."""
    for name, pattern in PATTERNS.items():
        for match in pattern.finditer(text):
            yield match.start(), name, " ".join(match[0].split())


def hits(paths):
    """The phrases in files as (file:line, name, phrase)."""
    for path in files(paths):
        if path.resolve() == THIS_FILE:
            continue
        text = path.read_text()
        for position, name, phrase in sorted(hits_in(text)):
            yield f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, position) + 1}", name, phrase


@pytest.fixture(scope="module")
def project_hits():
    return list(hits(PATHS))


@pytest.mark.parametrize("tic", TICS)
def test_the_project_avoids_a_phrase(tic, project_hits):
    assert [f"{place} {phrase}" for place, name, phrase in project_hits if name == tic] == []


@pytest.mark.parametrize(
    "text",
    [
        *(
            "is no\n    # folder",
            "is no number",
            "Tell",
            "tell_skipped",
            "it lies here",
            "beside the box",
            "what it returns",
            "BYTES_A_SECOND",
        ),
        *("10 frames a second.", "twice a day", "200 faces a class", "0.2 ms a face", "brings", "as of today's", "begun"),
    ],
)
def test_a_phrase_is_found(text):
    assert len(list(hits_in(text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        *(
            "there is no camera",
            "5  # of a face",
            "is no longer",
            "is no better",
            "stands for",
            "a stand-in",
            "families",
            "understand",
        ),
        *("finds the faces a second time", "falls behind", "behind a reverse proxy", "What is a contract?", "BOX_AND_LABEL"),
    ],
)
def test_plain_english_is_not_found(text):
    assert list(hits_in(text)) == []


def main(paths):
    found = list(hits(paths))
    for place, name, phrase in found:
        print(f"{place} {phrase} ({name})")
    counts = Counter(name for _, name, _ in found)
    print("\n".join(f"{counts[name]:5} {name}" for name in TICS))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or PATHS))
