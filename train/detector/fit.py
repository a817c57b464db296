"""Train a detector into a run folder. A stopped training resumes after its last complete epoch."""

import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_path
from fer_edge.artifacts.detection_scores import match, scores
from fer_edge.artifacts.detector_contract import DataSource, DetectionScores
from fer_edge.artifacts.detector_run import (
    DETECTOR_CALIBRATION_FILE,
    DETECTOR_MODEL_FILE,
    VALIDATION_FILE,
    DetectorEpoch,
    DetectorPlan,
    DetectorRun,
    SceneSet,
    is_detector_run,
    read_detector_run,
    read_scene_set,
    write_detector_run,
    write_scene_set,
)
from fer_edge.artifacts.file_digest import file_digest
from fer_edge.artifacts.reporter import SILENT, Progress, Reporter
from fer_edge.edge_runtime.detectors.decode import decode
from fer_edge.train.detector.network import (
    build_detector,
    find_network,
    geometry_loss,
    heat_loss,
    multiply_adds,
)
from fer_edge.train.detector.sources import Sources
from fer_edge.train.detector.stream import (
    CALIBRATION_SEED,
    VALIDATION_SEED,
    SceneStream,
    Shard,
    batches,
    draw_scene_set,
    open_artist,
    read_hard,
)

if TYPE_CHECKING:
    import keras

CHECKPOINT_FILE = "checkpoint.npz"
VALIDATION_SCENES, CALIBRATION_SCENES = 800, 400
LAST_RATE = 0.02  # of the highest learning rate
PREDICTION_BATCH = 64
Predict = Callable[[npt.NDArray[np.uint8]], list[npt.NDArray[np.float32]]]


