import copy
import json
import shlex
import shutil
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_edge.artifacts.contract import read_contract
from fer_edge.benchmarks.experiment_log import (
    append_evaluations,
    append_trainings,
    deduplicate,
    part_title,
    read_evaluations,
    read_trainings,
    split_title,
    training_record,
)
from fer_edge.benchmarks.model_card import _lineage, _teachers, commands, model_card
from fer_edge.benchmarks.paper.paper_results import PUBLISHED
from fer_edge.benchmarks.paper.paper_tables import comparison
from fer_edge.commands import convert, train
from fer_edge.convert.fine_tune import plan_fine_tuning
from fer_edge.convert.quantization_recipes import find_recipe as convert_recipe
from fer_edge.edge_runtime.find_model import bundled_models
from fer_edge.train.evaluate_model import evaluate_ensemble, evaluate_model
from fer_edge.train.fit import make_plan
from fer_edge.train.recipes import CHANGED_SUFFIX, find_recipe, override, to_cli_args
from fer_edge.train.run_folder import run_name
from fer_edge.train.splits import leakage_warning, make_split
from fer_edge.train.synthetic import synthetic_faces

HEAD = {
    "network": "cnn", "parameters": 900_000, "recipe": "paper", "data": "ck48", "started_from": "none", "converted": {},
    "digest": "a", "data_fingerprint": "f",
}  # fmt: skip


def training(split, accuracy, seed=0, **changes):
    """A training record whose figures are all told by one."""
    named = {**HEAD, **changes}
    recipe = asdict(find_recipe(named["recipe"].removesuffix(CHANGED_SUFFIX), named["network"]))
    scores = {"precision": accuracy, "recall": accuracy, "f1": accuracy - 0.1}
    figures = {"accuracy": accuracy, "loss": 1 - accuracy, "weighted": scores, "macro": scores}
    return {
        **HEAD,
        "seed": seed,
        "split": {"name": split, "seed": 0, "fold": None, "folds": None},
        "plan": {"epochs": 30, "image_size": 48, "teachers": [], "recipe": recipe},
        "metrics": {part: copy.deepcopy(figures) for part in ("train", "validation", "test")},
        **changes,
    }


def tables(runs):
    return comparison(runs, [], to_cli_args)


def rows_of(text, title):
    section = text.split(f"## {title}")[1].split("##")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")][2:]


def test_the_published_tables_stand_beside_the_means_of_ours():
    records = [training("paper", 0.9), training("paper", 0.94, seed=1), training("subject", 0.8)]
    records[2]["converted"] = {"int8": {"accuracy_after": 0.79}}
    text = tables(records)
    cnn, vgg16 = rows_of(text, "Accuracy (published table 5)")[:2]
    assert cnn[:4] == ["CNN", "0.9783", "0.9797", "0.9800"]
    assert cnn[6] == "0.9200 ± 0.0283 (0.6659 to 1.0000, 2 runs)"
    assert cnn[7:] == ["not measured", "0.8000", "0.7900"]
    assert set(vgg16[4:]) == {"not measured"}
    assert rows_of(text, "Loss (published table 6)")[0][-1] == "0.2000"
    assert rows_of(text, "Precision, recall and F1 (published table 7)")[0][-1] == "0.7000"
    assert rows_of(text, "Related work (published table 8)")[-1] == ["CNN, ours", "CK+48", "80.00", "subject"]
    assert len(rows_of(text, "Accuracy (published table 5)")) == len(PUBLISHED)


