"""Compare .tflite files: accuracy, latency, size, memory. The bench command and ``fer_edge.bench`` are this file."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_edge.artifacts.latency_records import BACKENDS, LatencyProtocol, LatencyRecord, MeasuredAccuracy, read_latency_records
from fer_edge.artifacts.reporter import SILENT, Progress, Reporter
from fer_edge.artifacts.training_data import Leakage, SplitCounts, SplitSummary
from fer_edge.artifacts.typed_json import append_json_lines
from fer_edge.benchmarks.cooling import wait_until_cool
from fer_edge.benchmarks.foreign_model import ForeignClassifier, ForeignInput
from fer_edge.benchmarks.latency_tables import BenchmarkRow
from fer_edge.benchmarks.measure import measure_model
from fer_edge.benchmarks.record_rows import record_rows
from fer_edge.edge_runtime.batch_predict import Probabilities
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.edge_runtime.find_model import find_model

if TYPE_CHECKING:
    from fer_edge.train.dataset import FaceDataset
    from fer_edge.train.evaluate_model import Evaluation, LoadedModel

UNKNOWN = "unknown"
Setting = tuple[Path, int, str]  # file, threads, backend


def bench(
    models: str | Path | Sequence[str | Path] = "runs",
    data: str | Path | None = None,
    *,
    protocol: str | None = None,
    split: str = "test",
    label_map: Sequence[str] = (),
    faces: str = "auto",
    detector: str = "auto",
    ferplus: str | Path | None = None,
    threads: Sequence[int] = (1,),
    backends: Sequence[str] = ("xnnpack",),
    latency_protocol: LatencyProtocol | None = None,
    foreign: ForeignInput | None = None,
    baseline: str | None = None,
    record: str | Path | None = None,
    report: str | Path | None = None,
    reporter: Reporter = SILENT,
) -> list[BenchmarkRow]:
    """Measure models, each in its own process, exactly as ``fer-edge bench`` does.

    Example: ``for row in fer_edge.bench(["cnn_nano"]): print(row.network, row.p50_ms)``

    Args:
        models: Model files, names of bundled models, or folders, which stand for all .tflite files in them.
        data: Labeled faces to measure the accuracy on. Without it, the accuracy is the one that conversion stored in the file.
        protocol: See ``fer_edge.evaluate``.
        split: See ``fer_edge.evaluate``.
        label_map: See ``fer_edge.evaluate``.
        faces: See ``fer_edge.evaluate``.
        ferplus: See ``fer_edge.evaluate``.
        detector: Finds the faces in photos, and the face in the stage ``detect``; see ``fer_edge.stream``.
        threads: Numbers of interpreter threads. Each model is measured with each of them.
        backends: Some of BACKENDS. Each model is measured with each of them.
        latency_protocol: Warm-up, and minimum number and time of the runs. Default: LatencyProtocol().
        foreign: Input and labels of files without a contract. Only their accuracy needs them.
        baseline: File, network, precision or backend for the ratios of the latencies; None for no ratios.
        record: JSON-lines file to append the raw records to.
        report: HTML file to write the report into.
        reporter: Receives progress and warnings.

    Returns:
        One row per model, number of threads and backend, with a ``problem`` if the file cannot run or be evaluated.

    Raises:
        FileNotFoundError: If a model, a folder or the data does not exist.
        ValueError: If an option cannot be used.
    """
    settings = _settings(models, threads, backends, detector)
    reading = {"label_map": label_map, "faces": faces, "detector": detector}
    accuracy_of = _accuracy_on(data, (protocol, split), reading, ferplus, foreign or ForeignInput(), reporter)
    records = []
    for measured in _measure(settings, latency_protocol, detector, accuracy_of, reporter):
        records.append(measured)
        if record:
            append_json_lines(Path(record), [measured])
    return _rows({"": records}, baseline, report, reporter)


def bench_on_hosts(
    hosts: Sequence[str],
    models: str | Path | Sequence[str | Path] = "runs",
    *,
    detector: str = "auto",
    threads: Sequence[int] = (1,),
    backends: Sequence[str] = ("xnnpack",),
    latency_protocol: LatencyProtocol | None = None,
    baseline: str | None = None,
    record: str | Path | None = None,
    report: str | Path | None = None,
    reporter: Reporter = SILENT,
) -> list[BenchmarkRow]:
    """Measure models on boards, as ``fer-edge bench --host`` does. fer-edge is deployed there.

    Args:
        hosts: ``[USER@]HOST`` or names of the user's ssh configuration.
        models: See bench.
        detector: Finds the face in the stage ``detect`` on the board.
        threads: See bench.
        backends: See bench.
        latency_protocol: See bench.
        baseline: See bench.
        record: See bench.
        report: See bench.
        reporter: Receives what the boards print.

    Returns:
        The rows of all boards.

    Raises:
        ValueError: If an option cannot be used.
        OSError: If a model does not exist, or a board cannot be reached.
        RuntimeError: If the measurement fails on a board.
    """
    from fer_edge.deploy.remote_bench import bench_on_boards

    files = list(dict.fromkeys(file for file, _, _ in _settings(models, threads, backends, "auto")))
    rules = latency_protocol or LatencyProtocol()
    arguments = ["--threads", ",".join(map(str, threads)), "--backend", ",".join(backends), "--detector", detector]
    arguments += ["--min-runs", str(rules.min_runs), "--min-seconds", str(rules.min_seconds)]
    records = bench_on_boards(hosts, files, arguments, reporter)
    if record:
        append_json_lines(Path(record), [entry for of_board in records.values() for entry in of_board])
    return _rows(records, baseline, report, reporter)


def read_rows(
    paths: Sequence[Path], baseline: str | None = None, report: str | Path | None = None, reporter: Reporter = SILENT
) -> list[BenchmarkRow]:
    """Return the rows of stored records, as ``fer-edge bench --from`` shows them.

    Args:
        paths: JSON-lines files of latency records.
        baseline: See bench.
        report: See bench.
        reporter: Receives a note about repeated measurements.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a file is damaged, the boards have no file in common, or there is no such baseline.
    """
    return _rows({str(path): read_latency_records(path) for path in paths}, baseline, report, reporter)


def _rows(
    sources: Mapping[str, Sequence[LatencyRecord]], baseline: str | None, report: str | Path | None, reporter: Reporter
) -> list[BenchmarkRow]:
    pairs = record_rows(sources, baseline, reporter)
    if report:
        from fer_edge.benchmarks.report_page import write_report

        write_report(pairs, report)
    return [row for row, _ in pairs]


def _measure(
    settings: Sequence[Setting],
    latency_protocol: LatencyProtocol | None,
    detector: str,
    accuracy_of: Callable[[Path, bool], dict[str, Any]] | None,
    reporter: Reporter,
) -> Iterator[LatencyRecord]:
    with reporter.progress("measuring") as progress:
        for number, (file, count, backend) in enumerate(settings):
            progress(number, len(settings))
            wait_until_cool(reporter)
            measured = measure_model(file, count, latency_protocol, backend, detector)
            if accuracy_of and not measured.problem:  # a file that could not run may end this process
                measured = replace(measured, **accuracy_of(file, measured.source_digest is None))
            yield measured


def _settings(
    models: str | Path | Sequence[str | Path], threads: Sequence[int], backends: Sequence[str], detector: str
) -> list[Setting]:
    """Return each file with each number of threads and backend, after checking them."""
    if not threads or min(threads) < 1:
        raise ValueError(f"the number of threads must be at least 1. Received: {list(threads)}")
    unknown = [name for name in backends if name not in BACKENDS]
    if unknown:
        raise ValueError(f"unknown backend '{unknown[0]}'; choose from: {', '.join(BACKENDS)}")
    if detector != "auto":
        open_detector(detector)
    files = _model_files([models] if isinstance(models, (str, Path)) else models)
    return [(file, count, backend) for file in files for count in threads for backend in backends]


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


def _accuracy_on(
    data: str | Path | None,
    selection: tuple[str | None, str],
    reading: Mapping[str, Any],
    ferplus: str | Path | None,
    foreign: ForeignInput,
    reporter: Reporter,
) -> Callable[[Path, bool], dict[str, Any]] | None:
    """Return a function that measures the accuracy of a file, which may have no contract, once; None without data.

    It returns the fields of the record that change. The data is read once per class map.
    """
    if data is None:
        if ferplus:
            raise ValueError("--ferplus needs the faces that its votes are of. Give --data too")
        return None
    from fer_edge.train.evaluate_model import DatasetReader, evaluate_model, load_model, report_limits
    from fer_edge.train.evaluation_set import check_selection
    from fer_edge.train.read_options import ReadOptions

    check_selection(*selection)
    reader = DatasetReader(data, ReadOptions(**reading), ferplus, reporter)

    @cache
    def measure(file: Path, is_foreign: bool) -> dict[str, Any]:
        try:
            model = _load_foreign(file, foreign) if is_foreign else load_model(file)
        except (ValueError, RuntimeError) as error:
            return {"problem": f"its accuracy cannot be measured: {error}"}
        faces = reader.faces_for(model)
        try:
            with reporter.progress(f"evaluating {file.name}") as progress:
                evaluation = evaluate_model(model, faces, *selection, progress=progress)
        except (ValueError, RuntimeError) as error:
            return {"problem": f"its accuracy cannot be measured: {error}"}
        report_limits(evaluation.record, reporter)
        return {"measured_accuracy": measured_accuracy(evaluation)}

    return measure


def _load_foreign(file: Path, foreign: ForeignInput) -> "LoadedModel":
    """Load a file without a contract. On which faces it was trained is not known."""
    from fer_edge.artifacts.contract import CropConvention
    from fer_edge.train.class_names import canonical_name
    from fer_edge.train.evaluate_model import LoadedModel
    from fer_edge.train.evaluation_set import TrainingProvenance

    classifier = ForeignClassifier(file, foreign)

    def probabilities(faces: "FaceDataset", progress: Progress | None) -> Probabilities:
        results = []
        for number, image in enumerate(faces.images):
            results.append(classifier.probabilities(image))
            if progress:
                progress(number + 1, len(faces))
        return np.stack(results)

    split = SplitSummary(UNKNOWN, 0, None, None, SplitCounts(0, 0, 0), "", Leakage(0, None, None, False))
    trained = TrainingProvenance(tuple(map(canonical_name, classifier.labels)), UNKNOWN, "", split)
    return LoadedModel(str(file), file.stem, UNKNOWN, "", trained, (), 1, lambda detector: CropConvention(), probabilities)


def measured_accuracy(evaluation: "Evaluation") -> MeasuredAccuracy:
    """Return the accuracy for a record, with the result of each face."""
    record, faces, counted = evaluation.record, evaluation.selection.faces, evaluation.counted
    correct = evaluation.probabilities.argmax(axis=1) == faces.targets
    ids = [name for name, counts in zip(faces.ids, counted, strict=True) if counts]
    return MeasuredAccuracy(
        record.data,
        record.protocol,
        record.split,
        record.metrics.count,
        record.warning,
        record.metrics.accuracy,
        record.metrics.macro.f1,
        metrics=record.metrics,
        votes=record.votes,
        correct="".join("1" if right else "0" for right in correct[counted]),
        faces_digest=hashlib.sha256("\n".join(ids).encode()).hexdigest(),
    )
