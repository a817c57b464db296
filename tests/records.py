"""Typed records for tests, made of a few numbers."""

from dataclasses import replace

from fer_edge.artifacts.accuracy_records import ConvertedFile, EvaluationRecord, TrainingRecord
from fer_edge.artifacts.latency_records import (
    Environment,
    LatencyProtocol,
    LatencyRecord,
    MachineState,
    MeasuredAccuracy,
)
from fer_edge.artifacts.metrics import Averages, ClassificationMetrics, ClassMetrics
from fer_edge.artifacts.run_folder import LoadedWeights, SplitMetrics, TrainingResults
from fer_edge.artifacts.training_data import Leakage, SplitCounts, SplitSummary
from fer_edge.artifacts.training_plan import Augmentation, Plan, Recipe

STATE = MachineState(temperature_c=None, throttle_bits=None, load_1min=0.0)
PC = Environment(
    board=None, cpu="a PC", machine="x86_64", cores=2, os=None, kernel="6", python="3.11", runtimes={}, governor=None
)  # fmt: skip


def metrics(accuracy, loss=None, count=10):
    """Metrics that all follow from the accuracy."""
    weighted = Averages(accuracy, accuracy, accuracy - 0.1)
    return ClassificationMetrics(
        count=count,
        accuracy=accuracy,
        loss=1 - accuracy if loss is None else loss,
        ece=0.1,
        macro=weighted,
        weighted=weighted,
        per_class={"happy": ClassMetrics(accuracy, accuracy, accuracy - 0.1, count)},
        confusion=((count,),),
    )


def training(
    protocol,
    accuracy,
    seed=0,
    fold=None,
    folds=None,
    network="cnn",
    data="ck48",
    recipe="paper",
    changes=(),
    weights="none",
    parents=(None,),
    parameters=900_000,
    digest="a",
    **plan,
):
    """A training record whose metrics all follow from the accuracy. ``changes`` are settings of the augmentation."""
    split = SplitSummary(protocol, 0, fold, folds, SplitCounts(8, 1, 1), "t", Leakage(0, None, None, False))
    of_each = SplitMetrics(*(metrics(accuracy) for _ in range(3)))
    results = TrainingResults(
        model_digest=digest, history={}, metrics=of_each, weights=LoadedWeights(weights), temperature=None, precision=None,
        ema_momentum=None, averaged_cycles=None, backend=None, parameters=parameters, train_seconds=1.0,
    )  # fmt: skip
    augmentation = Augmentation(**{name: float(value) for name, _, value in (change.partition("=") for change in changes)})
    full_recipe = Recipe(recipe, "adam", 0.001, "constant", 32, {"cnn": 30}, augmentation)
    full_plan = Plan(network, full_recipe, **{"image_size": 48, "epochs": 30, "seed": seed, "parent_digests": parents, **plan})
    return TrainingRecord(
        kind="training", plan=full_plan, recipe_changes=tuple(changes), data=data, data_fingerprint=f"of {data}", label_map=(),
        split=split, versions={}, command=("fer-edge", "train", network), results=results, converted={},
    )  # fmt: skip


def converted(record, accuracy_after, precision="int8"):
    """The record of a run with one .tflite file."""
    file = ConvertedFile(1000, 10, 1.0, record.results.metrics.test.accuracy, accuracy_after, {}, {})
    return replace(record, converted={precision: file})


def evaluation(accuracy=0.5, loss=None, **changes):
    """An evaluation record whose metrics follow from the accuracy."""
    made = EvaluationRecord(
        kind="evaluation", model="m.tflite", title="cnn int8", network="cnn", precision="int8", digest="d", trained_on="ck48",
        data="ck48", protocol="subject", split="test", warning=None, dropped=0, metrics=metrics(accuracy, loss),
        duplicates_in_training=None, accuracy_without_duplicates=None,
    )  # fmt: skip
    return replace(made, **changes)


def measured_accuracy(value, data="d", **changes):
    """The accuracy in a latency record."""
    return replace(MeasuredAccuracy(data, "paper", "test", 9, None, value, value), **changes)


def latency(network="cnn", value=0.9, samples=(1.0, 2.0, 3.0), **changes):
    """A latency record; without an accuracy if ``value`` is None."""
    made = LatencyRecord(
        file=f"{network}.tflite", file_bytes=1000, network=network, precision="int8", data="d", protocol="paper", leaky=False,
        parameters=10, source_digest="", conversion=None, num_threads=1, load_ms=1.0, first_inference_ms=2.0,
        samples_ms=tuple(samples), memory_before_bytes=None, peak_memory_bytes=None, environment=PC, state_before=STATE,
        state_after=STATE, latency_protocol=LatencyProtocol(),
        measured_accuracy=None if value is None else measured_accuracy(value),
    )  # fmt: skip
    return replace(made, **changes)
