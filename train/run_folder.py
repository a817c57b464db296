"""The run folder: everything that later stages need of one training run."""

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_path, atomic_write
from fer_edge.artifacts.contract import Contract, read_contract
from fer_edge.edge_runtime.find_model import resolve_model
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.recipes import recipe_from_data
from fer_edge.train.splits import Split, ids_digest

if TYPE_CHECKING:
    from fer_edge.train.fit import Plan

MODEL_FILE = "model.keras"
RUN_FILE = "run.json"
CALIBRATION_FILE = "calibration.npz"
HELD_OUT_FILE = "held_out.npz"
CALIBRATION_FACES = 256
HELD_OUT_FACES = 4000
RUN_VERSION = 1


def run_name(network: str, recipe: str, data: str, split: Split, seed: int) -> str:
    """Return the folder name of a run, for example ``mobilenet_v2-ck48-paper-subject_f3of10-s0``."""
    fold = "" if split.fold is None else f"_f{split.fold}of{split.folds}"
    return f"{network}-{data}-{recipe}-{split.name}{fold}-s{seed}"


def read_run_file(folder: Path) -> dict[str, Any]:
    """Return the content of a run folder's run.json.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged, or written by another version.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        raise FileNotFoundError(f"'{folder}' is no run folder: it has no {RUN_FILE}. Train one: fer-edge train")
    try:
        run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = run["run_version"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}). Remove the folder and train again") from error
    if version != RUN_VERSION:
        raise ValueError(f"{path} is of version {version}, not {RUN_VERSION}. Train again")
    return run


def check_no_leakage_from_run(run: dict[str, Any], told: str, faces: FaceDataset, split: Split) -> None:
    """Check that a run from which another one learns has not seen the faces that this one will be judged by.

    Args:
        run: Its run.json.
        told: What it is here, for the error: ``the teacher 'x'``.
        faces: The dataset. A run of other pictures, or of the same under other labels, cannot be checked and passes.
        split: Its division.

    Raises:
        ValueError: If it was trained on validation or test faces of this split.
    """
    if run["data"]["fingerprint"] != faces.fingerprint:
        return
    held_out = {faces.ids[i] for i in np.concatenate([split.validation, split.test])}
    seen = held_out & set(run["split"]["ids"]["train"])
    if seen:
        raise ValueError(
            f"{told} was trained on {len(seen)} faces that are validation or test here. "
            "Take one of the same split, seed and fold, or one of other data"
        )


def is_model_file(source: str | Path) -> bool:
    """Whether a teacher or a source of initial weights is a .tflite file and no run folder."""
    return Path(source).suffix == ".tflite"


def source_digest(source: str) -> str | None:
    """Return the sha256 of the Keras model that a teacher or a source of initial weights is, or was made from.

    Args:
        source: A run folder, a .keras or .tflite file, or a model that comes with fer-edge.

    Returns:
        None where it is something else (``imagenet``, ``none``, a file of keras.applications weights) or is not there.

    Raises:
        ModelError: If it is a .tflite file, but not of fer-edge.
    """
    path = resolve_model(source)
    if is_model_file(path):
        return read_contract(path).source_digest if path.is_file() else None
    model = path / MODEL_FILE if path.is_dir() else path
    return file_digest(model) if model.suffix == Path(MODEL_FILE).suffix and model.is_file() else None


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_no_leakage_from_tflite(contract: Contract, told: str, faces: FaceDataset, split: Split) -> None:
    """Check what check_no_leakage_from_run does, for a .tflite file: it tells the digest of its training faces, not their ids.

    Args:
        contract: What the file says of itself.
        told: What it is here, for the error.
        faces: The dataset.
        split: Its division.

    Raises:
        ValueError: If it was trained on the same data under another split.
    """
    if contract.data_fingerprint != faces.fingerprint:
        return
    if contract.split["train_digest"] != ids_digest(split.ids(faces)["train"]):
        own = f"split {contract.split['name']}, seed {contract.split['seed']}"
        raise ValueError(
            f"{told} was trained on other faces of the same data ({own}), so it may have seen validation or test faces of "
            "this split. Take one of the same split, seed and fold, or one of other data"
        )


def check_resumable(folder: Path, plan: "Plan", faces: FaceDataset, resume: bool) -> dict[str, Any] | None:
    """Check that a run can be made, or gone on with, in a folder.

    Returns:
        The content of run.json where the run is finished already, None where there is work to do.

    Raises:
        FileExistsError: If it holds a run and ``resume`` is off.
        ValueError: If its run was started on other data, with other settings, or with other models as teachers or beginning.
    """
    if not (folder / RUN_FILE).is_file():
        return None
    if not resume:
        raise FileExistsError(f"{folder} holds a run already. Continue it with --resume, or choose another --out")
    run = read_run_file(folder)
    earlier, wanted = run["plan"], _plan_as_data(plan)
    digests = wanted.pop("source_digests")
    was, now = _settings(earlier), _settings(wanted)
    other = [f"{name} {was.get(name)}, not {value}" for name, value in now.items() if was.get(name) != value]
    if not other:
        sources = zip((plan.weights, *plan.teachers), earlier.get("source_digests", digests), digests, strict=True)
        other = [f"'{source}' was another model" for source, then, today in sources if today and then != today]
    if run["data"]["fingerprint"] != faces.fingerprint:
        other.append("other pictures")
    if other:
        told = "; ".join(other)
        raise ValueError(
            f"the run in {folder} was started with other settings ({told}). Resume with those, or choose another --out"
        )
    return run if run["finished"] else None


def _settings(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a plan, those of its recipe one by one; what an earlier plan does not name has its default."""
    recipe = dataclasses.asdict(recipe_from_data(plan["recipe"]))
    recipe.pop("epochs")  # of all networks; the plan has its own
    augmentation = recipe.pop("augmentation")
    own = {name: value for name, value in plan.items() if name not in ("recipe", "source_digests")}
    return {**own, **recipe, **augmentation}


