"""The published tables 5 to 8 with ours beside them, and what the paper did not measure, from stored records."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_edge.artifacts.atomic_write import atomic_path
from fer_edge.artifacts.mean_ci import estimate
from fer_edge.benchmarks.experiment_log import RecipeOptions, Record, config_key, deduplicate, part_title, split_title
from fer_edge.benchmarks.latency_tables import NOT_MEASURED
from fer_edge.benchmarks.paper.paper_results import PUBLISHED, RELATED, Published

COMPARED_DATA = "ck48"
INT8 = ("int8", "int8-tflite", "int8-mixed")  # of a run that was converted to several the first counts
LEAKY = "leaky split"  # begins the warning of an evaluation that is flattered as its training is
Runs = Sequence[Record]
Figure = Callable[[Record], "float | None"]
Variants = Sequence[tuple[str, Published, list[Record]]]


def comparison(trainings: Runs, evaluations: Runs, to_cli_args: RecipeOptions) -> str:
    """Return the tables as markdown.

    Args:
        trainings: Training records; of runs with equal settings the last counts.
        evaluations: Evaluation records.
        to_cli_args: Turns a network and its recipe, as plain data, into options of ``fer-edge train``.

    Returns:
        Tables 5 to 8 of the published comparison side by side with ours (CK+48, a row for each recipe), before the last
        more of our own recipe; then FER2013, and other data than in training, as far as there are records. Evaluations of int8
        files stand in tables 6 and 7 where those show their runs, all others in the last table.
    """
    runs = deduplicate(trainings)
    compared = [_with_int8(run, evaluations) for run in runs if run["data"] == COMPARED_DATA]
    variants = _variants(compared, to_cli_args)
    other_recipes = [run for run in compared if run["recipe"] != "paper"]
    other_data = [run for run in runs if run["data"] != COMPARED_DATA]
    in_tables = [run["int8"] for _, _, own in variants for run in own]
    others = [one for one in evaluations if one not in in_tables]
    parts = [
        "# The published comparison, and ours beside it\n\n"
        "Made by `fer-edge report` from the records in `benchmarks/results`. CK+48 has three neighbouring frames of each "
        "sequence. The published split, random within each class, puts the same people on both sides: it flatters, and is "
        "here to compare with. The subject split has nobody on two sides. A mean over several runs stands with its standard "
        "deviation, its 95 % interval (Student's t) and the number of runs. Rows without a recipe are of `paper`, the "
        "published one. Runs of the two splits that began from FER2013 models are mostly of other recipes and epochs, so their "
        "difference is not the split's alone. In tables 6 and 7 a network with `int8` behind it is the files "
        "made of the row above, as far as they were evaluated.",
        _provenance(compared),
        "## Accuracy (published table 5)\n\n" + _table_5(variants),
        "## Loss (published table 6)\n\n" + _table_6(variants),
        "## Precision, recall and F1 (published table 7)\n\nThe paper does not say how it weights the classes; ours is "
        "weighted by their faces, and F1 also plain (macro).\n\n" + _table_7(variants),
        _titled("## CK+48 with other recipes", _by_settings(other_recipes, evaluations, to_cli_args)),
        "## Related work (published table 8)\n\nEach as its authors reported it, with a split of their own.\n\n"
        + _table_8(variants),
        _titled("## Other data", _by_settings(other_data, evaluations, to_cli_args)),
        _titled("## Models measured on other data, ensembles and official parts", _evaluations(others, trainings)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _titled(title: str, table: str) -> str:
    return f"{title}\n\n{table}" if table else ""


def _provenance(runs: Runs) -> str:
    starts = []
    for name, row in PUBLISHED.items():
        sources = sorted({_start(run) for run in runs if run["network"] == name})
        if sources:
            starts.append(f"{row.title} from {' or '.join(sources)}")
    return (
        f"Weights that ours started from: {', '.join(starts)}. The published ones, but for the CNN: ImageNet." if starts else ""
    )


def _variants(runs: Runs, to_cli_args: RecipeOptions) -> list[tuple[str, Published, list[Record]]]:
    """Return title, published row and our runs of each network; what differs in more than seed, split and fold stands apart."""
    variants = []
    for name, row in PUBLISHED.items():
        groups: dict[tuple[str, str], list[Record]] = {}
        for run in runs:
            if run["network"] == name:
                plan = run["plan"]
                recipe = "" if run["recipe"] == "paper" else f"{_recipe(run, to_cli_args)}, "
                told = f"{recipe}{plan['epochs']} epochs, {plan['image_size']} px, from {_start(run)}"
                groups.setdefault((told, config_key(run)), []).append(run)
        for (told, _), own in sorted(groups.items()) or [(("", ""), [])]:
            variants.append((f"{row.title}, {told}" if len(groups) > 1 else row.title, row, own))
    return variants


def _start(run: Record) -> str:
    """Return what a run began from, with the digest of that model where it is known: its name may be another model's today."""
    digest = run.get("started_from_digest")
    return f"{run['started_from']} ({digest[:8]})" if digest else str(run["started_from"])


