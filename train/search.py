"""Search over recipe settings on a part of the training faces; every try is recorded, and bad ones stop early.

The test part is never looked at: the tries train on the training part of the split and are judged by its validation part.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_edge.train.dataset import FaceDataset
from fer_edge.train.fit import make_plan, train_run
from fer_edge.train.recipes import find_recipe, override
from fer_edge.train.splits import Split, make_split

if TYPE_CHECKING:
    import optuna

RECORD_FILE = "tries.jsonl"
STUDY_FILE = "study.db"
STARTUP_TRIES = 4  # a try is compared with others only when there are some


def suggest(trial: "optuna.Trial") -> list[str]:
    """Return the settings of one try, as override takes them."""
    values = {
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 6e-3, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-3, 0.1, log=True),
        "label_smoothing": trial.suggest_float("label_smoothing", 0.0, 0.2),
        "balance": trial.suggest_float("balance", 0.0, 0.5),
        "rotation_degrees": trial.suggest_float("rotation_degrees", 0.0, 20.0),
        "shift": trial.suggest_float("shift", 0.0, 0.15),
        "zoom": trial.suggest_float("zoom", 0.0, 0.2),
        "contrast": trial.suggest_float("contrast", 0.0, 0.4),
        "erase": trial.suggest_float("erase", 0.0, 0.5),
        "mixup": trial.suggest_float("mixup", 0.0, 0.5),
        "cutmix": trial.suggest_float("cutmix", 0.0, 0.5),
    }
    return [f"{name}={value:.6g}" for name, value in values.items()]


def search(
    network: str, faces: FaceDataset, out: Path, tries: int, epochs: int | None = None, image_size: int | None = None
) -> dict[str, Any]:
    """Try settings of the ``edge`` recipe; a search that was stopped goes on where it was.

    Args:
        network: Name in NETWORKS.
        faces: The dataset; its most honest split is taken.
        out: Folder for the study and the record of all tries, JSON lines.
        tries: Tries to make now.
        epochs: Epochs of a try, the recipe's by default.
        image_size: Input side, pixels, the network's by default.

    Returns:
        The best try of all: ``settings``, ``validation_accuracy``, ``number``.

    Raises:
        ImportError: If optuna is not installed.
        ValueError: If no try came to its end.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError(f"the search needs optuna ({error}). Install it: pip install 'fer-edge[search]'") from error
    split = _without_test(make_split(faces, "auto"))
    out.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{out / STUDY_FILE}",
        study_name=f"{network}-{faces.fingerprint[:8]}-{epochs or 'all'}-{image_size or 'own'}",  # tries of one kind only
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIES),
    )

    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))  # or a search that goes on would repeat itself

    def attempt(trial: "optuna.Trial") -> float:
        settings = suggest(trial)
        plan = make_plan(network, override(find_recipe("edge", network), settings), image_size, epochs, weights="none")
        reached: list[float] = []

        def judge(epoch: int, figures: dict[str, float]) -> None:
            reached.append(figures["val_accuracy"])
            trial.report(figures["val_accuracy"], epoch)
            if epoch < plan.epochs and trial.should_prune():
                raise optuna.TrialPruned

        entry = {"network": network, "number": trial.number, "settings": settings, "epochs": plan.epochs}
        try:
            with tempfile.TemporaryDirectory() as folder:
                run = train_run(plan, faces, split, Path(folder) / "run", on_epoch=judge, checkpoint_every=plan.epochs + 1)
            accuracy = float(run["metrics"]["validation"]["accuracy"])
            _record(out, {**entry, "history": reached, "validation_accuracy": accuracy})
        except optuna.TrialPruned:
            _record(out, {**entry, "history": reached, "validation_accuracy": None})
            raise
        return accuracy

    study.optimize(attempt, n_trials=tries)
    # A try that was stopped early has a value too: its last accuracy, which no finished training stands behind.
    done = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    if not done:
        raise ValueError(f"none of {len(study.trials)} tries came to its end. Try more")
    best = max(done, key=lambda trial: trial.value or 0.0)
    settings = suggest(optuna.trial.FixedTrial(best.params))
    return {"number": best.number, "validation_accuracy": best.value, "settings": settings}


def _without_test(split: Split) -> Split:
    """Return the split with validation in the place of test, so that no figure of the test part is ever computed."""
    return replace(split, test=np.copy(split.validation))


def _record(out: Path, entry: dict[str, Any]) -> None:
    with (out / RECORD_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
