"""Compile models for NPUs with test faces of datasets that training reads. ``fer-edge convert --npu`` is this file."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.gate import Thresholds
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.artifacts.run_folder import RUN_FILE, StoredFaces, newest_run, read_run
from fer_edge.convert.npu.compile_model import NpuResult, compile_for_npus
from fer_edge.convert.npu.targets import IMX500, NpuTarget
from fer_edge.edge_runtime.find_model import find_model, resolve_model

if TYPE_CHECKING:
    from fer_edge.convert.write_and_check import ConversionResult
    from fer_edge.edge_runtime.images import Image


class NpuFaces(NamedTuple):
    """Test faces and training faces; None where there are none."""

    test: StoredFaces | None
    calibration: StoredFaces | None


def is_model(source: Path | None) -> bool:
    """Return whether a source is a model file or the name of a bundled model, not a run folder."""
    return source is not None and resolve_model(source).is_file()


def compile_model(
    model: Path,
    targets: Sequence[NpuTarget],
    data: str | None = None,
    count: int = 200,
    thresholds: Thresholds | None = None,
    out: Path | None = None,
    reporter: Reporter = SILENT,
) -> list[NpuResult]:
    """Compile a converted file for NPUs.

    Args:
        model: The .tflite file, or the name of a bundled model.
        targets: From find_target.
        data: Labeled faces: the test split for the simulator, the training split to calibrate imx500. None for the faces of the
            run folder that contains the model; without such a folder nothing is simulated.
        count: Maximum number of faces for the simulator.
        thresholds: Thresholds of the gate; None for the defaults.
        out: Folder for the files; None for the current folder if the model is a bundled one, otherwise that of the model.
        reporter: Receives progress and warnings.

    Raises:
        FileNotFoundError: If the model or the data does not exist.
        ValueError: If the model, the data or an option cannot be used.
        ImportError: If a compiler is not installed.
        RuntimeError: If a compiler or the simulator fails.
    """
    path = find_model(model)
    calibrated = any(target.vendor == IMX500 for target in targets)
    faces = _faces_of_data(path, data, calibrated, reporter) if data else _faces_of_run(path)
    if out is None and not Path(model).exists():
        out = Path()
    return compile_for_npus(path, targets, _choose(faces.test, count), thresholds, out, reporter, faces.calibration)


def compile_results(
    run: Path | None,
    runs: Path,
    results: "Sequence[ConversionResult]",
    targets: Sequence[NpuTarget],
    count: int = 200,
    thresholds: Thresholds | None = None,
    reporter: Reporter = SILENT,
) -> list[NpuResult]:
    """Compile the int8 files that a run was just converted to. Files that the gate rejected are left out.

    Args:
        run: The run folder; None for the newest run in ``runs``.
        runs: Folder of runs.
        results: From fer_edge.convert.
        targets: From find_target.
        count: Maximum number of faces for the simulator.
        thresholds: Thresholds of the gate; None for the defaults.
        reporter: Receives progress.
    """
    source = read_run(run or newest_run(runs))
    faces, training = _choose(source.held_out, count), source.calibration
    paths = [result.path for result in results if not result.issues]
    return [found for path in paths for found in compile_for_npus(path, targets, faces, thresholds, None, reporter, training)]


def _choose(faces: StoredFaces | None, count: int) -> StoredFaces | None:
    """Return at most a number of faces, the same in every call."""
    if faces is None or len(faces.images) <= count:
        return faces
    chosen = np.sort(np.random.default_rng(0).permutation(len(faces.images))[:count])
    return StoredFaces(tuple(faces.images[index] for index in chosen), faces.targets[chosen])


def _faces_of_run(model: Path) -> NpuFaces:
    """Return the faces of the run folder that a model is in, none if it is not in the folder of its run."""
    from fer_edge.artifacts.contract import read_contract

    if not (model.parent / RUN_FILE).is_file():
        return NpuFaces(None, None)
    run = read_run(model.parent)
    same = run.results.model_digest == read_contract(model).source_digest
    return NpuFaces(run.held_out, run.calibration) if same else NpuFaces(None, None)


def _faces_of_data(model: Path, data: str, calibrated: bool, reporter: Reporter) -> NpuFaces:
    from fer_edge.train.evaluate_model import DatasetReader, load_model
    from fer_edge.train.evaluation_set import select_faces
    from fer_edge.train.read_options import ReadOptions

    loaded = load_model(model)
    faces = DatasetReader(data, ReadOptions(), None, reporter).faces_for(loaded)
    selection = select_faces(faces, loaded.trained)
    if selection.warning:
        reporter.warn(selection.warning)
    test = selection.faces
    stored = StoredFaces(tuple(test.images), test.targets)
    if not calibrated:
        return NpuFaces(stored, None)
    training = select_faces(faces, loaded.trained, split="train")
    if training.split != "train":
        raise ValueError(f"imx500 is calibrated with training faces, but '{data}' has no training split. Give data with splits")
    distinct = {digest: number for number, digest in enumerate(training.faces.digests)}
    new = sorted(distinct[digest] for digest in distinct.keys() - set(test.digests))
    return NpuFaces(stored, _evenly(training.faces.images, training.faces.targets, new))


def _evenly(images: "Sequence[Image]", targets: npt.NDArray[np.int64], indices: Sequence[int]) -> StoredFaces:
    """Return up to CALIBRATION_FACES of some faces, evenly over the classes, the same in every call."""
    from fer_edge.train.calibration_faces import CALIBRATION_FACES

    order = np.random.default_rng(0).permutation(np.asarray(indices, np.intp))
    rank = np.zeros(len(order), np.intp)  # number of faces of its class before it
    for label in np.unique(targets[order]):
        mask = targets[order] == label
        rank[mask] = np.arange(mask.sum())
    chosen = np.sort(order[np.argsort(rank, kind="stable")[:CALIBRATION_FACES]])
    return StoredFaces(tuple(images[index] for index in chosen), targets[chosen])