def _recipe(run: Record, to_cli_args: RecipeOptions) -> str:
    """Return the name of a run's recipe and what is otherwise there than in that recipe today."""
    _, name, *options = to_cli_args(run["network"], run["plan"]["recipe"])
    return f"{name} with {', '.join(options[1::2])}" if options else name


def _of(runs: Runs, split: str, figure: Figure, highest: float = 1.0) -> str:
    """Return the mean of a figure over the runs under a split."""
    return _mean([figure(run) for run in runs if run["split"]["name"] == split], highest)


def _mean(values: Sequence[float | None], highest: float = 1.0) -> str:
    measured = [value for value in values if value is not None]
    return str(estimate(measured, highest)) if measured else NOT_MEASURED


def _metric(part: str, *names: str) -> Callable[[Record], float]:
    return lambda run: _value(run["metrics"][part], names)


def _value(figures: Any, names: Sequence[str]) -> float:
    for name in names:
        figures = figures[name]
    return float(figures)


PLOTTED: Sequence[tuple[str, Callable[[Published], float], Callable[[Record], float], float]] = (
    ("test accuracy", lambda row: row.test_accuracy, _metric("test", "accuracy"), 1.0),
    ("validation loss", lambda row: row.validation_loss, _metric("validation", "loss"), math.inf),
    ("test F1, weighted", lambda row: row.f1, _metric("test", "weighted", "f1"), 1.0),
)


def _with_int8(run: Record, evaluations: Runs) -> Record:
    """Return a run with ``int8``: the figures of its int8 file on the test part of its own split, None where there are none.

    Whatever else an evaluation warns of than a leaky split, it was on other faces than these.
    """
    own = (run["digest"], _int8_precision(run), run["data"], split_title(run["split"]), "test")
    keys = ("digest", "precision", "data", "split", "part")
    found = [one for one in evaluations if tuple(one[key] for key in keys) == own]
    return {**run, "int8": next((one for one in found if (one["warning"] or LEAKY).startswith(LEAKY)), None)}


def _int8(run: Record) -> float | None:
    converted = _int8_file(run)
    return None if converted is None else float(converted["accuracy_after"])


def _int8_file(run: Record) -> Mapping[str, Any] | None:
    """Return what is known of a run's int8 file, by whichever quantiser; None where there is none."""
    made: Mapping[str, Mapping[str, Any]] = run["converted"]
    return made.get(_int8_precision(run))


def _int8_precision(run: Record) -> str:
    return next((precision for precision in INT8 if precision in run["converted"]), INT8[0])


def _table_5(variants: Variants) -> str:
    header = (
        "network", "published train", "validation", "test", "paper split: train", "validation", "test", "test, int8",
        "subject split: test", "test, int8",
    )  # fmt: skip
    rows = []
    for title, row, own in variants:
        ours = [_of(own, "paper", _metric(part, "accuracy")) for part in ("train", "validation", "test")]
        subject = _of(own, "subject", _metric("test", "accuracy"))
        int8 = [_of(own, split, _int8) for split in ("paper", "subject")]
        published = (row.train_accuracy, row.validation_accuracy, row.test_accuracy)
        rows.append((title, *(f"{value:.4f}" for value in published), *ours, int8[0], subject, int8[1]))
    return markdown(header, rows)


