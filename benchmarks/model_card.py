"""Model cards: what a .tflite file is, was measured to do, and must not be used for; every figure from a record."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from fer_edge.artifacts.contract import Contract, read_contract
from fer_edge.benchmarks.experiment_log import RecipeOptions, Record, part_title, split_title
from fer_edge.benchmarks.latency_tables import NOT_MEASURED
from fer_edge.benchmarks.paper.paper_tables import markdown
from fer_edge.edge_runtime.find_model import bundled_models

USE = """## Intended use

Labelling the expression shown on one upright, roughly frontal face, on the device itself: interactive art, games, photo
tools, teaching, research. The expression on a face is not what a person feels.

## Not for

Judging people: hiring, work, school, policing, credit, health. The EU AI Act (Article 5) forbids inferring emotions at work and
in education. Not for identifying anybody either.
"""

LIMITS = {
    "fer2013": "FER2013 was collected from the web by search words; its labels are noisy (people label about two "
    "thirds of the faces so); of its 35,887 pictures 1,853 are copies of others, and 57 groups of equal ones carry "
    "different labels.",
    "": "The model knows the faces of its training data and no others.",
}
BIAS = (
    "Differences between groups of people (age, sex, skin) were not measured: the data has no such labels. Faces of 48 x 48 "
    "pixels are enough for it; profile, occlusion and darkness are not in its training."
)


SHORT_SECONDS = 180  # told in seconds
RUN_CALIBRATION = "the run folder"  # what a contract says of calibration with the run's own faces
PLAIN = ("float32", "float16", "dynamic", "int8")  # precisions that an option of ``fer-edge convert`` alone makes
FINE_TUNING = {"qat": "--qat", "pruned": "--prune", "clustered": "--cluster"}


def model_card(path: Path, trainings: Sequence[Record], evaluations: Sequence[Record], to_cli_args: RecipeOptions) -> str:
    """Return the card of a model as markdown.

    Args:
        path: The .tflite file.
        trainings: All training records, among them that of the run it was made from.
        evaluations: Evaluation records; those of this file are shown.
        to_cli_args: Turns a network and its recipe, as plain data, into options of ``fer-edge train``.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If it holds no contract.
        ValueError: If no record tells of its training or no evaluation was made of it.
    """
    contract = read_contract(path)
    digest = contract.source_digest
    training = next((record for record in trainings if record["digest"] == digest), None)
    own = [one for one in evaluations if one["digest"] == digest and one["precision"] == contract.precision]
    if training is None or not own:
        missing = "of its training (fer-edge report RUN)" if training is None else "of it (fer-edge evaluate --record)"
        raise ValueError(f"a card holds measured figures only, and there is no record {missing}. Received: {path}")
    lineage = _lineage(training, trainings)
    parts = [
        f"# {path.name}",
        markdown(("what", ""), _facts(path, contract, lineage)),
        "## How it was made\n\n" + commands(lineage, contract, to_cli_args, path.name, trainings),
        "## Measured\n\n" + _measured(own),
        _per_class(own, contract),
        "## Limits\n\n" + LIMITS.get(contract.data, LIMITS[""]) + " " + BIAS,
        USE.rstrip(),
    ]
    return "\n\n".join(parts) + "\n"


def _facts(path: Path, contract: Contract, lineage: Sequence[Record]) -> list[tuple[str, str]]:
    counts = contract.split["counts"]
    first = f"; the first of {len(lineage)} trainings, each from the model of the one before" if len(lineage) > 1 else ""
    calibrated = "no" if contract.temperature is None else f"by a temperature of {contract.temperature:.3f}, in its weights"
    return [
        ("network", f"{contract.architecture}, {contract.parameters:,} parameters"),
        ("file", f"{path.stat().st_size:,} bytes, {contract.precision}"),
        ("input", f"{contract.image_size} x {contract.image_size} RGB; grey and scaling happen inside"),
        ("labels", ", ".join(contract.labels)),
        ("training data", f"{contract.data}, {counts['train']:,} faces (fingerprint {contract.data_fingerprint[:16]})"),
        ("split", f"{contract.split['name']}, seed {contract.split['seed']}; {counts['validation']:,} faces to choose by"),
        ("started from", lineage[0]["started_from"] + first),
        ("probabilities calibrated", calibrated),
        ("trained in", _effort(lineage)),
        ("weights kept", _kept(lineage[-1])),
        ("Keras model", f"{contract.source_digest[:8]}: so the tables of `fer-edge report` name it"),
        ("made with", ", ".join(f"{name} {version}" for name, version in contract.versions.items())),
    ]


def _kept(training: Record) -> str:
    """Return which weights of a training are the model's."""
    recipe = training["plan"]["recipe"]
    cycles = recipe.get("cycles", 1)
    if cycles == 1:
        return "their moving average over the last steps" if recipe["ema_momentum"] else "those of the last step"
    return f"the mean of those at the ends of the last {training['averaged_cycles']} of {cycles} cycles"