def train_detector(
    plan: DetectorPlan,
    sources: Sources,
    folder: Path,
    *,
    resume: bool = False,
    workers: int = 1,
    stop_at: float | None = None,
    command: tuple[str, ...] = (),
    versions: dict[str, str] | None = None,
    reporter: Reporter = SILENT,
) -> DetectorRun:
    """Train a detector.

    Args:
        plan: The settings. A resumed training may have other epochs, learning rate and batch size than before.
        sources: The packed images in the folder.
        folder: The run folder.
        resume: Continue from the checkpoint in the folder.
        workers: Number of processes that draw scenes.
        stop_at: Time of time.monotonic(), seconds, after which training stops after the current epoch.
        command: The command, for detector.json.
        versions: Versions of the programs, for detector.json.
        reporter: Receives the results of each epoch, and progress.

    Returns:
        The content of detector.json.

    Raises:
        FileExistsError: If the folder has a run and ``resume`` is off.
        ValueError: If its run has another network.
    """
    import keras

    earlier = _earlier_run(folder, plan, resume)
    validation = _scene_sets(folder, plan)
    keras.utils.set_random_seed(plan.seed)
    model = build_detector(find_network(plan.network))
    _compile(model, plan)
    if earlier and earlier.history:
        _restore(model, folder)
        # The learning rate follows the epochs of this plan, whatever the batch size was before.
        model.optimizer.iterations.assign(len(earlier.history) * (plan.scenes_per_epoch // plan.batch_size))
    run = DetectorRun(
        plan,
        all_data(earlier.data if earlier else (), sources.data),
        int(model.count_params()),
        multiply_adds(model),
        len(read_hard(folder)),
        earlier.history if earlier else (),
        earlier.model_digest if earlier else "",
        command,
        versions or {},
    )
    return _train_epochs(model, run, folder, validation, workers, stop_at, reporter)


def _train_epochs(
    model: "keras.Model",
    run: DetectorRun,
    folder: Path,
    validation: SceneSet,
    workers: int,
    stop_at: float | None,
    reporter: Reporter,
) -> DetectorRun:
    plan = run.plan
    with SceneStream(folder, plan, workers) as stream, reporter.progress(f"training {plan.network}") as progress:
        for epoch in range(len(run.history), plan.epochs):
            run = _train_epoch(model, run, folder, stream.epoch(epoch), validation, progress)
            last = run.history[-1]
            reporter.result(
                f"epoch {epoch + 1}/{plan.epochs}: loss {last.loss:.4f}, {_line(last.scores)}, {last.seconds:.0f} s"
            )
            if stop_at is not None and time.monotonic() >= stop_at:
                reporter.note("time is up: continue with --resume")
                break
    return run


def predictor(model: "keras.Model") -> Predict:
    """Return a function from gray images, uint8 (n, height, width), to the maps of a model: heat maps, then geometry maps."""

    def predict(images: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        return [np.asarray(maps) for maps in model.predict(images[..., None], batch_size=PREDICTION_BATCH, verbose=0)]

    return predict


def evaluate(predict: Predict, scenes: SceneSet, strides: tuple[int, ...]) -> DetectionScores:
    """Return the results of a model on scenes, with one look at each.

    Args:
        predict: From predictor.
        scenes: The scenes.
        strides: Pixels of the input per cell, one per heat map.
    """
    maps = predict(scenes.images)
    heat, geometry = maps[: len(strides)], maps[len(strides) :]
    matches = []
    for index, (faces, ignored) in enumerate(zip(scenes.faces_of(), scenes.ignored_of(), strict=True)):
        found = decode([one[index] for one in heat], [one[index] for one in geometry], strides, 0.0)
        matches.append(match(found.boxes, found.logits, faces, ignored))
    return scores(matches)


def _line(result: DetectionScores) -> str:
    return f"found {100 * result.found:.1f} %, {result.false_per_image:.3f} false per scene, IoU {result.iou:.3f}"


def _earlier_run(folder: Path, plan: DetectorPlan, resume: bool) -> DetectorRun | None:
    if not is_detector_run(folder):
        return None
    run = read_detector_run(folder)
    if not resume:
        raise FileExistsError(
            f"'{folder}' has a run of {len(run.history)} epochs. Continue it with --resume, or choose another --out"
        )
    same = ("network", "height", "width", "strides", "seed")
    changed = [name for name in same if getattr(run.plan, name) != getattr(plan, name)]
    if changed:
        raise ValueError(f"'{folder}' was started with another {', '.join(changed)}. Choose another --out")
    return run


def all_data(earlier: tuple[DataSource, ...], current: tuple[DataSource, ...]) -> tuple[DataSource, ...]:
    """Return all sources of a training, also those of before it was resumed.

    Args:
        earlier: The sources before. Those whose name and role are among the current ones are left out.
        current: The sources now.
    """
    now = {(source.name, source.role) for source in current}
    return (*(source for source in earlier if (source.name, source.role) not in now), *current)


def _scene_sets(folder: Path, plan: DetectorPlan) -> SceneSet:
    """Return the validation scenes; they and the calibration scenes are drawn if the folder lacks them."""
    for file, count, seed, validation in (
        (DETECTOR_CALIBRATION_FILE, CALIBRATION_SCENES, CALIBRATION_SEED, False),
        (VALIDATION_FILE, VALIDATION_SCENES, VALIDATION_SEED, True),
    ):
        if not (folder / file).is_file():
            scenes = draw_scene_set(open_artist(folder, plan, validation), count, (plan.seed, seed))
            write_scene_set(folder / file, scenes)
    return read_scene_set(folder / VALIDATION_FILE)


def _compile(model: "keras.Model", plan: DetectorPlan) -> None:
    import keras

    steps = plan.scenes_per_epoch // plan.batch_size
    schedule = keras.optimizers.schedules.CosineDecay(
        plan.learning_rate / 20,
        decay_steps=max(1, (plan.epochs - 1) * steps),
        alpha=LAST_RATE,
        warmup_target=plan.learning_rate,
        warmup_steps=steps,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=plan.weight_decay, clipnorm=10.0, name="adamw")
    count = len(plan.strides)
    model.compile(optimizer, loss=[heat_loss] * count + [geometry_loss] * count)
    optimizer.build(model.trainable_variables)


def _train_epoch(
    model: "keras.Model",
    run: DetectorRun,
    folder: Path,
    shard: Shard,
    validation: SceneSet,
    progress: Progress,
) -> DetectorRun:
    """Train one epoch, measure it, and write checkpoint, model and detector.json."""
    import keras

    started, plan, epoch = time.monotonic(), run.plan, len(run.history)
    steps = plan.scenes_per_epoch // plan.batch_size
    losses = []
    for step, (images, targets) in enumerate(batches(shard, plan.batch_size, (plan.seed, epoch))):
        losses.append(float(model.train_on_batch(images, [*targets, *targets], return_dict=True)["loss"]))
        progress(epoch * steps + step + 1, plan.epochs * steps)
    result = evaluate(predictor(model), validation, plan.strides)
    # train_on_batch returns the mean since the start of the epoch
    record = DetectorEpoch(losses[-1] if losses else 0.0, result, round(time.monotonic() - started, 1))
    model.reset_metrics()
    with atomic_path(folder / DETECTOR_MODEL_FILE) as temporary:
        keras.Model(model.inputs, model.outputs).save(temporary)  # without the losses, which only training knows
    run = replace(run, history=(*run.history, record), model_digest=file_digest(folder / DETECTOR_MODEL_FILE))
    _save(model, folder)
    write_detector_run(folder, run)
    return run


def _variables(model: "keras.Model") -> dict[str, Any]:
    variables = [*model.variables, *model.optimizer.variables]
    return {f"{index}/{variable.path}": variable for index, variable in enumerate(variables)}


def _save(model: "keras.Model", folder: Path) -> None:
    from keras import ops

    arrays = {name: ops.convert_to_numpy(variable) for name, variable in _variables(model).items()}
    with atomic_path(folder / CHECKPOINT_FILE) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _restore(model: "keras.Model", folder: Path) -> None:
    path = folder / CHECKPOINT_FILE
    try:
        with np.load(path) as content:
            arrays = dict(content)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"the checkpoint {path} cannot be read ({error}). Train again into another folder") from error
    variables = _variables(model)
    if {name: values.shape for name, values in arrays.items()} != {name: tuple(v.shape) for name, v in variables.items()}:
        raise ValueError(f"the checkpoint {path} belongs to another network. Train again into another folder")
    for name, variable in variables.items():
        variable.assign(arrays[name])
