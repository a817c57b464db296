"""The page that labels faces on a phone. ``fer-edge export web`` copies it; Python imports only its path."""

from pathlib import Path

if __name__ != "fer_edge.web":
    raise ImportError(f"import fer_edge.web, not {__name__}: install the project with pip install -e .")

FOLDER = Path(__file__).parent / "page"
