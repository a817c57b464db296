"""The switch that shows tracebacks and the messages of libraries."""

import os

DEBUG_VARIABLE = "FER_EDGE_DEBUG"


def is_debugging() -> bool:
    """Return whether the user has set the environment variable FER_EDGE_DEBUG."""
    return bool(os.environ.get(DEBUG_VARIABLE))
