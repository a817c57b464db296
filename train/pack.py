"""Carry trained runs from a rented machine: weights as float16, in parts of a few MB; whole runs again at home."""

import io
import json
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge.artifacts.atomic_write import atomic_write
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.fit import Plan, measure_parts
from fer_edge.train.networks import build_network, count_parameters
from fer_edge.train.recipes import recipe_from_data
from fer_edge.train.run_folder import MODEL_FILE, RUN_FILE, finish_run, read_run_file
from fer_edge.train.splits import make_split

PART_BYTES = 15_000_000
WEIGHTS_FILE = "weights.npz"


def pack_runs(folders: Sequence[Path], out: Path, part_bytes: int = PART_BYTES) -> list[Path]:
    """Write runs as the parts of one tar file.

    Args:
        folders: Finished run folders.
        out: Folder for ``runs.tar.00``, ``runs.tar.01``, ...
        part_bytes: Largest size of a part.

    Returns:
        The parts, in order.

    Raises:
        FileNotFoundError: If a run is not there or not finished.
    """
    import keras

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in folders:
            if not read_run_file(folder)["finished"]:
                raise FileNotFoundError(f"the run in '{folder}' is not finished. Finish it: fer-edge train ... --resume")
            model = keras.models.load_model(folder / MODEL_FILE, compile=False)
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
    """Make whole run folders of packed runs, measured anew with their rounded weights.

    Args:
        packed: Folder of the parts.
        faces: The data that the runs were trained on.
        out: Folder for the run folders.

    Returns:
        The run folders, each made whole or not at all.

    Raises:
        FileNotFoundError: If there are no parts.
        FileExistsError: If a run stands in ``out`` already.
        ValueError: If the data is other data.
    """
    parts = sorted(packed.glob("runs.tar.*"))
    if not parts:
        raise FileNotFoundError(f"no runs.tar.00 in '{packed}'. Pack runs: fer-edge dev pack OUT RUN...")
    whole = io.BytesIO(b"".join(part.read_bytes() for part in parts))
    contents: dict[str, dict[str, bytes]] = {}
    with tarfile.open(fileobj=whole) as archive:
        for entry in archive.getmembers():
            file = archive.extractfile(entry)
            if file:
                folder, name = entry.name.split("/")
                contents.setdefault(folder, {})[name] = file.read()
    made = []
    for name, files in contents.items():
        made.append(out / name)
        if made[-1].exists():
            raise FileExistsError(f"{made[-1]} is there already. Choose another folder")
        _unpack_run(json.loads(files[RUN_FILE]), files[WEIGHTS_FILE], faces, made[-1])
    return made


def _unpack_run(run: dict[str, Any], weights: bytes, faces: FaceDataset, folder: Path) -> None:
    if run["data"]["fingerprint"] != faces.fingerprint:
        maps = " and its map:" + "".join(f" --map {pair}" for pair in run["data"]["map"]) if run["data"]["map"] else ""
        raise ValueError(
            f"{folder.name} was trained on other data than '{faces.name}'. Give the data that it was trained on{maps}"
        )
    plan = plan_from_data(run["plan"])
    split = make_split(faces, run["split"]["name"], run["split"]["seed"], run["split"]["fold"], run["split"]["folds"])
    model = build_network(plan.network, plan.image_size, len(faces.labels), plan.recipe.bn_momentum)
    if (parameters := count_parameters(model)) != run["parameters"]:
        raise ValueError(
            f"{folder.name} is a {plan.network} of {run['parameters']:,} parameters, here it has {parameters:,}. "
            "Unpack it with the version of fer-edge that trained it"
        )
    with np.load(io.BytesIO(weights)) as content:
        model.set_weights([content[f"arr_{k}"].astype(np.float32) for k in range(len(content.files))])
    kept = {name: run[name] for name in ("history", "weights", "precision", "backend", "parameters", "train_seconds")}
    kept |= {name: run.get(name) for name in ("temperature", "ema_momentum", "averaged_cycles")}
    results = kept | {"weights_rounded_to": "float16", "trained_with": run["versions"]}
    results["metrics"] = measure_parts(model, faces, split)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as temporary:
        made = Path(temporary) / folder.name
        made.mkdir()
        model.save(made / MODEL_FILE)
        finish_run(made, plan, faces, split, results)
        made.rename(folder)


def plan_from_data(data: dict[str, Any]) -> Plan:
    """Return the plan that a run.json holds as plain data."""
    several = {name: tuple(data[name]) for name in ("teachers", "source_digests")}
    return Plan(**{**data, **several, "recipe": recipe_from_data(data["recipe"])})
