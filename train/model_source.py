"""A model that another one learns from, as initial weights or as a teacher: a run folder, a .keras or a .tflite file."""

from pathlib import Path

import numpy as np

from fer_edge.artifacts.contract import Contract, read_contract
from fer_edge.artifacts.file_digest import file_digest
from fer_edge.artifacts.run_folder import MODEL_FILE, RunRecord
from fer_edge.edge_runtime.find_model import resolve_model
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.splits import Split, ids_digest


def is_tflite(source: str | Path) -> bool:
    """Return whether a source is a .tflite file, not a run folder."""
    return Path(source).suffix == ".tflite"


def source_digest(source: str) -> str | None:
    """Return the sha256 of the Keras model that a source is, or was made from.

    Args:
        source: A run folder, a .keras or .tflite file, a bundled model, or an .npz file, whose own sha256 is returned.

    Returns:
        None for any other source (``imagenet``, ``none``, a file of keras.applications weights) and for a missing file.

    Raises:
        ModelError: If it is a .tflite file that was not made by fer-edge.
    """
    path = resolve_model(source)
    if is_tflite(path):
        return read_contract(path).source_digest if path.is_file() else None
    model = path / MODEL_FILE if path.is_dir() else path
    return file_digest(model) if model.suffix in (Path(MODEL_FILE).suffix, ".npz") and model.is_file() else None


def check_no_leakage_from_run(run: RunRecord, description: str, faces: FaceDataset, split: Split) -> None:
    """Check that a run was not trained on faces that are held out here.

    Args:
        run: Its run.json.
        description: What the run is used for, for the error: ``the teacher 'x'``.
        faces: The dataset. A run on other images, or on other labels of the same images, cannot be checked and passes.
        split: Its division.

    Raises:
        ValueError: If the run was trained on validation or test faces of this split.
    """
    if run.data.fingerprint != faces.fingerprint:
        return
    held_out = {faces.ids[i] for i in np.concatenate([split.validation, split.test])}
    seen = held_out & set(run.ids.train)
    if seen:
        raise ValueError(
            f"{description} was trained on {len(seen)} faces that are validation or test here. "
            "Use a model of the same protocol, seed and fold, or of other data"
        )


def check_no_leakage_from_tflite(contract: Contract, description: str, faces: FaceDataset, split: Split) -> None:
    """Check a .tflite file like check_no_leakage_from_run. The file has only the digest of its training ids.

    Args:
        contract: The contract of the file.
        description: What the file is used for, for the error.
        faces: The dataset.
        split: Its division.

    Raises:
        ValueError: If it was trained on the same data, divided in another way.
    """
    if contract.data_fingerprint != faces.fingerprint:
        return
    if contract.split.train_digest != ids_digest(faces.ids[i] for i in split.train):
        raise ValueError(
            f"{description} was trained on another split of the same data (protocol {contract.split.protocol}, seed "
            f"{contract.split.seed}), so it may have seen validation or test faces of this split. "
            "Use a model of the same protocol, seed and fold, or of other data"
        )
