"""The folders of a user for files that fer-edge keeps."""

import os
from pathlib import Path


def user_data_folder() -> Path:
    """Return the folder for downloaded files: ``$XDG_DATA_HOME/fer-edge``, by default ``~/.local/share/fer-edge``."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "fer-edge"
