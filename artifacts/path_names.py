"""Names instead of paths in files that are distributed: where a user's files are is private."""

from collections.abc import Sequence
from pathlib import PurePath

from fer_edge.artifacts.run_folder import MODEL_FILE


def path_name(path: str) -> str:
    """Return the last part of a path. For the model of a run it is the name of the run."""
    parts = PurePath(path)
    return parts.parent.name if parts.name == MODEL_FILE and parts.parent.name else parts.name


def source_name(source: str) -> str:
    """Return the name of a source of weights: of a .tflite file with its folder, because files of several runs share names."""
    path = PurePath(source)
    return "/".join(path.parts[-2:]) if path.suffix == ".tflite" else path_name(source)


def command_without_folders(command: Sequence[str]) -> tuple[str, ...]:
    """Return a command line. A path outside the working folder or its subfolders is reduced to a name."""
    return tuple(map(_without_folders, command))


def _without_folders(word: str) -> str:
    option, separator, value = word.partition("=") if word.startswith("--") else ("", "", word)
    path = PurePath(value)
    if not path.is_absolute() and len(path.parts) <= 2 and not value.startswith(("..", "~")):
        return word
    return option + separator + source_name(value)
