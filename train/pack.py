"""Pack runs into files of a few MB, with float16 weights, to copy them from a rented machine; unpack them into run folders."""

import io
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fer_edge.artifacts.atomic_write import atomic_write
from fer_edge.artifacts.file_digest import file_digest
from fer_edge.artifacts.keras_model import load_keras_model, write_keras_model
from fer_edge.artifacts.run_folder import (
    MODEL_FILE,
    RUN_FILE,
    RunRecord,
    TrainingResults,
    read_finished_run,
    read_run_record,
)
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.fit import measure_splits
from fer_edge.train.networks import build_network, count_parameters
from fer_edge.train.splits import make_split
from fer_edge.train.write_run import finish_run

if TYPE_CHECKING:
    import keras

PART_BYTES = 15_000_000
WEIGHTS_FILE = "weights.npz"


def pack_runs(folders: Sequence[Path], out: Path, part_bytes: int = PART_BYTES) -> list[Path]:
    """Write runs as one tar file, split into parts.

    Args:
        folders: Finished run folders.
        out: Folder for ``runs.tar.00``, ``runs.tar.01``, ...
        part_bytes: Maximum size of a part.

    Returns:
        The parts, in order.

    Raises:
        FileNotFoundError: If a folder is not a run folder or its run has not finished.
        ValueError: If a run is damaged, its model was replaced, or two folders have one name.
    """
    import keras

    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        raise ValueError(f"the run folders need different names. Received: {', '.join(names)}")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in folders:
            run, _ = read_finished_run(folder)
            model = load_keras_model(keras, folder / MODEL_FILE, run.labels, run.plan.image_size)
            weights = io.BytesIO()
            np.savez_compressed(weights, *(values.astype(np.float16) for values in model.get_weights()))
            for name, content in ((RUN_FILE, (folder / RUN_FILE).read_bytes()), (WEIGHTS_FILE, weights.getvalue())):
                entry = tarfile.TarInfo(f"{folder.resolve().name}/{name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    whole = buffer.getvalue()
    parts = []
    for number, start in enumerate(range(0, len(whole), part_bytes)):
        parts.append(out / f"runs.tar.{number:02d}")
        atomic_write(parts[-1], whole[start : start + part_bytes])
    return parts


def unpack_runs(packed: Path, faces: FaceDataset, out: Path) -> list[Path]:
    """Restore run folders from packed runs and measure them again with their rounded weights.

    Args:
        packed: Folder of the parts.
        faces: The data that the runs were trained on.
        out: Folder for the run folders.

    Returns:
        The run folders. Each is restored completely or not at all.

    Raises:
        FileNotFoundError: If there are no parts.
        FileExistsError: If ``out`` has one of the runs already.
        ValueError: If the parts are damaged or the runs were trained on other data.
    """
    parts = sorted(packed.glob("runs.tar.*"))
    if not parts:
        raise FileNotFoundError(f"no runs.tar.00 in '{packed}'. Pack runs: fer-edge dev pack OUT RUN...")
    contents = _read_parts(parts)
    folders = []
    for name, files in contents.items():
        folders.append(out / name)
        if folders[-1].exists():
            raise FileExistsError(f"{folders[-1]} exists already. Choose another folder")
        _unpack_run(files, faces, folders[-1])
    return folders


def _read_parts(parts: Sequence[Path]) -> dict[str, dict[str, bytes]]:
    """Return the content of each packed run, by the name of its folder."""
    contents: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(b"".join(part.read_bytes() for part in parts))) as archive:
            for entry in archive.getmembers():
                folder, name = entry.name.split("/")
                if folder in ("", ".", "..") or "\\" in folder or not folder.isprintable():
                    raise ValueError(f"{entry.name[:80]!a} is not in a run folder")
                file = archive.extractfile(entry) if entry.isreg() else None
                if file is None or name in contents.setdefault(folder, {}):
                    raise ValueError(f"{entry.name[:80]!a} is not a file, or occurs twice")
                contents[folder][name] = file.read()
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ValueError(f"the packed runs in '{parts[0].parent}' are damaged or incomplete ({error}). Pack again") from error
    for folder, files in contents.items():
        if set(files) != {RUN_FILE, WEIGHTS_FILE}:
            raise ValueError(f"the packed run {folder} is damaged: it has {', '.join(sorted(files))}. Pack again")
    return contents


def _unpack_run(files: dict[str, bytes], faces: FaceDataset, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
        unfinished = Path(temporary) / folder.name
        unfinished.mkdir()
        (unfinished / RUN_FILE).write_bytes(files[RUN_FILE])
        run = read_run_record(unfinished)
        if run.results is None:
            raise FileNotFoundError(
                f"the packed run {folder.name} has not finished. Finish it first: fer-edge train ... --resume"
            )
        model = _load_packed_weights(run, run.results, files[WEIGHTS_FILE], faces, folder.name)
        write_keras_model(model, unfinished / MODEL_FILE, faces.labels)
        division = run.split
        split = make_split(faces, division.protocol, division.seed, division.fold, division.folds)
        results = replace(
            run.results,
            model_digest=file_digest(unfinished / MODEL_FILE),
            metrics=measure_splits(model, faces, split),
            weights_rounded_to="float16",
            trained_with=run.versions,
        )
        finish_run(unfinished, run.plan, faces, split, results, run.command)
        unfinished.rename(folder)


def _load_packed_weights(
    run: RunRecord, results: TrainingResults, weights: bytes, faces: FaceDataset, name: str
) -> "keras.Model":
    """Build the network of a run, set its weights and return it."""
    if run.data.fingerprint != faces.fingerprint:
        maps = " and its map:" + "".join(f" --map {pair}" for pair in run.data.label_map) if run.data.label_map else ""
        raise ValueError(f"{name} was trained on other data than '{faces.name}'. Give the data that it was trained on{maps}")
    plan, recipe = run.plan, run.plan.recipe
    model = build_network(
        plan.network, plan.image_size, len(faces.labels), recipe.bn_momentum, last_filters=recipe.last_filters
    )
    if (parameters := count_parameters(model)) != results.parameters:
        raise ValueError(
            f"{name} is a {run.plan.network} with {results.parameters:,} parameters, but here it has {parameters:,}. "
            "Unpack it with the version of fer-edge that trained it"
        )
    try:
        with np.load(io.BytesIO(weights)) as content:
            model.set_weights([content[f"arr_{k}"].astype(np.float32) for k in range(len(content.files))])
    except (ValueError, TypeError, KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"the weights of the packed run {name} are damaged ({error}). Pack again") from error
    return model