def test_the_figures_of_int8_files_stand_below_those_of_their_runs():
    runs = [training("subject", accuracy, seed=fold, digest=f"fold {fold}") for fold, accuracy in enumerate((0.9, 0.8, 0.7))]
    for fold, run in enumerate(runs):
        run["split"] |= {"fold": fold, "folds": 3}
        run["converted"] = {"int8": {"accuracy_after": 0.5, "file_bytes": 1000}}
    keys = {"precision": "int8", "data": "ck48", "part": "test"}
    figures = {"loss": 0.4, "weighted": {"precision": 0.6, "recall": 0.5, "f1": 0.55}, "macro": {"f1": 0.45}}
    told = {"title": "cnn int8", "model": "m", "network": "cnn", "trained_on": "ck48", "classes": [], "count": 9}
    told |= {"warning": None, "accuracy": 0.5, "ece": 0.1, "duplicates_in_training": None}
    own = {**told, **keys, **figures, "digest": "fold 1", "split": split_title(runs[1]["split"])}
    others = [
        {**own, "digest": "fold 2"},  # another fold's test faces
        *({**own, key: other} for key, other in (("precision", "float16"), ("data", "fer2013"), ("part", "validation"))),
        {**own, "warning": "the model was trained under another split (subject, seed 1): it has seen some of these faces"},
        {**own, "network": "cnn_nano", "digest": "a network that is not compared"},
    ]
    leaky = leakage_warning({"leaky": True, "shared_subjects": 0, "identical_pictures": 1})
    flattered = {**own, "digest": "fold 0", "split": "subject 0/3", "warning": leaky, "loss": 0.2}
    narrow = training("subject", 0.9, network="cnn_nano", digest="a network that is not compared")
    narrow["split"] |= {"fold": 1, "folds": 3}
    text = comparison([*runs, narrow], [*others, own, flattered], to_cli_args)
    loss = rows_of(text, "Loss (published table 6)")[1]
    assert (loss[0], loss[5], loss[6].split(" (")[0]) == ("CNN, int8", "not measured", "0.3000 ± 0.1414")
    scores = rows_of(text, "Precision, recall and F1 (published table 7)")[1]
    assert [cell.split(" ")[0] for cell in scores[8:]] == ["0.6000", "0.5000", "0.5500", "0.4500"]
    elsewhere = rows_of(text, "Models measured on other data, ensembles and official parts")
    assert len(elsewhere) == len(others)
    assert "int8" not in tables(runs).split("## Loss")[1].split("## CK+48")[0]


def test_runs_of_other_weights_or_epochs_are_not_mixed_into_one_mean():
    rows = rows_of(
        tables([training("paper", 0.9), training("paper", 0.98, started_from="cnn-fer2013")]),
        "Accuracy (published table 5)",
    )
    assert [(row[0], row[6]) for row in rows[:2]] == [
        ("CNN, 30 epochs, 48 px, from cnn-fer2013", "0.9800"),
        ("CNN, 30 epochs, 48 px, from none", "0.9000"),
    ]


def test_models_of_one_name_that_runs_began_from_stand_apart_by_digest():
    runs = [
        training("paper", accuracy, started_from="cnn-fer2013", started_from_digest=digest)
        for accuracy, digest in ((0.9, "0123456789"), (0.98, "abcdef0123"))
    ]
    text = tables(runs)
    assert [(row[0], row[6]) for row in rows_of(text, "Accuracy (published table 5)")[:2]] == [
        ("CNN, 30 epochs, 48 px, from cnn-fer2013 (01234567)", "0.9000"),
        ("CNN, 30 epochs, 48 px, from cnn-fer2013 (abcdef01)", "0.9800"),
    ]
    assert "CNN from cnn-fer2013 (01234567) or cnn-fer2013 (abcdef01)" in text


def test_runs_of_another_recipe_or_data_have_tables_of_their_own():
    others = [
        training("subject", 0.7, recipe="edge"),
        training("official", 0.6, data="fer2013", recipe="edge"),
        training("official", 0.5, data="fer2013", recipe="edge", parameters=800_000),
    ]
    text = tables([training("paper", 0.9), *others])
    assert [(row[2], row[10]) for row in rows_of(text, "CK+48 with other recipes")] == [("900,000", "0.7000")]
    built = [(row[2], row[10]) for row in rows_of(text, "Other data")]
    assert built == [("800,000", "0.5000"), ("900,000", "0.6000")]
    alone = tables([training("paper", 0.9)])
    assert "with other recipes" not in alone
    assert "## Other data" not in alone