def start_run(folder: Path, plan: "Plan", faces: FaceDataset, split: Split) -> None:
    """Write the run.json of a run that begins."""
    _write_run(folder, plan, faces, split, {})


def finish_run(folder: Path, plan: "Plan", faces: FaceDataset, split: Split, results: dict[str, Any]) -> dict[str, Any]:
    """Write calibration and held-out faces, plots and the finished run.json.

    Args:
        folder: The run folder; model.keras is in it.
        plan: What was trained.
        faces: The dataset.
        split: Its division.
        results: What training gave: history, metrics and more.

    Returns:
        The content of run.json.
    """
    from fer_edge.train.plots import plot_confusion, plot_curves

    calibration = faces.take(choose_calibration(faces, split, plan.seed))
    _write_faces(folder / CALIBRATION_FILE, calibration)
    rng = np.random.default_rng(plan.seed)
    held_out = split.test
    if len(held_out) > HELD_OUT_FACES:
        held_out = np.sort(rng.choice(held_out, HELD_OUT_FACES, replace=False))
    _write_faces(folder / HELD_OUT_FILE, faces.take(held_out))
    plot_curves(results["history"], folder / "curves.png")
    plot_confusion(results["metrics"]["test"]["confusion"], faces.labels, folder / "confusion.png")
    digest = file_digest(folder / MODEL_FILE)
    return _write_run(folder, plan, faces, split, {"finished": True, "model_digest": digest, **results})


def choose_calibration(faces: FaceDataset, split: Split, seed: int) -> npt.NDArray[np.intp]:
    """Choose distinct training faces for quantisation, evenly over the classes.

    Returns:
        At most CALIBRATION_FACES indices of training pictures, none of which also stands in validation or test.
    """
    rng = np.random.default_rng(seed)
    taken = {faces.digests[i] for i in np.concatenate([split.validation, split.test])}
    queues: list[list[int]] = []
    for k in range(len(faces.labels)):
        queues.append([int(i) for i in rng.permutation(split.train[faces.targets[split.train] == k])])
    chosen: list[int] = []
    while len(chosen) < CALIBRATION_FACES and any(queues):
        for queue in queues:
            while queue:
                candidate = queue.pop()
                if faces.digests[candidate] not in taken:
                    taken.add(faces.digests[candidate])
                    chosen.append(candidate)
                    break
    return np.sort(np.array(chosen[:CALIBRATION_FACES], np.intp))


def _write_faces(path: Path, faces: FaceDataset) -> None:
    """Write faces at their own resolution: one array where all have one shape, else one array each."""
    content: dict[str, Any] = {"targets": faces.targets}
    if len({image.shape for image in faces.images}) == 1:
        content["images"] = np.stack(faces.images)
    else:
        content |= {f"image_{number:05d}": image for number, image in enumerate(faces.images)}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **content)


def _plan_as_data(plan: "Plan") -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(plan)))
    return data


def _write_run(folder: Path, plan: "Plan", faces: FaceDataset, split: Split, results: dict[str, Any]) -> dict[str, Any]:
    run = {
        "run_version": RUN_VERSION,
        "finished": False,
        "network": plan.network,
        "image_size": plan.image_size,
        "labels": list(faces.labels),
        "recipe": dataclasses.asdict(plan.recipe) | {"epochs": plan.epochs},
        "seed": plan.seed,
        "plan": _plan_as_data(plan),
        "data": {
            "name": faces.name,
            "fingerprint": faces.fingerprint,
            "pictures": len(faces),
            "resolution_px": faces.resolution_px,
            "skipped": list(faces.skipped),
            "map": list(faces.label_map),
        },
        "split": {**split.summary(faces), "ids": split.ids(faces)},
        "versions": _versions(),
        "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **results,
    }
    text = json.dumps(run, indent=1)
    atomic_write(folder / RUN_FILE, text)
    written: dict[str, Any] = json.loads(text)
    return written


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("fer-edge", "keras", "numpy", "tensorflow", "jax", "torch"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