def _int8_rows(
    title: str, blank: int, own: Runs, figures: Sequence[Sequence[str]], highest: float = 1.0
) -> list[tuple[str, ...]]:
    """Return the row of the runs' int8 files, in the columns behind so many blank ones; none where no file was evaluated."""
    measured = [run for run in own if run["int8"]]
    if not measured:
        return []

    def cell(split: str, names: Sequence[str]) -> str:
        return _of(measured, split, lambda run: _value(run["int8"], names), highest)

    return [(f"{title}, int8", *["-"] * blank, *(cell(split, names) for split in ("paper", "subject") for names in figures))]


def _table_6(variants: Variants) -> str:
    header = ("network", "published train", "validation", "paper split: train", "validation", "test", "subject split: test")
    rows = []
    for title, row, own in variants:
        ours = [_of(own, "paper", _metric(part, "loss"), math.inf) for part in ("train", "validation", "test")]
        subject = _of(own, "subject", _metric("test", "loss"), math.inf)
        rows.append((title, f"{row.train_loss:.4f}", f"{row.validation_loss:.4f}", *ours, subject))
        rows += _int8_rows(title, 4, own, [["loss"]], math.inf)
    return markdown(header, rows)


def _table_7(variants: Variants) -> str:
    header = (
        "network", "published precision", "recall", "F1", "paper split: precision", "recall", "F1", "macro F1",
        "subject split: precision", "recall", "F1", "macro F1",
    )  # fmt: skip
    names = (("weighted", "precision"), ("weighted", "recall"), ("weighted", "f1"), ("macro", "f1"))
    rows = []
    for title, row, own in variants:
        published = [f"{value:.2f}" for value in (row.precision, row.recall, row.f1)]
        ours = [_of(own, split, _metric("test", *name)) for split in ("paper", "subject") for name in names]
        rows.append((title, *published, *ours))
        rows += _int8_rows(title, len(published), own, names)
    return markdown(header, rows)


def _table_8(variants: Variants) -> str:
    rows = [(method, data, f"{accuracy:.2f}", "as reported") for method, data, accuracy in RELATED]
    rows += [(f"{row.title}, published", "CK+", f"{100 * row.test_accuracy:.2f}", "paper") for row in PUBLISHED.values()]
    for title, _, own in variants:
        for split in ("paper", "subject"):
            values = [run["metrics"]["test"]["accuracy"] for run in own if run["split"]["name"] == split]
            if values:
                rows.append((f"{title}, ours", "CK+48", f"{100 * estimate(values).mean:.2f}", split))
    return markdown(("method", "data", "accuracy %", "split"), rows)


def _by_settings(runs: Runs, evaluations: Runs, to_cli_args: RecipeOptions) -> str:
    """Return a table with a row for all runs that differ in seed and fold alone; empty without runs.

    ``no duplicates`` is of the int8 file without the test faces that stand in training too, where that was evaluated.
    """
    if not runs:
        return ""
    header = (
        "network", "px", "parameters", "data", "recipe", "split", "epochs", "started from", "teachers", "validation", "test",
        "test, int8", "no duplicates", "macro F1", "ECE", "int8 KB",
    )  # fmt: skip
    distinct = {
        (one["digest"], one["precision"], one["data"]): one["accuracy_without_duplicates"]
        for one in evaluations
        if one["part"] == "test" and one["duplicates_in_training"]
    }
    groups: dict[tuple[str, ...], list[Record]] = {}
    for run in runs:
        plan = run["plan"]
        teachers = str(len(plan["teachers"])) if plan["teachers"] else "-"
        split = run["split"]["name"] + (f", {run['split']['folds']} folds" if run["split"]["folds"] else "")
        settings = (_recipe(run, to_cli_args), split, str(plan["epochs"]), _start(run), teachers)
        told = (run["network"], str(plan["image_size"]), f"{run['parameters']:,}", run["data"], *settings)
        groups.setdefault((*told, config_key(run)), []).append(run)
    rows = []
    for (*key, _), own in sorted(groups.items()):
        tests = [run["metrics"]["test"] for run in own]
        sizes = [file["file_bytes"] for file in map(_int8_file, own) if file]
        rows.append(
            (
                *key,
                _mean([run["metrics"]["validation"]["accuracy"] for run in own]),
                _mean([test["accuracy"] for test in tests]),
                _mean([_int8(run) for run in own]),
                _mean([distinct.get((run["digest"], _int8_precision(run), run["data"])) for run in own]),
                _mean([test["macro"]["f1"] for test in tests]),
                _mean([test.get("ece") for test in tests]),
                f"{max(sizes) / 1000:.1f}" if sizes else NOT_MEASURED,
            )
        )
    return markdown(header, rows)