def test_runs_of_other_settings_are_other_rows():
    runs = [training("official", accuracy, data="fer2013", recipe="edge-changed") for accuracy in (0.5, 0.6, 0.7, 0.8, 0.9)]
    for seed, (run, mixup) in enumerate(zip(runs, (0.2, 0.2, 0.3, 0.2, 0.2), strict=True)):
        run["plan"]["recipe"] = asdict(override(find_recipe("edge", "cnn"), [f"mixup={mixup}"]))
        run["seed"] = seed
    del runs[0]["plan"]["recipe"]["cycles"]  # as in records of before there were any: the same as 1
    runs[3]["plan"]["image_size"] = 64
    runs[4]["teacher_digests"] = ["another model of the teacher's name"]
    rows = [(row[4], row[10].partition(" ")[0]) for row in rows_of(tables(runs), "Other data")]
    mild, strong = "edge with mixup=0.2", "edge with mixup=0.3"
    assert sorted(rows) == [(mild, "0.5500"), (mild, "0.8000"), (mild, "0.9000"), (strong, "0.7000")]
    for run in runs:
        run["data"], run["split"]["name"] = "ck48", "paper"
    rows = [row[6].partition(" ")[0] for row in rows_of(tables(runs), "Accuracy (published table 5)")]
    assert sorted(rows)[:4] == ["0.5500", "0.7000", "0.8000", "0.9000"]


def test_a_record_of_a_run_is_added_once_and_names_no_folder_of_the_user(run_folder, models, tmp_path):
    folder = tmp_path / "runs" / "cnn-run"
    shutil.copytree(run_folder, folder)
    results = tmp_path / "accuracy.jsonl"
    assert append_trainings(results, [folder]) == 1
    assert append_trainings(results, [folder]) == 0
    shutil.copy(models["int8"], folder)
    assert append_trainings(results, [folder]) == 1  # converted since, which takes the earlier record's place
    (record,) = deduplicate(read_trainings(results))
    assert record["converted"]["int8"]["file_bytes"] == models["int8"].stat().st_size
    assert record["metrics"]["test"]["count"] > 0
    assert str(tmp_path) not in results.read_text()
    facts = json.loads((folder / "run.json").read_text())
    facts["plan"]["teachers"] = [str(tmp_path / "runs" / "a" / "model.keras"), str(tmp_path / "a" / "cnn_int8.tflite")]
    (folder / "run.json").write_text(json.dumps(facts))
    assert training_record(folder)["plan"]["teachers"] == ["a", "a/cnn_int8.tflite"]
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        append_trainings(results, [tmp_path])


def test_of_an_evaluation_made_twice_the_last_counts(tmp_path):
    keys = {
        "digest": "d",
        "data": "x",
        "split": "s",
        "part": "test",
        "classes": ["happy"],
        "model": "/home/me/m.tflite",
        "warning": None,
    }
    for precision, accuracy in (("int8", 0.1), ("int8-tflite", 0.3), ("int8", 0.2)):
        append_evaluations(tmp_path / "r.jsonl", [{**keys, "precision": precision, "accuracy": accuracy}])
    read = [(one["accuracy"], one["model"]) for one in read_evaluations(tmp_path / "r.jsonl")]
    assert read == [(0.2, "m.tflite"), (0.3, "m.tflite")]
    (tmp_path / "r.jsonl").write_text('{"kind": "other"}\n')
    with pytest.raises(ValueError, match=r"line 1 of .* is no record of accuracy"):
        read_evaluations(tmp_path / "r.jsonl")


def test_an_ensemble_is_the_mean_of_its_members_probabilities(models, faces):
    members = [evaluate_model(models[precision], faces) for precision in ("float32", "int8")]
    both = evaluate_ensemble(members)
    mean = (members[0].probabilities + members[1].probabilities) / 2
    assert both.probabilities == pytest.approx(mean)
    right = mean.argmax(axis=1) == both.selection.faces.targets
    assert both.figures["accuracy"] == right.mean()
    assert both.figures["title"] == "ensemble of 2"
    with pytest.raises(ValueError, match="on other faces or labels than"):
        evaluate_ensemble([members[0], evaluate_model(models["int8"], faces, part="validation")])
    with pytest.raises(ValueError, match="at least two"):
        evaluate_ensemble(members[:1])


