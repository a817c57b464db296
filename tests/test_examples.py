"""The Python examples of the README and the docs."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MANY_MINUTES = "fer_edge.train("


def examples(page):
    """The Python code blocks of a page, without those that train."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)
    return [(page, block) for block in blocks if MANY_MINUTES not in block]


@pytest.fixture(autouse=True)
def repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(("page", "example"), [*examples("index.md"), *examples("api.md")])
def test_an_example_of_the_docs_runs(page, example, capsys):
    exec(compile(example, page, "exec"), {})
    assert capsys.readouterr().out.strip()


def test_the_python_session_of_the_readme_is_real():
    assert doctest.testfile(str(ROOT / "README.md"), module_relative=False) == (0, 2)
