"""Convert a run to .tflite files, each with its contract inside, measured against the Keras model and checked by the gate."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from fer_edge.artifacts.conversion import FineTuning, QuantizationRecipe
from fer_edge.artifacts.gate import Thresholds
from fer_edge.artifacts.reporter import SILENT, Progress, Reporter
from fer_edge.artifacts.run_folder import Run, RunRecord, newest_run, read_run
from fer_edge.convert.camera_faces import collect_calibration_faces
from fer_edge.convert.fine_tune import fine_tune, plan_fine_tuning
from fer_edge.convert.prepare_run import Calibration, PreparedRun, calibration_of, prepare_run, preprocess
from fer_edge.convert.quantization_recipes import find_quantization_recipe
from fer_edge.convert.quantize import float_flatbuffer, quantize
from fer_edge.convert.sensitivity import check_layers, find_keep_float
from fer_edge.convert.write_and_check import ConversionResult, check_conversion, write_and_check
from fer_edge.edge_runtime.images import Image

AUTO = "auto"
MAX_PRINTED_LAYERS = 10


class Dataset(Protocol):
    """What convert needs of a dataset, such as train.dataset.FaceDataset."""

    @property
    def fingerprint(self) -> str:
        """The sha256 over labels and pixels."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the images."""

    @property
    def images(self) -> Sequence[Image]:
        """The images, uint8 arrays (height, width) or (height, width, 3), RGB, in the order of ids."""


class DatasetReader(Protocol):
    """A function that reads the training data of a run, such as train.read_dataset.read_training_faces."""

    def __call__(self, data: str, record: RunRecord, reporter: Reporter, /) -> Dataset:
        """Read a dataset as a run did.

        Args:
            data: Path of the dataset, or its name.
            record: The run.json of the run.
            reporter: Receives progress and warnings.
        """


@dataclass(frozen=True)
class ConvertOptions:
    """What to convert to. The fields are the options of ``fer-edge convert``.

    Attributes:
        precisions: Names in quantization_recipes.RECIPES.
        quantizer: int8: ``ai-edge`` or ``tflite``; None for the default.
        keep_float: int8: names of layers that stay in float; ``auto`` finds them.
        calibrate_from: int8: folder of images or video to calibrate with; None for the training faces in the run folder.
        qat: int8: fine-tune with simulated quantization.
        prune: Fine-tune with this percentage of the weights of inner layers set to zero; None without.
        cluster: Fine-tune with this number of distinct weights per layer; None without.
        data: The training data of the run. Fine-tuning needs it.
        epochs: Passes of fine-tuning over the training faces.
        thresholds: Thresholds of the gate.
        runs: Where to look for the newest run.
        out: Folder for the files; None for the run folder.

    Raises:
        ValueError: If a value is unknown or out of range, or two options exclude each other.
    """

    precisions: tuple[str, ...] = ("int8",)
    quantizer: str | None = None
    keep_float: tuple[str, ...] = ()
    calibrate_from: str | Path | None = None
    qat: bool = False
    prune: float | None = None
    cluster: int | None = None
    data: str | None = None
    epochs: int = 3
    thresholds: Thresholds = field(default_factory=Thresholds)
    runs: str | Path = "runs"
    out: str | Path | None = None

    def __post_init__(self) -> None:
        plan = self.fine_tuning
        if plan is not None and self.data is None:
            raise ValueError(f"fine-tuning ({plan.kind}) needs the training data: --data DATA")
        if plan is None and self.data is not None:
            raise ValueError(
                "--data is for fine-tuning: add --qat, --prune or --cluster. Without them, convert uses the faces in the run"
            )
        int8_only = (
            ("--quantizer", self.quantizer),
            ("--keep-float", self.keep_float),
            ("--calibrate-from", self.calibrate_from),
        )
        for option, value in int8_only:
            if value and "int8" not in self.precisions:
                raise ValueError(f"{option} is for int8. Received: {', '.join(self.precisions)}. Add --int8 or remove {option}")
        self.recipes(self.keep_float)

    @property
    def fine_tuning(self) -> FineTuning | None:
        """The fine-tuning; None without."""
        return plan_fine_tuning(self.qat, self.prune, self.cluster, self.epochs)

    @property
    def named_layers(self) -> tuple[str, ...]:
        """The layers in keep_float, without ``auto``."""
        return tuple(layer for layer in self.keep_float if layer != AUTO)

    def recipes(self, keep_float: Sequence[str]) -> list[QuantizationRecipe]:
        """Return one recipe per precision, with these layers in float."""
        tuning = self.fine_tuning
        return [find_quantization_recipe(name, self.quantizer, keep_float, tuning) for name in self.precisions]