def test_evaluations_name_a_split_and_part_as_records_do(models, faces):
    contract = read_contract(models["int8"])
    own, everything = (evaluate_model(models["int8"], faces, split).figures for split in (None, "all"))
    assert own["split"] == split_title(contract.split)
    assert (part_title(own), part_title(everything)) == (f"{own['split']} test", "all")
    folded = make_split(faces, "subject", seed=1, fold=2, folds=3)
    assert split_title(folded.summary(faces)) == folded.title


def test_on_other_data_only_the_classes_that_both_have_are_asked_for(models, faces):
    few = faces.with_labels(("happy", "sad"))
    whole = evaluate_model(models["int8"], few, "all")
    shared = evaluate_model(models["int8"], few, "all", shared_classes=True)
    assert (whole.figures["classes"], shared.figures["classes"]) == (list(faces.labels), ["happy", "sad"])
    columns = [faces.labels.index(label) for label in ("happy", "sad")]
    asked = whole.probabilities[:, columns].argmax(axis=1)
    assert shared.figures["accuracy"] == (asked == few.targets).mean()
    assert shared.probabilities.sum(axis=1) == pytest.approx(np.ones(len(few)), abs=1e-5)


def test_report_writes_tables_plot_and_a_card_of_measured_figures(invoke, error_of, run_folder, models, tmp_path):
    results, card = tmp_path / "r.jsonl", tmp_path / "cnn_synthetic_int8.tflite"
    shutil.copy(models["int8"], card)
    assert "no records in" in error_of("report", "--results", results)
    out = ("--results", results, "--out", tmp_path / "c.md")
    assert "no record of it" in error_of("report", run_folder, *out, "--card", card)
    asked = invoke("evaluate", card, "--data", "synthetic:12", "--record", results, "--json")
    accuracy = json.loads(asked.stdout)[0]["accuracy"]
    result = invoke("report", run_folder, *out, "--card", card)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert "| synthetic | paper | subject |" in (tmp_path / "c.md").read_text()
    text = card.with_suffix(".md").read_text()
    assert f"| {accuracy:.4f} |" in text
    assert "fer-edge train cnn --data synthetic --split subject --recipe paper --epochs 2 --seed 1" in text
    assert "EU AI Act" in text
    assert "| recall before |" in text


def words_after(text, command):
    (line,) = [line for line in text.splitlines() if line.startswith(f"    fer-edge {command} ")]
    return shlex.split(line)[2:]


def test_the_commands_of_a_card_make_the_run_and_the_file_again(models):
    recipe = override(find_recipe("edge", "cnn_nano"), ["schedule=constant", "flip=false", "mixup=0.2"])
    plan = make_plan(
        "cnn_nano", recipe, epochs=7, seed=3, weights="donor-s0", precision="float32", ferplus="new.csv",
        teachers=["big one", "mobilenet_v2", "models/cnn_nano_fer2013_int8.tflite", "big one/cnn_fer2013_int8.tflite"],
    )  # fmt: skip
    split = {"name": "subject", "fold": 1, "folds": 5}
    record = {"data": "fer2013", "split": split, "plan": json.loads(json.dumps(asdict(plan))), "map": ["contempt=-"]}
    contract = read_contract(models["int8"])
    tuned = convert_recipe("int8", "ai-edge", ["block1/conv a"], plan_fine_tuning(True, None, None, 2).as_data())
    contract = replace(contract, precision=tuned.precision, quantization={**contract.quantization, **tuned.as_data()})
    text = commands([record], contract, to_cli_args)
    got = train.command.make_context("train", words_after(text, "train")).params
    assert override(find_recipe(got["recipe_name"], "cnn_nano"), got["settings"]) == recipe
    wanted = {
        "networks": ("cnn_nano",), "data": "fer2013.csv", "split_name": "subject", "folds": 5, "fold": 1, "epochs": 7,
        "seeds": "3", "image_size": plan.image_size, "weights": ("runs/donor-s0",),
        "teachers": (
            "runs/big one", "mobilenet_v2", "models/cnn_nano_fer2013_int8.tflite", "runs/big one/cnn_fer2013_int8.tflite"
        ),
        "ferplus": "new.csv", "precision": "float32", "maps": ("contempt=-",),
    }  # fmt: skip
    assert {name: got[name] for name in wanted} == wanted
    got = convert.command.make_context("convert", words_after(text, "convert")).params
    assert (got["precisions"], got["quantizer"], got["keep_float"]) == (("int8",), "ai-edge", ("block1/conv a",))
    assert (got["qat"], got["prune"], got["epochs"], got["data"]) == (True, None, 2, "fer2013.csv")
    pruned = {
        **contract.quantization,
        **convert_recipe("float16", None, (), plan_fine_tuning(False, 50, None, 4).as_data()).as_data(),
    }
    text = commands([record], replace(contract, precision=pruned["precision"], quantization=pruned), to_cli_args)
    got = convert.command.make_context("convert", words_after(text, "convert")).params
    assert (got["precisions"], got["prune"], got["qat"], got["epochs"]) == (("float16",), 50, False, 4)