def _effort(lineage: Sequence[Record]) -> str:
    """Return time and epochs of a run, and together with the runs that it goes back to."""

    def told(runs: Sequence[Record]) -> str:
        seconds, epochs = sum(run["train_seconds"] for run in runs), sum(run["plan"]["epochs"] for run in runs)
        time = f"{seconds:.0f} seconds" if seconds < SHORT_SECONDS else f"{seconds / 60:.0f} minutes"
        return f"{time}, {epochs} epochs"

    last = lineage[-1]
    how = f" ({last['backend']}, {last['precision']})" if last.get("backend") else ""
    return told([last]) + how + (f"; with what it began from {told(lineage)}" if len(lineage) > 1 else "")


def _teachers(training: Record, trainings: Sequence[Record]) -> list[str]:
    """Return what is known of each teacher of a run: a name may stand for a later model by now."""
    by_digest = {one["digest"]: one for one in trainings}
    today = bundled_models() | {f"models/{path.name}": path for path in bundled_models().values()}
    names, told = training["plan"]["teachers"], []
    for name, digest in zip(names, training.get("teacher_digests") or [None] * len(names), strict=True):
        facts = []
        if digest in by_digest:
            facts.append(f"accuracy {by_digest[digest]['metrics']['test']['accuracy']:.4f} in Keras")
        if digest and name in today and read_contract(today[name]).source_digest != digest:
            facts.append("an earlier model than today's of that name")
        told.append(f"{name} ({'; '.join(facts)})" if facts else name)
    return told


def _lineage(training: Record, trainings: Sequence[Record]) -> list[Record]:
    """Return a training record, before it that of the run it began from, and so on: the oldest that can be told first.

    Where it began from a .tflite file, that can be told if the file was an ordinary one, by its name.
    """
    by_digest = {one["digest"]: one for one in trainings}
    lineage = [by_digest.pop(training["digest"], training)]
    while earlier := by_digest.pop(lineage[0].get("started_from_digest"), None):
        file = _file_name(lineage[0])
        if file and _conversion_of(earlier, file) is None:
            break
        lineage.insert(0, earlier)
    return lineage


def _file_name(training: Record) -> str | None:
    """Return the name of the .tflite file that a run began from, None where it was another source."""
    source = training["plan"]["weights"]
    file = bundled_models().get(source, Path(source))
    return file.name if file.suffix == ".tflite" else None


def _conversion_of(training: Record, file: str) -> tuple[list[str], str] | None:
    """Return the options of ``fer-edge convert`` that made a file of this name of a run, and the name it had from them.

    Returns:
        None where nothing is known of it. An int8 file of TensorFlow's quantiser may have been renamed as the plain one.
    """
    name = f"{training['network']}_{training['data']}"
    precision = next((one for one in PLAIN if file == f"{name}_{one}.tflite"), None)
    if precision is None:
        return None
    if precision not in training["converted"] and f"{precision}-tflite" in training["converted"]:
        return [f"--{precision}", "--quantizer", "tflite"], f"{name}_{precision}-tflite.tflite"
    return [f"--{precision}"], file


def commands(
    lineage: Sequence[Record],
    contract: Contract,
    to_cli_args: RecipeOptions,
    file_name: str | None = None,
    trainings: Sequence[Record] = (),
) -> str:
    """Return the commands that make a model again, indented; data, tables and runs by their bare names, as records hold them.

    Lines that begin with ``#`` tell what a command alone would not: which models its teachers were, and where weights are from.

    Args:
        lineage: The training record of its run, last; before it those of the runs it began from, which go to folders of
            their own.
        contract: Its contract.
        to_cli_args: See model_card.
        file_name: The name of the file, where it has another than conversion gives it.
        trainings: All training records.
    """
    lines = []
    weights = _source_option(lineage[0]["plan"]["weights"])
    for number, one in enumerate(lineage[:-1], 1):
        out = f"runs/before{number}"
        lines += _remarks(one, trainings)
        lines.append(shlex.join([*_training(one, weights, to_cli_args), "--out", out]))
        weights = f"{out}/{_run_name(one)}"
        file = _file_name(lineage[number])
        conversion = file and _conversion_of(one, file)
        if conversion:
            lines.append(shlex.join(["fer-edge", "convert", weights, *conversion[0]]))
            weights += f"/{conversion[1]}"
    last = lineage[-1]
    lines += _remarks(last, trainings)
    lines += [shlex.join(_training(last, weights, to_cli_args)), shlex.join(_conversion(last, contract))]
    if file_name and file_name != (made := f"{last['network']}_{last['data']}_{contract.precision}.tflite"):
        lines.append(shlex.join(["mv", f"runs/{_run_name(last)}/{made}", file_name]))
    return "\n".join(f"    {line}" for line in lines)


