"""Compare .tflite files: accuracy, latency, size, memory. The bench command and ``fer_edge.bench`` are this function."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fer_edge.artifacts.accuracy_records import EvaluationRecord
from fer_edge.artifacts.latency_records import LatencyProtocol, MeasuredAccuracy
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.artifacts.typed_json import append_json_lines
from fer_edge.benchmarks.latency_tables import BenchmarkRow, derive_row
from fer_edge.benchmarks.measure import measure_model
from fer_edge.edge_runtime.find_model import find_model


def bench(
    models: str | Path | Sequence[str | Path] = "runs",
    data: str | Path | None = None,
    *,
    protocol: str | None = None,
    split: str = "test",
    label_map: Sequence[str] = (),
    faces: str = "auto",
    detector: str = "auto",
    threads: Sequence[int] = (1,),
    latency_protocol: LatencyProtocol | None = None,
    record: str | Path | None = None,
    reporter: Reporter = SILENT,
) -> list[BenchmarkRow]:
    """Measure models, each in its own process, exactly as ``fer-edge bench`` does.

    Example:
        >>> import fer_edge
        >>> for row in fer_edge.bench(["cnn_nano", "mobilenet_v2"]):
        ...     print(row.network, f"{row.p50_ms:.2f} ms")

    Args:
        models: .tflite files, names of bundled models, or folders, which stand for all .tflite files in them.
        data: Labeled faces to measure the accuracy on; see ``fer_edge.train``. Without it the accuracy is None.
        protocol: ``paper``, ``subject``, ``official`` or ``all``. Default: the protocol of each model's training.
        split: ``train``, ``validation``, ``test``, ``private_test`` or ``all``.
        label_map: CLASS=LABEL per renamed class of the data, in addition to those of each model's training; ``CLASS=-``
            leaves it out.
        faces: ``crops``, ``photos`` or ``auto``; see ``fer_edge.evaluate``.
        detector: Finds the faces in photos; see ``fer_edge.stream``.
        threads: Numbers of interpreter threads. Each model is measured with each of them.
        latency_protocol: Warm-up, and minimum number and time of the runs. Default: LatencyProtocol().
        record: JSON-lines file to append the raw records to.
        reporter: Receives progress and warnings.

    Returns:
        One row per model and number of threads.

    Raises:
        FileNotFoundError: If a model, a folder or the data does not exist.
        ValueError: If a number of threads is below 1, or the data, protocol or split cannot be used.
        RuntimeError: If a measuring process fails.
    """
    if not threads or min(threads) < 1:
        raise ValueError(f"the number of threads must be at least 1. Received: {list(threads)}")
    files = _model_files([models] if isinstance(models, (str, Path)) else models)
    accuracies: dict[Path, MeasuredAccuracy] = {}
    if data is not None:
        from fer_edge.train.evaluate_model import evaluate

        reading = {"protocol": protocol, "split": split, "label_map": label_map, "faces": faces, "detector": detector}
        results = evaluate(files, data, reporter=reporter, **reading)  # type: ignore[arg-type]
        accuracies = {file: _measured_accuracy(result.record) for file, result in zip(files, results, strict=True)}
    return _measure(files, threads, latency_protocol, accuracies, record, reporter)


def _measure(
    files: Sequence[Path],
    threads: Sequence[int],
    latency_protocol: LatencyProtocol | None,
    accuracies: Mapping[Path, MeasuredAccuracy],
    record: str | Path | None,
    reporter: Reporter,
) -> list[BenchmarkRow]:
    """Measure the latency of each file with each number of threads."""
    pairs = [(file, count) for file in files for count in threads]
    rows = []
    with reporter.progress("measuring") as progress:
        for number, (file, count) in enumerate(pairs):
            progress(number, len(pairs))
            measured = replace(measure_model(file, count, latency_protocol), measured_accuracy=accuracies.get(file))
            if record:
                append_json_lines(Path(record), [measured])
            rows.append(derive_row(measured))
    return rows


def _model_files(models: Sequence[str | Path]) -> list[Path]:
    files: list[Path] = []
    for model in models:
        path = Path(model)
        if str(path) == "runs" and not path.is_dir():
            raise FileNotFoundError("no folder 'runs' here. Name a model or a folder: fer-edge bench cnn_nano mobilenet_v2")
        found = sorted(path.rglob("*.tflite")) if path.is_dir() else [find_model(path)]
        if not found:
            raise FileNotFoundError(f"the folder '{path}' has no .tflite file. Make some: fer-edge convert RUN --all")
        files += found
    return files


def _measured_accuracy(record: EvaluationRecord) -> MeasuredAccuracy:
    metrics = record.metrics
    return MeasuredAccuracy(
        record.data, record.protocol, record.split, metrics.count, record.warning, metrics.accuracy, metrics.macro.f1
    )