def _evaluations(evaluations: Runs, trainings: Runs) -> str:
    if not evaluations:
        return ""
    epochs = {run["digest"]: str(run["plan"]["epochs"]) for run in trainings}
    header = (
        "model", "Keras model", "epochs", "trained on", "measured on", "split", "classes", "faces", "accuracy", "no duplicates",
        "macro F1", "ECE",
    )  # fmt: skip
    rows = []
    for one in evaluations:
        split = part_title(one) + (" (warning)" if one["warning"] else "")
        # Not every data set has duplicates to leave out.
        without = f"{one['accuracy_without_duplicates']:.4f}" if one["duplicates_in_training"] else "-"
        figures = [f"{one['accuracy']:.4f}", without, f"{one['macro']['f1']:.4f}", f"{one['ece']:.4f}"]
        name = one["model"] if one["network"] == "ensemble" else one["title"]
        digests = (one["digest"] or "").split("+")  # ensembles of earlier versions have none
        made_from = (" + ".join(digest[:8] for digest in digests) or "-", epochs.get(one["digest"], "-"))
        about = (one["trained_on"], one["data"], split, str(len(one["classes"])), str(one["count"]))
        rows.append((name, *made_from, *about, *figures))
    warnings = sorted({one["warning"] for one in evaluations if one["warning"]})
    return markdown(header, rows) + "".join(f"\n\nWarning: {warning}." for warning in warnings)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plot_comparison(trainings: Runs, path: Path, to_cli_args: RecipeOptions) -> None:
    """Draw accuracy, loss and F1 per network: published, ours with the paper split, ours with the subject split.

    Args:
        trainings: Training records; of runs with equal settings the last counts.
        path: Image file to write. A row for each row of table 5; bars are means, whiskers their 95 % intervals; a bar is
            absent where nothing was measured.
        to_cli_args: See comparison.
    """
    from matplotlib.figure import Figure as Canvas

    variants = _variants([run for run in deduplicate(trainings) if run["data"] == COMPARED_DATA], to_cli_args)
    rows = range(len(variants))
    canvas = Canvas(figsize=(15, 1.6 + 0.6 * len(variants)), layout="constrained")
    panels = canvas.subplots(1, len(PLOTTED), sharey=True)
    for axes, (title, published, figure, highest) in zip(panels, PLOTTED, strict=True):
        axes.barh([k - 0.27 for k in rows], [published(row) for _, row, _ in variants], 0.26, label="published")
        for shift, split in ((0.0, "paper"), (0.27, "subject")):
            values = {k + shift: [figure(run) for run in variants[k][2] if run["split"]["name"] == split] for k in rows}
            means = {place: estimate(measured, highest) for place, measured in values.items() if measured}
            lengths = [mean.mean for mean in means.values()]
            axes.barh(list(means), lengths, 0.26, label=f"ours, {split} split")
            repeated = {place: mean for place, mean in means.items() if mean.runs > 1}
            reach = [[m.mean - m.low for m in repeated.values()], [m.high - m.mean for m in repeated.values()]]
            centres = [mean.mean for mean in repeated.values()]
            axes.errorbar(centres, list(repeated), xerr=reach, fmt="none", ecolor="black", capsize=3)
        axes.set_xlabel(title)
        if math.isinf(highest):  # one run that diverged must not hide all others
            axes.set_xscale("symlog", linthresh=0.1)
            axes.set_xlabel(f"{title}, linear up to 0.1, then logarithmic")
        axes.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(rows, [title.replace(", from", "\nfrom") for title, _, _ in variants], fontsize=8)
    panels[0].invert_yaxis()
    told = "CK+48; of several runs the mean and its 95 % interval"
    canvas.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False, title=told)
    with atomic_path(path) as temporary:
        canvas.savefig(temporary, format="png", dpi=100)
