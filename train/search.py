"""Search over recipe settings. Every trial is recorded, and trials with low accuracy stop early.

The test split is never used: trials are trained on the training split and compared on the validation split.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_edge.artifacts.training_plan import Plan
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.fit import OnEpoch, train_run
from fer_edge.train.plan import make_plan
from fer_edge.train.recipes import find_recipe, override
from fer_edge.train.splits import Split, make_split

if TYPE_CHECKING:
    import optuna

RECORD_FILE = "trials.jsonl"
STUDY_FILE = "study.db"
STARTUP_TRIALS = 4  # trials that never stop early, so that later ones have something to compare with


def suggest(trial: "optuna.Trial") -> list[str]:
    """Return the settings of one trial, as override expects them."""
    values = {
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 6e-3, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-3, 0.1, log=True),
        "label_smoothing": trial.suggest_float("label_smoothing", 0.0, 0.2),
        "class_weight_power": trial.suggest_float("class_weight_power", 0.0, 0.5),
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
    network: str, faces: FaceDataset, out: Path, trials: int, epochs: int | None = None, image_size: int | None = None
) -> dict[str, Any]:
    """Search for the best settings of the ``edge`` recipe. A stopped search continues.

    Args:
        network: Name in NETWORKS.
        faces: The dataset; the default protocol divides it.
        out: Folder for the study and the record of all trials, JSON lines.
        trials: Number of trials to run now.
        epochs: Epochs per trial. Default: those of the recipe.
        image_size: Side of the input, pixels. Default: that of the network.

    Returns:
        The best of all trials: ``settings``, ``validation_accuracy``, ``number``.

    Raises:
        ImportError: If optuna is not installed.
        ValueError: If no trial was completed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError(f"the search needs optuna ({error}). Install it: pip install 'fer-edge[search]'") from error
    split = _without_test(make_split(faces, "auto"))
    out.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{out / STUDY_FILE}",
        # Only trials of one kind are comparable.
        study_name=f"{network}-{faces.fingerprint[:8]}-{epochs or 'all'}-{image_size or 'default'}",
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS),
    )
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))  # a fixed seed would repeat trials when continuing

    def plan_trial(settings: list[str]) -> Plan:
        return make_plan(network, override(find_recipe("edge", network), settings), image_size, epochs, weights="none")

    study.optimize(lambda trial: _run_trial(trial, plan_trial(suggest(trial)), faces, split, out), n_trials=trials)
    # A pruned trial has a value too, its last accuracy, but its training did not finish.
    completed = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    if not completed:
        raise ValueError(f"none of {len(study.trials)} trials was completed. Run more trials")
    best = max(completed, key=lambda trial: trial.value or 0.0)
    settings = suggest(optuna.trial.FixedTrial(best.params))
    return {"number": best.number, "validation_accuracy": best.value, "settings": settings}


def _run_trial(trial: "optuna.Trial", plan: Plan, faces: FaceDataset, split: Split, out: Path) -> float:
    """Train and record one trial; return its validation accuracy."""
    import optuna

    history: list[float] = []

    def report(epoch: int, metrics: dict[str, float]) -> None:
        history.append(metrics["val_accuracy"])
        trial.report(metrics["val_accuracy"], epoch)
        if epoch < plan.epochs and trial.should_prune():
            raise optuna.TrialPruned

    settings = suggest(optuna.trial.FixedTrial(trial.params))
    record = {"network": plan.network, "number": trial.number, "settings": settings, "epochs": plan.epochs}
    try:
        accuracy = _train(plan, faces, split, report)
    except optuna.TrialPruned:
        _append(out, {**record, "history": history, "validation_accuracy": None})
        raise
    _append(out, {**record, "history": history, "validation_accuracy": accuracy})
    return accuracy


def _train(plan: Plan, faces: FaceDataset, split: Split, on_epoch: OnEpoch) -> float:
    """Return the validation accuracy of a training run whose folder is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        run = train_run(plan, faces, split, Path(folder) / "run", on_epoch=on_epoch)
    if run.results is None:
        raise RuntimeError("the training has no results")
    return run.results.metrics.validation.accuracy


def _without_test(split: Split) -> Split:
    """Return the split with validation in place of test, so that no metric of the test split is ever computed."""
    return replace(split, test=np.copy(split.validation))


def _append(out: Path, record: dict[str, Any]) -> None:
    with (out / RECORD_FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
