"""Rows and tables of latency records: accuracy, latency, size, memory."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from fer_edge.artifacts.latency_records import LatencyRecord
from fer_edge.artifacts.npu_summary import NpuSummary
from fer_edge.artifacts.printable import csv_cell
from fer_edge.benchmarks.intervals import accuracy_interval
from fer_edge.benchmarks.tables import NOT_MEASURED

CONVERSION_HEADER = (
    "network", "precision", "data", "protocol", "accuracy in Keras", "after conversion", "agreement", "worst recall, points",
    "gate", "MB", "compressed MB", "p50 ms", "conversion s",
)  # fmt: skip


@dataclass(frozen=True)
class BenchmarkRow:
    """One row of a comparison, derived from a record. None marks values that were not measured.

    Attributes:
        network: Name of the network.
        precision: Its precision.
        data: Data it was measured on, and trained on if that is other data.
        protocol: Protocol of the measurement, or of the training; with ``(leaky)`` if it inflates the accuracy.
        accuracy: Fraction of faces with the right label, 0..1.
        macro_f1: Mean F1 over the classes, 0..1.
        file_bytes: Size of the file, bytes.
        parameters: Number of weights.
        threads: Threads of the interpreter.
        p50_ms: Median latency, milliseconds.
        p90_ms: 90th percentile, milliseconds.
        p99_ms: 99th percentile, milliseconds.
        load_ms: From file to allocated tensors, milliseconds.
        first_inference_ms: The first inference, milliseconds.
        peak_memory_bytes: Peak memory of the measuring process, bytes.
        stage: What the latency is of.
        board: Where it was measured, with the CPU's integer dot product.
        accuracy_before: Accuracy of the Keras model on the test faces of its run, 0..1.
        accuracy_after: Accuracy of the file on the same faces, 0..1.
        agreement: Fraction of these faces with the Keras model's label, 0..1.
        worst_recall_change: Most negative change of a class's recall, -1..1.
        conversion_s: Time of the quantizer, seconds, without folding, fine-tuning and the search for layers.
        rejected: Whether the gate rejected the file.
        compressed_bytes: Size after zlib, bytes: what a download or an app package takes.
        file: Name of the file.
        backend: What ran it, one of BACKENDS.
        accuracy_low: Lower end of the 95 % interval of ``accuracy``.
        accuracy_high: Upper end.
        accuracy_source: ``measured``, or ``stored`` if it is the figure that conversion stored in the file.
        vote_agreement: Mean fraction of the FER+ annotators who chose the predicted label, 0..1.
        arena_bytes: Memory that the interpreter plans for activations, bytes, without XNNPACK.
        detect_ms: Median time to find the face in a frame, milliseconds.
        preprocess_ms: Median time to crop and resize it, milliseconds.
        classify_ms: Median time from the crop to the probabilities, milliseconds.
        end_to_end_ms: Median time of all three, milliseconds.
        energy_mj: Energy of the board or CPU package per inference, idle power included, millijoules.
        busy: Why the latency is unreliable; empty where nothing was found or checked.
        problem: Why the file could not run, or its accuracy could not be measured.
        emulated_cpu: The processor that an emulator imitated; None on a real machine. The row then has no latency.
        instructions: Executed instructions per inference, counted by the emulator.
        npu: The NPU that the file was compiled for; None for a file for CPUs. The row then has no latency.
        npu_operators: Number of operators that it runs.
        model_operators: Number of operators of the model.
        npu_accuracy: Accuracy of the file in the simulator of the vendor, 0..1.
        ratio: Median latency as a multiple of that of the baseline on the same board.
        ratio_low: Lower end of its 95 % bootstrap interval.
        ratio_high: Upper end.
    """

    network: str
    precision: str | None
    data: str | None
    protocol: str | None
    accuracy: float | None
    macro_f1: float | None
    file_bytes: int
    parameters: int | None
    threads: int
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    load_ms: float | None
    first_inference_ms: float | None
    peak_memory_bytes: int | None
    stage: str
    board: str
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    agreement: float | None = None
    worst_recall_change: float | None = None
    conversion_s: float | None = None
    rejected: bool | None = None
    compressed_bytes: int | None = None
    file: str = ""
    backend: str = "xnnpack"
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    accuracy_source: str | None = None
    vote_agreement: float | None = None
    arena_bytes: int | None = None
    detect_ms: float | None = None
    preprocess_ms: float | None = None
    classify_ms: float | None = None
    end_to_end_ms: float | None = None
    energy_mj: float | None = None
    busy: tuple[str, ...] = ()
    problem: str | None = None
    emulated_cpu: str | None = None
    instructions: int | None = None
    npu: str | None = None
    npu_operators: int | None = None
    model_operators: int | None = None
    npu_accuracy: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None


def derive_row(record: LatencyRecord) -> BenchmarkRow:
    """Derive a table row from a raw record."""
    percentiles = map(float, np.percentile(record.samples_ms, [50, 90, 99])) if record.samples_ms else (None, None, None)
    p50, p90, p99 = percentiles
    measured, cost, energy = record.measured_accuracy, record.conversion, record.energy
    data, protocol, leaky = record.data, record.protocol, bool(record.leaky)
    if measured:
        elsewhere = data is not None and measured.data != data
        data = f"{measured.data}, trained on {data}" if elsewhere else measured.data
        protocol, leaky = measured.protocol, bool(measured.warning)
    return BenchmarkRow(
        network=record.network,
        precision=record.precision,
        data=data,
        protocol=f"{protocol} (leaky)" if leaky else protocol,
        file_bytes=record.file_bytes,
        parameters=record.parameters,
        threads=record.num_threads,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        load_ms=record.load_ms,
        first_inference_ms=record.first_inference_ms,
        peak_memory_bytes=record.peak_memory_bytes,
        stage=record.latency_protocol.stage,
        board=record.environment.title,
        compressed_bytes=record.compressed_bytes,
        file=record.file,
        backend=record.backend,
        arena_bytes=record.arena_bytes,
        energy_mj=1000 * energy.joules / energy.runs if energy else None,
        busy=record.busy or (),
        problem=record.problem,
        emulated_cpu=(record.environment.cpu or record.environment.machine) if record.environment.emulator else None,
        instructions=record.instructions,
        **_npu(record.npu),
        **{name: value for name, value in asdict(cost).items() if name != "faces"} if cost else {},
        **_accuracy(record),
        **_stage_medians(record),
    )


def _npu(summary: NpuSummary | None) -> dict[str, Any]:
    if summary is None:
        return {}
    return {
        "npu": summary.target,
        "npu_operators": summary.npu_operators,
        "model_operators": summary.operators,
        "npu_accuracy": summary.simulated.after.accuracy if summary.simulated else None,
    }


def _accuracy(record: LatencyRecord) -> dict[str, Any]:
    """Return the measured accuracy, otherwise the one that conversion stored; without interval if the faces are not known."""
    measured, cost = record.measured_accuracy, record.conversion
    count: int | None
    if measured:
        accuracy, count, source = measured.accuracy, measured.count, "measured"
    elif cost:
        accuracy, count, source = cost.accuracy_after, cost.faces, "stored"
    else:
        return {"accuracy": None, "macro_f1": None}
    low, high = accuracy_interval(accuracy, count) if count else (None, None)
    return {
        "accuracy": accuracy,
        "macro_f1": measured.macro_f1 if measured else None,
        "accuracy_low": low,
        "accuracy_high": high,
        "accuracy_source": source,
        "vote_agreement": measured.votes.agreement if measured and measured.votes else None,
    }


def _stage_medians(record: LatencyRecord) -> dict[str, Any]:
    stages = record.stages.samples_ms if record.stages else {}
    return {f"{stage}_ms": float(np.median(samples)) for stage, samples in stages.items() if samples}


def conversion_cells(row: BenchmarkRow) -> tuple[str, ...]:
    """Return what conversion cost as text in the order of CONVERSION_HEADER, measured on the test faces of the run."""
    return (
        row.network,
        row.precision or "-",
        row.data or "-",
        row.protocol or "-",
        _text(row.accuracy_before, ".4f"),
        _text(row.accuracy_after, ".4f"),
        _text(row.agreement, ".4f"),
        _text(row.worst_recall_change, "+.1f", 100),
        NOT_MEASURED if row.rejected is None else ("rejected" if row.rejected else "passed"),
        f"{row.file_bytes / 1e6:.2f}",
        _text(row.compressed_bytes, ".2f", 1e-6),
        _text(row.p50_ms, ".2f"),
        _text(row.conversion_s, ".1f"),
    )


def _text(value: float | None, form: str, factor: float = 1) -> str:
    return NOT_MEASURED if value is None else format(factor * value, form)


def as_csv(rows: Sequence[BenchmarkRow]) -> str:
    """Return all fields as CSV. Values that were not measured are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(BenchmarkRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(_joined(value)) for name, value in asdict(row).items()} for row in rows)
    return text.getvalue()


def _joined(value: Any) -> Any:
    return "; ".join(value) if isinstance(value, tuple) else value


def as_json(rows: Sequence[BenchmarkRow]) -> str:
    """Return all fields as a JSON list. Values that were not measured are null."""
    return json.dumps([asdict(row) for row in rows], indent=1)


def pareto_front(rows: Sequence[BenchmarkRow]) -> list[BenchmarkRow]:
    """Return the rows that no other row dominates in accuracy, latency and size, of those that have both."""
    measured = [
        (row, (-row.accuracy, row.p50_ms, row.file_bytes))
        for row in rows
        if row.accuracy is not None and row.p50_ms is not None
    ]

    def dominated(costs: tuple[float, ...]) -> bool:
        return any(all(a <= b for a, b in zip(other, costs, strict=True)) and other != costs for _, other in measured)

    return [row for row, costs in measured if not dominated(costs)]