def _remarks(training: Record, trainings: Sequence[Record]) -> list[str]:
    """Return comments on a command: which models its teachers were, and where weights of a file are from."""
    remarks = []
    teachers = _teachers(training, trainings)
    if teachers != training["plan"]["teachers"]:
        remarks.append(f"# its teachers: {', '.join(teachers)}")
    if Path(training["plan"]["weights"]).suffix == ".h5":
        source = Path(training["plan"]["weights"]).name
        remarks.append(f"# {source}: keras.applications weights in a file; --weights imagenet downloads such")
    return remarks


def _training(training: Record, weights: str, to_cli_args: RecipeOptions) -> list[str]:
    plan, split = training["plan"], training["split"]
    train = ["fer-edge", "train", plan["network"], "--data", _source(training), "--split", split["name"]]
    train += [*to_cli_args(plan["network"], plan["recipe"]), "--epochs", str(plan["epochs"]), "--seed", str(plan["seed"])]
    train += ["--image-size", str(plan["image_size"]), "--weights", weights]
    train += [word for teacher in plan["teachers"] for word in ("--teacher", _source_option(teacher))]
    train += [word for pair in training.get("map", ()) for word in ("--map", pair)]
    if plan.get("ferplus"):
        train += ["--ferplus", plan["ferplus"]]
    if plan["precision"] != "auto":
        train += ["--precision", plan["precision"]]
    if split["fold"] is not None:
        train += ["--folds", str(split["folds"]), "--fold", str(split["fold"])]
    return train


def _run_name(training: Record) -> str:
    """Return the folder name that ``fer-edge train`` gives the run of a record."""
    split = training["split"]
    fold = "" if split["fold"] is None else f"_f{split['fold']}of{split['folds']}"
    return f"{training['network']}-{training['data']}-{training['recipe']}-{split['name']}{fold}-s{training['seed']}"


def _source(training: Record) -> str:
    if training["data"] == "synthetic":
        return "synthetic"
    return f"{training['data']}.csv" if training["plan"].get("ferplus") else f"{training['data']}.zip"


def _source_option(source: str) -> str:
    """Return what --weights or --teacher takes for a source of a record: a word or file as it is, a run below ``runs``."""
    if source in ("auto", "imagenet", "none", *bundled_models()) or Path(source).suffix in (".h5", ".keras"):
        return source
    return source if source.startswith("models/") else f"runs/{source}"


def _conversion(training: Record, contract: Contract) -> list[str]:
    recipe = contract.quantization
    precision = contract.precision.partition("-")[0]
    words = ["fer-edge", "convert", f"--{precision.replace('_', '-')}"]
    if recipe["calibrated"]:
        words += ["--quantizer", recipe["quantizer"]]
        words += [word for layer in recipe.get("keep_float", ()) for word in ("--keep-float", layer)]
        source = recipe.get("calibration", {}).get("source", RUN_CALIBRATION)
        words += [] if source == RUN_CALIBRATION else ["--calibrate-from", Path(source).name]
    tuning = recipe.get("fine_tuning")
    if tuning:
        words.append(FINE_TUNING[tuning["kind"]])
        words += [] if tuning["amount"] is None else [f"{tuning['amount']:g}"]
        words += ["--epochs", str(tuning["epochs"]), "--data", _source(training)]
    return words


def _measured(evaluations: Sequence[Record]) -> str:
    rows = []
    for one in evaluations:
        without = f"{one['accuracy_without_duplicates']:.4f}" if one["duplicates_in_training"] else "-"
        figures = (f"{one['accuracy']:.4f}", without, f"{one['macro']['f1']:.4f}", f"{one['loss']:.4f}", f"{one['ece']:.4f}")
        rows.append((one["data"], part_title(one), str(len(one["classes"])), str(one["count"]), *figures))
    header = ("data", "part", "classes", "faces", "accuracy", "without faces that stand in training", "macro F1", "loss", "ECE")
    warnings = sorted({one["warning"] for one in evaluations if one["warning"]})
    return markdown(header, rows) + "".join(f"\n\nWarning: {warning}." for warning in warnings)


def _per_class(evaluations: Sequence[Record], contract: Contract) -> str:
    """Return the table of classes, on the faces that the contract's figures are of where they were evaluated."""
    own = (contract.data, split_title(contract.split), "test")
    reported = [one for one in evaluations if (one["data"], one["split"], one["part"]) == own]
    one = (reported or evaluations)[0]
    header = ["class", "faces", "precision", "recall", "F1"]
    title = f"Per class, {one['data']} {part_title(one)}"
    before = contract.metrics.get("recall_before", {}) if reported else {}
    if reported:
        header.append("recall before")
        title += "; the last column is the Keras model's, before conversion"
    rows = []
    for label, figures in one["per_class"].items():
        row = [label, str(figures["support"]), *(f"{figures[name]:.4f}" for name in ("precision", "recall", "f1"))]
        earlier = before.get(label)
        rows.append([*row, NOT_MEASURED if earlier is None else f"{earlier:.4f}"][: len(header)])
    return f"{title}:\n\n" + markdown(header, rows)
