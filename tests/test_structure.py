"""Checks of the source tree by its syntax: import cycles, import direction, docstrings and lengths.

No TensorFlow is needed. ``python tests/test_structure.py FOLDER...`` lists the offenders of folders, such as train or tests.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("cli", "artifacts", "train", "convert", "edge_runtime", "deploy", "benchmarks")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAY_IMPORT = {
    "artifacts": set(),
    "edge_runtime": {"artifacts", "models"},
    "train": {"artifacts", "edge_runtime"},
    "convert": {"artifacts", "edge_runtime"},
    "benchmarks": {"artifacts", "edge_runtime"},
    "deploy": {"artifacts", "edge_runtime", "web"},
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SCOPES = (*FUNCTIONS, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True)
class Definition:
    """A function, method or class and its name with that of the class around it."""

    path: Path
    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

    def __str__(self):
        return f"{self.path.relative_to(ROOT)}:{self.node.lineno} {self.name}"


def python_files(folder):
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(["fer_edge", *parts[parts[0] == "cli" :]]).removesuffix(".__init__")


@cache
def tree_of(path):
    return ast.parse(path.read_text())


@cache
def module_paths():
    return {module_name(path): path for folder in (*FOLDERS, "models", "web") for path in python_files(folder)}


def imported_modules(path):
    """Modules of fer_edge that a file imports anywhere: at the top, in a function or under TYPE_CHECKING.

    ``from fer_edge import __version__`` does not count: the name is set before the root package imports anything.
    """
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("fer_edge."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "fer_edge":
            for alias in node.names:
                if alias.name != "__version__":
                    submodule = f"{node.module}.{alias.name}"
                    yield submodule if submodule in module_paths() else node.module


def import_graph():
    return {module: set(imported_modules(path)) & set(module_paths()) for module, path in module_paths().items()}


def find_cycle(graph):
    """One import cycle as a list of modules, empty if there is none."""
    finished = set()

    def visit(module, trail):
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in finished:
            return []
        for target in sorted(graph[module]):
            if cycle := visit(target, [*trail, module]):
                return cycle
        finished.add(module)
        return []

    return next((cycle for module in sorted(graph) if (cycle := visit(module, []))), [])


def wrong_imports(folder):
    if folder not in MAY_IMPORT:
        return
    for path in python_files(folder):
        for module in imported_modules(path):
            target = module.split(".")[1] if "." in module else "cli"
            if target not in MAY_IMPORT[folder] | {folder}:
                yield f"{path.relative_to(ROOT)} imports {module}"


def definitions(folder) -> Iterator[Definition]:
    """Functions and classes of a folder at the top of a module or in a class, in order."""

    def inside(path, node, prefix):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (*FUNCTIONS, ast.ClassDef)):
                yield Definition(path, prefix + child.name, child)
            if isinstance(child, ast.ClassDef):
                yield from inside(path, child, f"{prefix}{child.name}.")
            elif not isinstance(child, SCOPES):
                yield from inside(path, child, prefix)

    for path in python_files(folder):
        yield from inside(path, tree_of(path), "")


def is_public(definition):
    hidden = any(part.startswith("_") for part in definition.name.split("."))
    return not hidden and "overload" not in decorator_names(definition.node)  # the implementation has the docstring


def decorator_names(node):
    for decorator in node.decorator_list:
        yield ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)


def is_click_command(node):
    return any(name.endswith((".command", ".group")) for name in decorator_names(node))


def public_functions(folder):
    for definition in definitions(folder):
        node = definition.node
        if isinstance(node, FUNCTIONS) and is_public(definition) and not is_click_command(node):
            yield definition


def section_names(docstring, title):
    """Names that a section of a Google docstring describes; ``width, height: pixels`` describes both."""
    found = re.search(rf"^{title}:\n((?:[ ]+.*\n?|\n)+)", docstring, re.MULTILINE)
    if not found:
        return set()
    indent = len(found[1]) - len(found[1].lstrip(" "))
    heads = re.findall(rf"^ {{{indent}}}(\S[^:\n]*):", found[1], re.MULTILINE)
    names = (name for head in heads for name in re.sub(r"\(.*?\)", "", head).split(","))
    return {name.strip(" *`").rpartition(".")[2] for name in names}  # click.UsageError is described as UsageError


def parameters(node):
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    return [argument.arg for argument in every if argument and argument.arg not in ("self", "cls")]


def raised_names(node):
    """Exceptions that a function raises by name. A re-raise and NotImplementedError do not count, nor nested functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise) and child.exc is not None:
            exception = child.exc.func if isinstance(child.exc, ast.Call) else child.exc
            name = ast.unparse(exception).rpartition(".")[2]
            if name[:1].isupper() and name != "NotImplementedError":
                yield name
        elif not isinstance(child, SCOPES):
            yield from raised_names(child)


