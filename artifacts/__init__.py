"""Typed files that the stages exchange: run folders, model contracts, records; and what all stages share."""

if __name__ != "fer_edge.artifacts":
    raise ImportError(f"import fer_edge.artifacts, not {__name__}: install the project with pip install -e .")