def convert(
    run: str | Path | None = None,
    options: ConvertOptions = ConvertOptions(),
    *,
    read_dataset: DatasetReader | None = None,
    start_keras: Callable[[], None] = lambda: None,
    command: Sequence[str] = (),
    reporter: Reporter = SILENT,
) -> list[ConversionResult]:
    """Convert a run to TFLite. ``fer_edge.convert`` calls this with the reader of datasets.

    Everything that needs no Keras, whose import takes seconds, is read and checked first.

    Args:
        run: The run folder; None for the newest run in ``options.runs``.
        options: What to convert to.
        read_dataset: Reads ``options.data`` for fine-tuning: ``fer_edge.train.read_dataset.read_training_faces``.
        start_keras: Called before Keras is imported.
        command: The command line, for the contract.
        reporter: Receives messages and progress.

    Returns:
        One result per precision, also for files that the gate rejects.

    Raises:
        FileNotFoundError: If there is no such run, or no finished one.
        ValueError: If the run or the data does not fit the options, or the calibration faces are not suitable.
        RuntimeError: If fine-tuning or a converter fails.
        ImportError: If a package of the extra ``convert`` is missing.
    """
    opened = read_run(run or newest_run(Path(options.runs)))
    _introduce(opened, reporter)
    out = opened.folder if options.out is None else Path(options.out)
    calibration = _calibration(opened, options.calibrate_from, reporter)
    check_conversion(opened, out, options.recipes(options.keep_float), calibration)
    training_images = _training_images(opened, options, read_dataset, reporter)
    start_keras()
    prepared = prepare_run(opened, out, calibration, tuple(command))
    check_layers(prepared.folded, options.named_layers)
    if options.fine_tuning is not None:
        prepared = _fine_tuned(prepared, options.fine_tuning, training_images, reporter)
    keep_float = _layers_in_float(prepared, options, reporter)
    with reporter.progress(f"converting {opened.record.plan.network}") as progress:
        return convert_run(prepared, options.recipes(keep_float), options.thresholds, progress)


def _introduce(run: Run, reporter: Reporter) -> None:
    split = run.record.split
    leaky = ", leaky: see fer-edge info" if split.leakage.leaky else ""
    reporter.result(
        f"{run.folder}: {len(run.calibration.images)} calibration faces, {len(run.held_out.images)} test faces "
        f"(protocol {split.protocol}{leaky})"
    )


def _calibration(run: Run, source: str | Path | None, reporter: Reporter) -> Calibration:
    """Return the calibration faces: those of the user's camera, or those in the run folder."""
    if source is None:
        return calibration_of(run)
    return calibration_of(run, collect_calibration_faces(source, run, reporter=reporter), Path(source).absolute().name)


def _fine_tuned(prepared: PreparedRun, plan: FineTuning, images: Sequence[Image], reporter: Reporter) -> PreparedRun:
    with reporter.progress(f"fine-tuning {prepared.run.record.plan.network} ({plan.kind})") as progress:
        return replace(prepared, folded=fine_tune(prepared.folded, preprocess(prepared.run, images), plan, progress))


def _training_images(run: Run, options: ConvertOptions, read_dataset: DatasetReader | None, reporter: Reporter) -> list[Image]:
    """Return the images that the run was trained on, for fine-tuning. Other data may contain its test images."""
    record, data = run.record, options.data
    if data is None:
        return []
    if read_dataset is None:
        raise ValueError("fine-tuning needs read_dataset. Pass fer_edge.train.read_dataset.read_training_faces")
    dataset = read_dataset(data, record, reporter)
    if dataset.fingerprint != record.data.fingerprint:
        raise ValueError(
            f"'{data}' is not the data that {run.folder} was trained on ({record.data.name}). Pass that data with --data"
        )
    index = {name: position for position, name in enumerate(dataset.ids)}
    return [dataset.images[index[name]] for name in record.ids.train]


def _layers_in_float(prepared: PreparedRun, options: ConvertOptions, reporter: Reporter) -> tuple[str, ...]:
    if AUTO not in options.keep_float:
        return options.keep_float
    recipe = find_quantization_recipe("int8", fine_tuning=options.fine_tuning)
    with reporter.progress("measuring each layer in int8") as progress:
        layers, sensitivities = find_keep_float(prepared, recipe, options.thresholds, progress)
    if not sensitivities:
        reporter.result("keep-float: plain int8 agrees with Keras on the calibration faces; no layer stays in float")
    else:
        lines = [
            f"keep-float: {len(layers)} of {len(sensitivities)} layers stay in float. "
            "Divergence if only this layer is int8, in nats:",
            *(f"  {sensitivities[layer]:.4f}  {layer}" for layer in layers[:MAX_PRINTED_LAYERS]),
        ]
        if len(layers) > MAX_PRINTED_LAYERS:
            lines.append(f"  and {len(layers) - MAX_PRINTED_LAYERS} more")
        reporter.result("\n".join(lines))
    return tuple(dict.fromkeys((*options.named_layers, *layers)))


def convert_run(
    prepared: PreparedRun,
    recipes: Sequence[QuantizationRecipe],
    thresholds: Thresholds | None = None,
    progress: Progress | None = None,
) -> list[ConversionResult]:
    """Convert a prepared run to one .tflite file per recipe.

    Args:
        prepared: The run, from prepare_run.
        recipes: From find_quantization_recipe.
        thresholds: Thresholds of the gate; None for the defaults.
        progress: Called with (files done, files in all).

    Returns:
        One result per recipe, in order. Each file was measured on the held-out faces of the run before it got its name; a
        rejected file keeps a name that ends in ``.rejected``.

    Raises:
        ValueError: If the calibration faces are not suitable, or a file of another run would be overwritten.
        RuntimeError: If a converter fails.
    """
    faces = Calibration(prepared.calibration_images, prepared.calibration_summary)
    check_conversion(prepared.run, prepared.out, recipes, faces)
    results = []
    float_model = None
    for done, recipe in enumerate(recipes):
        if progress:
            progress(done, len(recipes))
        if recipe.quantizer == "ai-edge" and float_model is None:
            float_model = float_flatbuffer(prepared)
        started = time.perf_counter()
        flatbuffer, summary = quantize(prepared, recipe, float_model)
        summary = replace(summary, conversion_s=round(time.perf_counter() - started, 2))
        results.append(write_and_check(prepared, flatbuffer, summary, thresholds or Thresholds()))
    if progress:
        progress(len(recipes), len(recipes))
    return results