def how_it_was_made(card):
    """The commands of a card."""
    return card.partition("## How it was made\n\n")[2].partition("\n\n##")[0]


def made_in(text, command):
    """The options of each of the lines of a card that call a command, as the command itself reads them."""
    lines = [shlex.split(line) for line in text.splitlines() if not line.startswith("    #")]
    return [commands_of[command].command.make_context(command, words[2:]).params for words in lines if words[1] == command]


SHIPPED = Path(__file__).resolve().parents[1] / "models"
SHORT = {"--epochs": "1", "--data": "fer2013.zip", "--precision": "float32"}
ANYTHING = ("--max-accuracy-drop", "100", "--max-recall-drop", "100", "--min-agreement", "0")


@pytest.fixture(scope="module")
def like_fer2013(tmp_path_factory):
    """A folder with drawn faces in FER2013's classes and parts, and the models that a command of a card may name."""
    folder = tmp_path_factory.mktemp("card")
    (folder / "models").symlink_to(SHIPPED)
    drawn = synthetic_faces(18)
    with zipfile.ZipFile(folder / "fer2013.zip", "w") as archive:
        for image, target, subject, name in zip(drawn.images, drawn.targets, drawn.subjects, drawn.ids, strict=True):
            label, part = drawn.labels[target], "test" if subject in ("P000", "P001") else "train"
            if label != "contempt":
                archive.writestr(f"{part}/{label}/{Path(name).name}", cv2.imencode(".png", image)[1].tobytes())
    return folder


def shortened(words):
    """A command of a card for a few faces and one epoch, or two that are a cycle each."""
    cycles = any(word.startswith("cycles=") for word in words)
    short = SHORT | ({"--epochs": "2"} if cycles else {})
    shorter = [short.get(option, word) for option, word in zip(["", *words], words, strict=False)]
    return ["cycles=2" if word.startswith("cycles=") else word for word in shorter]


@pytest.mark.parametrize("card", sorted(SHIPPED.glob("*.md")), ids=lambda card: card.stem)
def test_the_commands_of_a_shipped_card_are_commands_of_today(card):
    contract = read_contract(card.with_suffix(".tflite"))
    text = how_it_was_made(card.read_text())
    *_, own = made_in(text, "train")
    assert own["networks"] == (contract.architecture,)
    recipe = override(find_recipe(own["recipe_name"], contract.architecture), own["settings"])
    assert recipe.name == contract.recipe
    *_, conversion = made_in(text, "convert")
    assert (conversion["precisions"], conversion["quantizer"]) == (("int8",), contract.quantization["quantizer"])


