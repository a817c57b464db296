"""Compare model files that are measured in turn: ``fer-edge bench compare OLD.tflite NEW.tflite``."""

from collections.abc import Sequence
from pathlib import Path

from fer_edge.artifacts.latency_records import LatencyProtocol, MeasuredAccuracy
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.benchmarks.environment import describe_environment
from fer_edge.benchmarks.measure_in_turn import IN_TURN, measure_in_turn
from fer_edge.benchmarks.record_comparison import AllowedChange, RecordComparison, Setting, compare_in_turn
from fer_edge.compare_models import measured_accuracy
from fer_edge.edge_runtime.find_model import find_bundled, find_model

MODEL_SUFFIX = ".tflite"


def is_model(path: Path) -> bool:
    """Return whether an argument is a model, the name of a bundled one or a folder of them, not a file of records."""
    return path.is_dir() or path.suffix == MODEL_SUFFIX or find_bundled(str(path)) is not None


def compare_files(
    old: Path,
    new: Path,
    allowed: AllowedChange,
    *,
    threads: int = 1,
    protocol: LatencyProtocol = IN_TURN,
    data: str | None = None,
    reporter: Reporter = SILENT,
) -> RecordComparison:
    """Measure old and new files in turn and compare them.

    Args:
        old: A .tflite file, the name of a bundled model, or a folder.
        new: Another one. Of two folders, files of the same name are compared.
        allowed: How much worse the new files may be.
        threads: Threads of the interpreter.
        protocol: Warm-up, and minimum number and time of the runs.
        data: Labeled faces to compare the accuracy on; see ``fer_edge.evaluate``. None to compare the latency only.
        reporter: Receives progress.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a file is compared with a folder, or the folders have no file in common.
    """
    pairs = _pairs(old, new)
    board = describe_environment().title
    accuracies = _accuracies([path for pair in pairs for path in pair], data, reporter) if data else {}
    files = []
    with reporter.progress("measuring") as progress:
        for number, (before, after) in enumerate(pairs):
            progress(number, len(pairs))
            samples = measure_in_turn(before, after, threads, protocol)
            sizes = (before.stat().st_size, after.stat().st_size)
            measured = (accuracies.get(before), accuracies.get(after))
            files.append(compare_in_turn(Setting(after.name, threads, "xnnpack", board), samples, sizes, measured, allowed))
    return RecordComparison(tuple(files), (), ())


def _accuracies(files: Sequence[Path], data: str, reporter: Reporter) -> dict[Path, MeasuredAccuracy]:
    from fer_edge.train.evaluate_model import evaluate

    return dict(zip(files, map(measured_accuracy, evaluate(files, data, reporter=reporter)), strict=True))


def _pairs(old: Path, new: Path) -> list[tuple[Path, Path]]:
    if old.is_dir() != new.is_dir():
        raise ValueError(f"a folder is compared with a folder, and a file with a file. Received: '{old}' and '{new}'")
    if not old.is_dir():
        return [(find_model(old), find_model(new))]
    names = [path.name for path in sorted(old.glob(f"*{MODEL_SUFFIX}")) if (new / path.name).is_file()]
    if not names:
        raise ValueError(f"the folders '{old}' and '{new}' have no {MODEL_SUFFIX} file of the same name")
    return [(old / name, new / name) for name in names]
