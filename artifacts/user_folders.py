"""The folders of a user for files that fer-edge keeps.

Source: the XDG base directory specification, https://specifications.freedesktop.org/basedir-spec. It ignores relative paths.
"""

import os
from pathlib import Path


def user_data_folder() -> Path:
    """Return the folder for downloaded files: ``$XDG_DATA_HOME/fer-edge``, by default ``~/.local/share/fer-edge``.

    Raises:
        RuntimeError: If the user has no home folder.
    """
    return _user_folder("XDG_DATA_HOME", ".local/share")


def user_config_folder() -> Path:
    """Return the folder for tokens and personal files: ``$XDG_CONFIG_HOME/fer-edge``, by default ``~/.config/fer-edge``.

    Raises:
        RuntimeError: If the user has no home folder.
    """
    return _user_folder("XDG_CONFIG_HOME", ".config")


def user_cache_folder() -> Path:
    """Return the folder for results that can be computed again: ``$XDG_CACHE_HOME/fer-edge``, by default ``~/.cache/fer-edge``.

    Raises:
        RuntimeError: If the user has no home folder.
    """
    return _user_folder("XDG_CACHE_HOME", ".cache")


def _user_folder(variable: str, default: str) -> Path:
    configured = Path(os.environ.get(variable, ""))
    return (configured if configured.is_absolute() else Path.home() / default) / "fer-edge"
