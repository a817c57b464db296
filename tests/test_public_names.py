import inspect
import subprocess
import sys
from types import ModuleType

import pytest

import fer_edge
from fer_edge.artifacts.callable_package import make_callable


@pytest.fixture
def package(monkeypatch):
    """A package ``tools`` whose module ``tools.adding`` defines ``add``."""

    def add(first: int, second: int = 2) -> int:
        """Add two numbers."""
        return first + second

    package, module = ModuleType("tools"), ModuleType("tools.adding")
    module.add = add
    monkeypatch.setitem(sys.modules, "tools", package)
    monkeypatch.setitem(sys.modules, "tools.adding", module)
    make_callable("tools", "tools.adding", "add")
    return package


def test_a_callable_package_calls_its_function(package):
    assert package(1) == 3
    assert package(1, second=5) == 6


def test_a_callable_package_shows_the_signature_and_docstring_of_its_function(package):
    assert list(inspect.signature(package).parameters) == ["first", "second"]
    assert package.__doc__ == "Add two numbers."


def test_dir_lists_the_public_names():
    functions = {"bench", "convert", "evaluate", "stream", "train"}
    assert {"Classifier", "Prediction", "Smoothing", "__version__"} | functions <= set(dir(fer_edge))
    assert all(callable(getattr(fer_edge, name)) for name in functions)
    assert set(fer_edge.__all__) <= set(dir(fer_edge))


@pytest.mark.parametrize("name", fer_edge.__all__)
def test_every_public_name_is_documented(name):
    assert getattr(fer_edge, name).__doc__


@pytest.mark.parametrize("name", ["train", "convert", "evaluate", "bench", "stream"])
def test_the_functions_show_their_parameters_and_an_example(name):
    function = getattr(fer_edge, name)
    assert callable(function)
    assert {"Args:", "Returns:"} <= set(function.__doc__.split())
    assert "fer_edge" in function.__doc__
    assert len(inspect.signature(function).parameters) > 2


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'fer_edge' has no attribute 'nothing'"):
        _ = fer_edge.nothing


def test_import_fer_edge_imports_neither_numpy_nor_click():
    code = "import sys, fer_edge; dir(fer_edge); sys.exit(bool({'numpy', 'click', 'keras'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