@pytest.mark.tensorflow
@pytest.mark.parametrize("network", ["cnn_nano", "cnn"])
def test_the_commands_of_a_shipped_card_run_again_on_fewer_faces(network, like_fer2013, invoke, monkeypatch):
    monkeypatch.chdir(like_fer2013)
    card = SHIPPED / f"{network}_fer2013_int8.md"
    text = how_it_was_made(card.read_text())
    for line in text.splitlines():
        program, *words = shlex.split(line) if not line.startswith("    #") else ["#"]
        if program == "mv":
            shutil.move(*words)
        elif program == "fer-edge":
            short = shortened(words)
            result = invoke(*short, *(ANYTHING if words[0] == "convert" else ()))
            assert result.exit_code == 0, result.output
            assert ("of 2 cycles: validation accuracy" in result.output) == ("cycles=2" in short)
    shipped, file = card.with_suffix(".tflite"), Path(card.stem + ".tflite")
    made = file if file.is_file() else next(Path("runs").glob(f"*/{file}"))
    same = ("architecture", "labels", "image_size", "precision", "recipe", "parameters")
    assert [getattr(read_contract(made), name) for name in same] == [getattr(read_contract(shipped), name) for name in same]


commands_of = {"train": train, "convert": convert}


def begun_from(record, weights, **changes):
    """A record of a run that began from the run of another record."""
    later = {**record, "digest": f"{record['digest']} and on", "started_from_digest": record["digest"], **changes}
    return {**later, "plan": {**record["plan"], "weights": weights}}


def test_a_card_tells_of_all_runs_that_its_own_goes_back_to(run_folder, models, faces, tmp_path):
    whole = training_record(run_folder)
    split = make_split(faces, "subject", seed=1, fold=2, folds=3)
    name = run_name("cnn", "paper", "synthetic", split, 1)
    facts = {**whole["split"], "fold": 2, "folds": 3}
    first = {**whole, "digest": "oldest", "split": facts}
    second = begun_from(first, name, split=facts)
    third = begun_from(second, name, digest=whole["digest"])
    append_evaluations(tmp_path / "r.jsonl", [evaluate_model(models["int8"], faces).figures])
    card = model_card(models["int8"], [third, second, first], read_evaluations(tmp_path / "r.jsonl"), to_cli_args)
    text = how_it_was_made(card)
    oldest, middle, own = made_in(text, "train")
    assert (oldest["out"], oldest["weights"], oldest["fold"]) == (Path("runs/before1"), ("auto",), 2)
    assert (middle["out"], middle["weights"]) == (Path("runs/before2"), (f"runs/before1/{name}",))
    assert (own["out"], own["weights"]) == (Path("runs"), (f"runs/before2/{name}",))
    assert len(made_in(text, "convert")) == 1


@pytest.mark.parametrize(
    ("weights", "changes", "precision", "file"),
    [
        ("models/cnn_synthetic_float16.tflite", {}, "float16", "cnn_synthetic_float16.tflite"),
        ("cnn_nano", {"network": "cnn_nano", "data": "fer2013"}, "int8", "cnn_nano_fer2013_int8.tflite"),
        ("models/cnn_synthetic_int8.tflite", {"converted": {"int8-tflite": {}}}, "int8", "cnn_synthetic_int8-tflite.tflite"),
        ("models/cnn_synthetic_int8-qat.tflite", {}, None, None),
        ("models/cnn_synthetic_weight_only.tflite", {}, None, None),
        ("models/mine.tflite", {}, None, None),
    ],
)
def test_a_card_tells_of_the_run_behind_an_ordinary_file(run_folder, models, weights, changes, precision, file):
    first = {**training_record(run_folder), **changes}
    lineage = _lineage(begun_from(first, weights), [first])
    text = commands(lineage, read_contract(models["int8"]), to_cli_args)
    *_, own = made_in(text, "train")
    conversions = made_in(text, "convert")
    if file is None:
        assert (len(lineage), len(conversions), own["weights"]) == (1, 1, (weights,))
        return
    name = f"{first['network']}-{first['data']}-paper-subject-s1"
    assert (conversions[0]["run"], conversions[0]["precisions"]) == (Path(f"runs/before1/{name}"), (precision,))
    assert conversions[0]["quantizer"] == ("tflite" if "tflite.tflite" in file else None)
    assert own["weights"] == (f"runs/before1/{name}/{file}",)


