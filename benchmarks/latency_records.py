"""Records: one immutable JSON line per file, board and number of threads. Statistics are derived, never stored."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge.artifacts.atomic_write import atomic_write

Record = dict[str, Any]


@dataclass(frozen=True)
class BenchmarkRow:
    """One line of a comparison, derived from a record. None is what was not measured.

    Attributes:
        network: Name of the network.
        precision: Its precision.
        data: Data that it was measured on, and trained on where that is other data.
        split: Split under which it was measured, or else trained; ``(leaky)`` where that flatters the accuracy.
        accuracy: Share of test faces labelled rightly, 0..1.
        macro_f1: Mean F1 over the classes, 0..1.
        file_bytes: Size of the file.
        parameters: Number of weights.
        threads: Threads of the interpreter.
        p50_ms: Median latency of the stage.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        load_ms: From file to allocated tensors.
        first_inference_ms: The first inference.
        peak_memory_bytes: Peak memory of the process that ran it.
        stage: What was timed.
        board: Where, with the CPU's integer dot product if it has one: it decides how fast int8 is.
        accuracy_before: Of the Keras model, on the run's test faces, 0..1.
        accuracy_after: Of the file, on the same.
        agreement: Share of these faces with the Keras model's label, 0..1.
        worst_recall_change: Largest fall of a class's recall in conversion, -1..1; positive where every class gains.
        conversion_s: What the quantiser took, seconds, without folding, fine-tuning and the search for layers.
        refused: Whether the gate refused the file.
        compressed_bytes: Its size after zlib: what a download or an app store package takes.
    """

    network: str
    precision: str
    data: str
    split: str
    accuracy: float | None
    macro_f1: float | None
    file_bytes: int
    parameters: int
    threads: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    load_ms: float
    first_inference_ms: float
    peak_memory_bytes: int | None
    stage: str
    board: str
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    agreement: float | None = None
    worst_recall_change: float | None = None
    conversion_s: float | None = None
    refused: bool | None = None
    compressed_bytes: int | None = None


def derive_row(record: Record) -> BenchmarkRow:
    """Derive a table row from a raw record."""
    environment = record["environment"]
    p50, p90, p99 = np.percentile(record["samples_ms"], [50, 90, 99])
    return BenchmarkRow(
        network=record["architecture"],
        precision=record["precision"],
        data=_data_title(record),
        split=_split_title(record),
        accuracy=record.get("accuracy"),
        macro_f1=record.get("macro_f1"),
        file_bytes=record["file_bytes"],
        parameters=record["parameters"],
        threads=record["num_threads"],
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99),
        load_ms=record["load_ms"],
        first_inference_ms=record["first_inference_ms"],
        peak_memory_bytes=record["peak_memory_bytes"],
        stage=record["protocol"]["stage"],
        board=_board_title(environment),
        compressed_bytes=record.get("compressed_bytes"),
        **record.get("conversion", {}),
    )


def _board_title(environment: Mapping[str, Any]) -> str:
    name = str(environment["board"] or environment["cpu"] or environment["machine"])
    dot_product = environment.get("integer_dot_product")
    return f"{name} ({dot_product})" if dot_product else name


def _data_title(record: Record) -> str:
    trained = str(record["data"])
    measured = record.get("evaluated", {}).get("data", trained)
    return trained if measured == trained else f"{measured}, trained on {trained}"


def _split_title(record: Record) -> str:
    evaluated = record.get("evaluated")
    if evaluated:
        return f"{evaluated['split']} (leaky)" if evaluated["warning"] else str(evaluated["split"])
    return f"{record['split']} (leaky)" if record.get("leaky") else str(record["split"])


def append_records(path: Path, records: Sequence[Record]) -> None:
    """Add records to a JSON-lines file; what is in it stays as it is.

    Raises:
        OSError: If the file cannot be written.
    """
    earlier = path.read_text(encoding="utf-8") if path.is_file() else ""
    atomic_write(path, earlier + "".join(json.dumps(record) + "\n" for record in records))


def read_records(path: Path) -> list[Record]:
    """Read a JSON-lines file of records.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If a line is no record.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no records at '{path}'. Make some: fer-edge bench MODEL... --record {path}")
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            derive_row(record)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"line {number} of {path} is no benchmark record ({error!r})") from error
        records.append(record)
    return records
