"""Runs on nodes that may lack fer-edge, so it travels as code and imports the standard library only."""

import importlib
import importlib.util
from collections.abc import Sequence


def find_problem(version: str, packages: Sequence[str]) -> str | None:
    """Return why a node cannot train; None if it can.

    Args:
        version: Version of fer-edge of the driver.
        packages: Modules that training needs.
    """
    try:
        found = importlib.import_module("fer_edge").__version__
    except ImportError:
        return "fer-edge is not installed"
    if found != version:
        return f"it has fer-edge {found}, not {version}"
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None