def test_a_card_tells_where_sources_are_from_and_how_its_file_got_its_name(run_folder, models):
    record = training_record(run_folder)
    plan = {**record["plan"], "weights": "imagenet_notop.weights.h5", "teachers": ["a"]}
    student = {**record, "plan": plan, "teacher_digests": ["of a"]}
    contract = read_contract(models["int8"])
    text = commands([student], contract, to_cli_args, "mine.tflite", [{**record, "digest": "of a"}])
    accuracy = record["metrics"]["test"]["accuracy"]
    assert f"    # its teachers: a (accuracy {accuracy:.4f} in Keras)\n" in text
    assert "    # imagenet_notop.weights.h5: keras.applications weights in a file" in text
    assert text.splitlines()[-1] == "    mv runs/cnn-synthetic-paper-subject-s1/cnn_synthetic_int8.tflite mine.tflite"
    assert "mv " not in commands([student], contract, to_cli_args, "cnn_synthetic_int8.tflite")


def test_records_that_name_each_other_as_beginning_end_a_card(run_folder):
    record = training_record(run_folder)
    one, other = begun_from(record, "x", digest="one", started_from_digest="other"), begun_from(record, "x", digest="other")
    assert _lineage(one, [one, {**other, "started_from_digest": "one"}])[-1] == one


def test_a_card_s_classes_are_compared_on_the_faces_of_its_own_test_part_alone(run_folder, models, faces, tmp_path):
    path, results = models["int8"], tmp_path / "r.jsonl"
    append_trainings(results, [run_folder])
    other = evaluate_model(path, replace(faces, name="elsewhere"), part="validation").figures
    own = evaluate_model(path, faces).figures
    append_evaluations(results, [other])
    alone = model_card(path, read_trainings(results), read_evaluations(results), to_cli_args)
    assert "Per class, elsewhere subject validation:" in alone
    assert "recall before" not in alone
    append_evaluations(results, [own])
    both = model_card(path, read_trainings(results), read_evaluations(results), to_cli_args)
    assert "Per class, synthetic subject test; the last column" in both


def test_a_record_names_tables_and_donors_by_their_bare_names(run_folder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    run = json.loads((folder / "run.json").read_text())
    run["plan"] |= {"ferplus": "/home/me/fer2013new.csv", "weights": "/home/me/runs/donor-s0"}
    run["plan"] |= {"teachers": ["a", "b"], "source_digests": ["of the donor", "of a", "of b"]}
    run["weights"]["source"] = "/home/me/runs/donor-s0/model.keras"
    (folder / "run.json").write_text(json.dumps(run))
    record = training_record(folder)
    assert (record["plan"]["ferplus"], record["plan"]["weights"]) == ("fer2013new.csv", "donor-s0")
    assert (record["started_from"], record["started_from_digest"]) == ("donor-s0", "of the donor")
    assert record["teacher_digests"] == ["of a", "of b"]
    del run["plan"]["source_digests"]  # as a run of an earlier version
    (folder / "run.json").write_text(json.dumps(run))
    assert (training_record(folder)["started_from_digest"], training_record(folder)["teacher_digests"]) == (None, [])


def test_a_card_tells_which_model_a_teacher_was(run_folder):
    record = training_record(run_folder)
    teacher = {**record, "digest": "an earlier one"}
    plan = {**record["plan"], "teachers": ["cnn_nano", "b"]}
    student = {**record, "plan": plan, "teacher_digests": ["an earlier one", "of b"]}
    accuracy = record["metrics"]["test"]["accuracy"]
    earlier = f"cnn_nano (accuracy {accuracy:.4f} in Keras; an earlier model than today's of that name)"
    assert _teachers(student, [teacher, student]) == [earlier, "b"]
    today = read_contract(bundled_models()["cnn_nano"]).source_digest
    file = {**student, "plan": {**plan, "teachers": ["models/cnn_nano_fer2013_int8.tflite"]}, "teacher_digests": ["?"]}
    assert _teachers(file, []) == ["models/cnn_nano_fer2013_int8.tflite (an earlier model than today's of that name)"]
    assert _teachers({**student, "teacher_digests": [today, None]}, [teacher]) == ["cnn_nano", "b"]
    assert _teachers({**student, "teacher_digests": []}, [teacher]) == ["cnn_nano", "b"]
