"""Settings that a series varies: every combination of their values is trained, each into its own folder."""

import itertools
from collections.abc import Sequence
from pathlib import Path

Combination = tuple[str, ...]


def combinations(varied: Sequence[str]) -> list[Combination]:
    """Return every combination of the values of varied settings.

    Args:
        varied: ``NAME=VALUE,VALUE`` per varied setting.

    Returns:
        NAME=VALUE of each setting, per combination; one empty combination if nothing varies.

    Raises:
        ValueError: If a setting has no value or the same value twice, or occurs twice.
    """
    names = [text.partition("=")[0] for text in varied]
    for text in varied:
        name, _, values = text.partition("=")
        parts = values.split(",")
        if not name or "" in parts:
            raise ValueError(f"--vary takes NAME=VALUE,VALUE, for example learning_rate=0.001,0.003. Received: '{text}'")
        if len(set(parts)) < len(parts) or names.count(name) > 1:
            raise ValueError(f"--vary takes each setting and each of its values once. Received: '{' '.join(varied)}'")
    settings = [[f"{text.partition('=')[0]}={value}" for value in text.partition("=")[2].split(",")] for text in varied]
    return list(itertools.product(*settings))


def folder_of(out: str | Path, combination: Combination) -> Path:
    """Return the folder for the runs of a combination, for example ``runs/learning_rate=0.001,mixup=0.2``.

    Args:
        out: Folder for all runs.
        combination: From combinations.
    """
    return Path(out) / ",".join(combination) if combination else Path(out)
