"""Model cards: what a .tflite file is, its measured accuracy, its limits and its intended use; every metric from a record."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from fer_edge.artifacts.accuracy_records import EvaluationRecord, TrainingRecord
from fer_edge.artifacts.contract import Contract, read_contract
from fer_edge.artifacts.file_digest import file_digest
from fer_edge.artifacts.training_plan import CLEAN, SAME
from fer_edge.benchmarks.tables import NOT_MEASURED, markdown_table

USE = """## Intended use

Label the expression of one upright, roughly frontal face, on the device: interactive art, games, photo tools, teaching,
research. The expression of a face does not say what a person feels.

## Do not use it to

- judge people: hiring, work, school, policing, credit, health. The EU AI Act (Article 5) prohibits emotion recognition at work
  and in education.
- identify people."""

LIMITS = {
    "fer2013": "FER2013 was collected from the web by search words. Its labels are noisy: people agree with about two thirds "
    "of them. Of its 35,887 images 1,853 are copies of others, and 57 groups of identical images have different labels.",
    "ferplus": "The faces are those of FER2013, collected from the web by search words; 1,853 of its 35,887 images are copies. "
    "FER+ has ten annotators for each face. They are not unanimous: an accuracy counts only the faces on which more than half "
    "of them agree. Contempt, disgust and fear are rare, so their metrics rest on few faces.",
    "": "The model has seen only the faces of its training data.",
}
BIAS = (
    "Differences between groups of people (age, sex, skin) were not measured, because the data has no such labels. The "
    "training data has no profiles, covered faces or darkness. Faces of 48 x 48 pixels are large enough."
)
ORIGIN = (
    "The recorded commands, in order. A model name in them means the model that had this name at that time; the digests above "
    "identify the teachers."
)
SHORT_SECONDS = 180  # shown in seconds


def model_card(path: Path, trainings: Sequence[TrainingRecord], evaluations: Sequence[EvaluationRecord]) -> str:
    """Return the card of a model as markdown.

    Args:
        path: The .tflite file.
        trainings: All training records, including that of the run the file was made from.
        evaluations: Evaluation records. The card shows those of this file.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If it has no contract.
        ValueError: If there is no record of its training or no evaluation of it.
    """
    contract = read_contract(path)
    digest = contract.source_digest
    training = next((record for record in trainings if record.results.model_digest == digest), None)
    own = (digest, contract.precision, 1)  # headline figures have one view
    matches = [record for record in evaluations if (record.digest, record.precision, record.views) == own]
    if training is None or not matches:
        missing = "its training (fer-edge dev report RUN)" if training is None else "its accuracy (fer-edge evaluate --record)"
        raise ValueError(f"a card shows measured metrics only, and there is no record of {missing}. Received: {path}")
    ancestry = ancestors(training, trainings)
    parts = [
        f"# {path.name}",
        markdown_table(("fact", "value"), _facts(path, contract, ancestry, trainings)),
        "## How it was made\n\n" + ORIGIN + "\n\n" + _commands(ancestry, contract),
        "## Accuracy\n\n" + _accuracy(matches),
        _per_class(matches, contract),
        "## Limits\n\n" + LIMITS.get(contract.data, LIMITS[""]) + " " + BIAS,
        USE,
    ]
    return "\n\n".join(parts) + "\n"


def ancestors(training: TrainingRecord, trainings: Sequence[TrainingRecord]) -> list[TrainingRecord]:
    """Return a training after those of the models that its initial weights come from; the oldest recorded one first.

    Args:
        training: The record.
        trainings: All training records.
    """
    by_digest = {record.results.model_digest: record for record in trainings}
    ancestry = [by_digest.pop(training.results.model_digest, training)]
    while parent := by_digest.pop(ancestry[0].plan.parent_digests[0] or "", None):
        ancestry.insert(0, parent)
    return ancestry


def _facts(
    path: Path, contract: Contract, ancestry: Sequence[TrainingRecord], trainings: Sequence[TrainingRecord]
) -> list[tuple[str, str]]:
    counts, split = contract.split.counts, contract.split
    calibrated = "no" if contract.temperature is None else f"by temperature {contract.temperature:.3f}, included in the weights"
    start = _start(ancestry[0])
    if len(ancestry) > 1:
        start += f"; first of {len(ancestry)} trainings, each of which starts from the model of the previous one"
    return [
        ("network", f"{contract.architecture}, {contract.parameters:,} parameters"),
        ("size", f"{path.stat().st_size:,} bytes, {contract.precision}"),
        ("input", f"{contract.image_size} x {contract.image_size} RGB; conversion to gray and scaling are part of the model"),
        ("labels", ", ".join(contract.labels)),
        ("training data", f"{contract.data}, {counts.train:,} faces (fingerprint {contract.data_fingerprint[:16]})"),
        ("split", f"{split.protocol}, seed {split.seed}; {_validation(contract, ancestry[-1])}"),
        ("initial weights", start),
        ("teachers", _teachers(ancestry[-1], trainings)),
        ("training", _effort(ancestry)),
        ("weights kept", _kept(ancestry[-1])),
        ("calibrated probabilities", calibrated),
        ("Keras model", contract.source_digest[:8]),
        ("sha256 of the file", file_digest(path)),
        ("made with", ", ".join(f"{name} {version}" for name, version in contract.versions.items())),
    ]


def _validation(contract: Contract, training: TrainingRecord) -> str:
    """Return what the validation faces were used for."""
    count = f"{contract.split.counts.validation:,}"
    if not contract.split.validation_in_training:
        return f"{count} faces for validation"
    chooser = (training.plan.validated_by or "")[:8]
    return (
        f"no validation: {count} of the training faces chose epochs, temperature and threshold in an earlier run "
        f"({chooser}), and were trained on in this one"
    )


def _start(training: TrainingRecord) -> str:
    """Return the initial weights of a training, with the license of published ones."""
    weights = training.results.weights
    return f"{weights.source} ({weights.license})" if weights.license else weights.source


def _teachers(training: TrainingRecord, trainings: Sequence[TrainingRecord]) -> str:
    """Return the teachers of a training, their views, and the digest of each: a name may be of a later model by now."""
    plan = training.plan
    digests = plan.parent_digests[1:] or (None,) * len(plan.teachers)
    titles = [f"{name} ({digest[:8]})" if digest else name for name, digest in zip(plan.teachers, digests, strict=True)]
    if not titles:
        return "none"
    seen = {CLEAN: "", SAME: "; they classified the augmented faces that the network saw"}
    what = seen.get(plan.teacher_views, f"; they classified {plan.teacher_views} augmentations of each face")
    by_digest = {record.results.model_digest: record for record in trainings}
    known = [by_digest[digest] for digest in digests if digest in by_digest]
    starts = sorted({_start(ancestors(record, trainings)[0]) for record in known if _licensed(record, trainings)})
    return ", ".join(titles) + what + "".join(f"; initial weights of a teacher: {start}" for start in starts)


def _licensed(training: TrainingRecord, trainings: Sequence[TrainingRecord]) -> bool:
    """Return whether the first ancestor of a training started from published weights."""
    return ancestors(training, trainings)[0].results.weights.license is not None


def _kept(training: TrainingRecord) -> str:
    """Return which weights of a training are the model's."""
    recipe = training.plan.recipe
    if recipe.cycles == 1:
        return "moving average over the last steps" if recipe.ema_momentum else "of the last step"
    return f"average of the snapshots from the last {training.results.averaged_cycles} of {recipe.cycles} cycles"


