"""The log of the epochs of a series on a cluster: one JSON line per epoch that was trained, in the order of their arrival."""

import json
from dataclasses import dataclass
from pathlib import Path

from fer_edge.artifacts.typed_json import read_json_lines, to_data

EPOCH_LOG = "epochs.jsonl"


@dataclass(frozen=True)
class EpochRecord:
    """One trained epoch.

    Attributes:
        run: Name of the run folder.
        attempt: 1 for the first worker of the run, one more after each loss of a worker.
        epoch: Number of the epoch, from 1.
        epochs: Number of epochs of the run.
        metrics: Its metrics, such as ``loss`` and ``val_accuracy``.
        host: Name of the machine that trained it.
        node: Ray's id of the node, hexadecimal.
        pid: Id of the process that trained it.
        finished: Time, ISO 8601, UTC.
    """

    run: str
    attempt: int
    epoch: int
    epochs: int
    metrics: dict[str, float]
    host: str
    node: str
    pid: int
    finished: str


def append_epoch(path: Path, record: EpochRecord) -> None:
    """Append a line to the log. The file grows for days, so it is not rewritten as a whole.

    Args:
        path: The log.
        record: The epoch.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(to_data(record)) + "\n")


def read_epochs(path: Path) -> list[EpochRecord]:
    """Read the log; a missing file has no epochs.

    Raises:
        ValueError: If a line is not an epoch.
    """
    return read_json_lines(EpochRecord, path)
