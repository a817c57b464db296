"""The split that a dataset itself assigns to an image, read from folder and file names."""

from pathlib import PurePosixPath

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "publictest": "test",
    "privatetest": "private_test",
}


def split_of_path(path: PurePosixPath) -> str | None:
    """Return the official split of an image, one of dataset.OFFICIAL_SPLITS; None if its path names none."""
    prefix = SPLIT_NAMES.get(path.name.split("_")[0].lower())
    if prefix:
        return prefix
    return next((SPLIT_NAMES[name.lower()] for name in path.parts[:-2] if name.lower() in SPLIT_NAMES), None)
