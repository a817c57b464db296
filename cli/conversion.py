"""Conversion and verification with datasets that training reads. The stages themselves do not import each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fer_edge.artifacts.reporter import SILENT, Reporter

if TYPE_CHECKING:
    from fer_edge.artifacts.run_folder import Run, StoredFaces
    from fer_edge.convert.convert_run import ConvertOptions
    from fer_edge.convert.write_and_check import ConversionResult


def convert(
    run: str | Path | None = None,
    options: "ConvertOptions | None" = None,
    *,
    command: Sequence[str] = (),
    reporter: Reporter = SILENT,
) -> "list[ConversionResult]":
    """Convert a run to TFLite, exactly as ``fer-edge convert`` does.

    Example:
        >>> import fer_edge
        >>> for result in fer_edge.convert("runs/my-run", fer_edge.ConvertOptions(precisions=("float16", "int8"))):
        ...     print(result.path, result.contract.metrics.after.accuracy, result.issues)

    Args:
        run: The run folder; None for the newest run in ``options.runs``.
        options: What to convert to. Default: ConvertOptions(), which is int8.
        command: The command line, for the contract.
        reporter: Receives messages and progress.

    Returns:
        One result per precision, also for files that the gate rejects.

    Raises:
        FileNotFoundError: If there is no such run, or no finished one.
        ValueError: If the run or the data does not fit the options, or the calibration faces are not suitable.
        RuntimeError: If fine-tuning or a converter fails.
        ImportError: If a package of the extra ``convert`` is missing.
    """
    from fer_edge.convert import convert_run
    from fer_edge.train.read_dataset import read_training_faces
    from fer_edge.train.start_keras import check_keras, start_keras

    chosen = options or convert_run.ConvertOptions()
    check_keras()
    return convert_run.convert(
        run, chosen, read_dataset=read_training_faces, start_keras=start_keras, command=command, reporter=reporter
    )


def read_test_faces(
    run: "Run", data: str, protocol: str | None = None, label_map: Sequence[str] = (), reporter: Reporter = SILENT
) -> "StoredFaces":
    """Read faces to verify a file on, other than those in its run folder.

    Args:
        run: The run that the file was converted from.
        data: Dataset.
        protocol: How the dataset is divided; None for the protocol of the run.
        label_map: Renamed classes, CLASS=LABEL each, in addition to those of the run.
        reporter: Receives progress and warnings.

    Returns:
        The test faces of the dataset.

    Raises:
        FileNotFoundError: If the dataset does not exist.
        ValueError: If it cannot be read or divided.
    """
    from fer_edge.artifacts.run_folder import StoredFaces
    from fer_edge.train.evaluation_set import TrainingProvenance, select_faces
    from fer_edge.train.read_dataset import read_training_faces

    record = run.record
    faces = read_training_faces(data, record, reporter, label_map)
    trained = TrainingProvenance(record.labels, record.data.name, record.data.fingerprint, record.split, record.ids)
    selection = select_faces(faces, trained, protocol)
    if selection.warning:
        reporter.warn(selection.warning)
    return StoredFaces(selection.faces.images, selection.faces.targets)
