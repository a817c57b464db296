"""Datasets: class folders, FER2013's csv, the original CK+ release and synthetic faces, all read by load_faces."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fer_edge.artifacts.reporter import SILENT, Progress, Reporter
from fer_edge.artifacts.run_folder import RunRecord
from fer_edge.edge_runtime.file_types import IMAGE_SUFFIXES
from fer_edge.train.dataset import DataError, FaceDataset
from fer_edge.train.dataset_files import ARCHIVE, MAX_TABLE_BYTES, TABLE_SUFFIXES, DatasetFiles, read_table
from fer_edge.train.dataset_rows import Rows
from fer_edge.train.ferplus import with_votes
from fer_edge.train.read_ckplus import CODE_SUFFIX, read_ckplus
from fer_edge.train.read_class_folders import read_class_folders
from fer_edge.train.read_options import CROPS, DEFAULT_OPTIONS, PHOTOS, ReadOptions
from fer_edge.train.read_tables import read_tables
from fer_edge.train.synthetic import synthetic_faces

SYNTHETIC = "synthetic"
MAX_REASONS = 20  # printed; the run folder has all


def check_source(source: str) -> None:
    """Check that there is a dataset.

    Raises:
        FileNotFoundError: If there is nothing at ``source``.
    """
    if source.partition(":")[0] != SYNTHETIC and not Path(source).exists():
        raise FileNotFoundError(f"no dataset at '{source}'. Give a folder, a zip or a csv, or 'synthetic' to try without data")


def load_faces(source: str, options: ReadOptions = DEFAULT_OPTIONS, progress: Progress | None = None) -> FaceDataset:
    """Load a dataset.

    Args:
        source: A folder, a zip or a csv file; or ``synthetic``, or ``synthetic:N`` with N identities.
        options: How to read it.
        progress: Called with (images read, number of images).

    Returns:
        The faces. Labels are in canonical order if all are canonical, otherwise sorted.

    Raises:
        FileNotFoundError: If there is nothing at ``source``.
        ValueError: If a class map is not CLASS=LABEL.
        DataError: If the data has no images, an unusable class name, an empty class or too many damaged images, or lacks a
            class of the map.
    """
    label_map = options.parsed_label_map()
    if source == SYNTHETIC or source.startswith(f"{SYNTHETIC}:"):
        if label_map.given:
            raise DataError(f"the synthetic faces have no classes to map. Received: {', '.join(label_map.given)}")
        return synthetic_faces(_synthetic_identities(source), progress=progress)
    path = Path(source)
    check_source(source)
    if path.suffix.lower() in TABLE_SUFFIXES:
        rows = read_tables({path.name: read_table(path)}, str(path), options, progress)
    else:
        rows = _read_files(DatasetFiles(path), options, progress)
    return replace(rows.to_dataset(path), label_map=label_map.pairs())


def read_faces(source: str | Path, options: ReadOptions = DEFAULT_OPTIONS, reporter: Reporter = SILENT) -> FaceDataset:
    """Load a dataset for a command: report progress, and warn of the images that cannot be used.

    Args:
        source: See load_faces.
        options: How to read it.
        reporter: Receives progress and the warning.

    Raises:
        FileNotFoundError: If there is nothing at ``source``.
        ValueError: If the map or the data cannot be used.
    """
    with reporter.progress("reading faces") as progress:
        faces = load_faces(str(source), options, progress)
    for note in (*faces.notes, *([faces.photos.message()] if faces.photos else ())):
        reporter.note(note)
    if faces.skipped:
        reasons = "".join(f"\n  {reason}" for reason in faces.skipped[:MAX_REASONS])
        more = f"\n  and {len(faces.skipped) - MAX_REASONS} more" if len(faces.skipped) > MAX_REASONS else ""
        reporter.warn(f"{len(faces.skipped)} of {len(faces) + len(faces.skipped)} images skipped:{reasons}{more}")
    return faces


def read_training_faces(
    source: str | Path, record: RunRecord, reporter: Reporter = SILENT, label_map: Sequence[str] = ()
) -> FaceDataset:
    """Load a dataset as the training of a run did.

    Args:
        source: See load_faces.
        record: The run.json of the run.
        reporter: Receives progress and warnings.
        label_map: Further renamed classes, CLASS=LABEL each.

    Raises:
        FileNotFoundError: If there is nothing at ``source``.
        ValueError: If the map or the data cannot be used.
    """
    options = ReadOptions(label_map, stored_label_map=record.data.label_map, faces=CROPS)
    if crop := record.crop:
        options = replace(options, faces=PHOTOS, detector=crop.convention, crop_for=lambda detector: crop)
    faces = read_faces(source, options, reporter)
    return with_votes(faces, record.plan.ferplus) if record.plan.ferplus else faces


def _read_files(files: DatasetFiles, options: ReadOptions, progress: Progress | None) -> Rows:
    """Read a folder or zip: the original CK+ release, class folders, or a table inside."""
    try:
        if any(name.endswith(CODE_SUFFIX) for name in files.files):
            return read_ckplus(files, options, progress)
        if files.images:
            return read_class_folders(files, options, progress)
        if not files.tables:
            rest = f"; it has: {files.left_out}" if files.left_out.names else ""
            if any(reason.endswith(ARCHIVE) for reason in files.left_out.names):
                rest += ". Unpack it and give the folder"
            raise DataError(f"{files.path} has no images (looked for {', '.join(IMAGE_SUFFIXES)}) and no csv{rest}")
        contents = {name: files.read(name, MAX_TABLE_BYTES) for name in files.tables}
        return read_tables(contents, str(files.path), options, progress)
    finally:
        files.close()


def _synthetic_identities(source: str) -> int:
    _, _, count = source.partition(":")
    if count and not (count.isdigit() and int(count) >= 10):
        raise DataError(f"synthetic:N needs a whole number of identities N, at least 10. Received: '{source}'")
    return int(count) if count else 60
