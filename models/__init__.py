"""Models, each with its card. The small ones are part of the installed package, see setup.cfg."""

from pathlib import Path

if __name__ != "fer_edge.models":
    raise ImportError(f"import fer_edge.models, not {__name__}: install the project with pip install -e .")

FOLDER = Path(__file__).parent