def _effort(ancestry: Sequence[TrainingRecord]) -> str:
    """Return time and epochs of the last training, and of all together."""

    def total(trainings: Sequence[TrainingRecord]) -> str:
        seconds = sum(training.results.train_seconds for training in trainings)
        time = f"{seconds:.0f} seconds" if seconds < SHORT_SECONDS else f"{seconds / 60:.0f} minutes"
        return f"{time}, {sum(training.plan.epochs for training in trainings)} epochs"

    results = ancestry[-1].results
    how = f" ({results.backend}, {results.precision})" if results.backend else ""
    return total(ancestry[-1:]) + how + (f"; all trainings together {total(ancestry)}" if len(ancestry) > 1 else "")


def _commands(ancestry: Sequence[TrainingRecord], contract: Contract) -> str:
    """Return the recorded commands of the trainings and of the conversion, in order, indented."""
    commands = [training.command for training in ancestry] + [contract.command]
    lines = [shlex.join(command) if command else "# a program, without a command" for command in commands]
    return "\n".join(f"    {line}" for line in lines)


def _accuracy(evaluations: Sequence[EvaluationRecord]) -> str:
    rows = []
    for record in evaluations:
        metrics = record.metrics
        without = f"{record.accuracy_without_duplicates:.4f}" if record.duplicates_in_training else "-"
        other_metrics = (f"{value:.4f}" for value in (metrics.macro.f1, metrics.loss, metrics.ece))
        about = (record.data, record.split_title, str(len(record.classes)), str(metrics.count))
        rows.append((*about, f"{metrics.accuracy:.4f}", without, *other_metrics))
    header = (
        "data", "protocol and split", "classes", "faces", "accuracy", "without images that are also in training", "macro F1",
        "loss", "ECE",
    )  # fmt: skip
    table = markdown_table(header, rows)
    voted = [record for record in evaluations if record.votes]
    if voted:
        table += "\n\n" + _votes(voted)
    warnings = sorted({record.warning for record in evaluations if record.warning})
    return table + "".join(f"\n\nWarning: {warning}." for warning in warnings)


def _votes(evaluations: Sequence[EvaluationRecord]) -> str:
    """Return the agreement with the annotators of FER+."""
    rows = [
        (record.data, record.split_title, str(record.votes.count), f"{record.votes.agreement:.4f}", f"{record.votes.ece:.4f}")
        for record in evaluations
        if record.votes
    ]
    header = ("data", "protocol and split", "faces", "annotators who chose the predicted label", "ECE against votes")
    return (
        "On the data `ferplus` the accuracy above is the agreement with the majority of ten annotators, over the faces that "
        "have one. Over all faces with an expression:\n\n" + markdown_table(header, rows)
    )


def _per_class(evaluations: Sequence[EvaluationRecord], contract: Contract) -> str:
    """Return the table of classes, on the faces of the contract's metrics if they were evaluated."""
    test_split = (contract.data, contract.split.title, "test")
    same_faces = [record for record in evaluations if (record.data, record.protocol, record.split) == test_split]
    shown = (same_faces or evaluations)[0]
    header = ["class", "faces", "precision", "recall", "F1"]
    title = f"Per class, {shown.data} {shown.split_title}"
    # Votes are evaluated on the faces with a majority, the Keras model was on all.
    before = contract.metrics.before.recall if same_faces and contract.metrics and not shown.votes else None
    if before is not None:
        header.append("recall in Keras")
        title += "; the last column is the Keras model before conversion"
    rows = []
    for label, scores in shown.metrics.per_class.items():
        row = [label, str(scores.support), *(f"{value:.4f}" for value in (scores.precision, scores.recall, scores.f1))]
        if before is not None:
            recall = before.get(label)
            row.append(NOT_MEASURED if recall is None else f"{recall:.4f}")
        rows.append(row)
    return f"{title}:\n\n" + markdown_table(header, rows)
