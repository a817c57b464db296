"""Models trained on FER2013, each with its card. The two in ``COME_WITH`` are part of the installed package."""

from pathlib import Path

if __name__ != "fer_edge.models":
    raise ImportError(f"import fer_edge.models, not {__name__}: install the project with pip install -e .")

FOLDER = Path(__file__).parent