def without_docstring(folder):
    for definition in definitions(folder):
        if is_public(definition) and not ast.get_docstring(definition.node):
            yield f"{definition} has no docstring"


def without_args(folder):
    for definition in public_functions(folder):
        names = parameters(definition.node)
        described = section_names(ast.get_docstring(definition.node) or "", "Args")
        missing = [name for name in names if name not in described]
        if len(names) > 1 and missing:
            yield f"{definition}: Args lacks {', '.join(missing)}"


def without_raises(folder):
    for definition in public_functions(folder):
        described = section_names(ast.get_docstring(definition.node) or "", "Raises")
        missing = sorted(set(raised_names(definition.node)) - described)
        if missing:
            yield f"{definition}: Raises lacks {', '.join(missing)}"


def long_files(folder):
    for path in python_files(folder):
        lines = len(path.read_text().splitlines())
        if lines > MAX_FILE_LINES:
            yield f"{path.relative_to(ROOT)} has {lines} lines"


def long_functions(folder):
    for definition in definitions(folder):
        lines = definition.node.end_lineno - definition.node.lineno + 1
        if isinstance(definition.node, FUNCTIONS) and lines > MAX_FUNCTION_LINES:
            yield f"{definition} has {lines} lines"


DOCUMENTATION = (without_docstring, without_args, without_raises)
LENGTHS = (long_files, long_functions)


def test_no_module_imports_itself_through_others():
    assert find_cycle(import_graph()) == []


def test_find_cycle_names_the_modules():
    assert find_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_imports_point_one_way(folder):
    assert list(wrong_imports(folder)) == []


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("check", DOCUMENTATION, ids=lambda check: check.__name__)
def test_public_functions_are_documented(check, folder):
    assert list(check(folder)) == []


@pytest.mark.parametrize("folder", (*FOLDERS, "tests"))
@pytest.mark.parametrize("check", LENGTHS, ids=lambda check: check.__name__)
def test_files_and_functions_are_short(check, folder):
    assert list(check(folder)) == []


def test_section_names_finds_every_described_name():
    docstring = "Do.\n\nArgs:\n    width, height: Pixels.\n        More: text.\n    *rest (int): Others.\n\nReturns:\n    x: y"
    assert section_names(docstring, "Args") == {"width", "height", "rest"}
    assert section_names("Do.\n\nRaises:\n    click.UsageError: If it fails.", "Raises") == {"UsageError"}
    assert section_names(docstring, "Raises") == set()


def main(folders):
    offenders = [f"import cycle: {' -> '.join(cycle)}" for cycle in [find_cycle(import_graph())] if cycle]
    for folder in folders:
        checks = LENGTHS if folder == "tests" else (wrong_imports, *DOCUMENTATION, *LENGTHS)
        offenders += [line for check in checks for line in check(folder)]
    print("\n".join([*offenders, f"{len(offenders)} offenders"]))
    return bool(offenders)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or [*FOLDERS, "tests"]))
