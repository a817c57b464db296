"""Measure run folders, .keras and .tflite files on a dataset. The evaluate command and ``fer_edge.evaluate`` are this file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.accuracy_records import EvaluationRecord
from fer_edge.artifacts.contract import CropConvention
from fer_edge.artifacts.keras_model import load_keras_model
from fer_edge.artifacts.metrics import MIN_PROBABILITY, classification_metrics, vote_metrics
from fer_edge.artifacts.reporter import SILENT, Progress, Reporter
from fer_edge.artifacts.run_folder import CALIBRATION_FILE, MODEL_FILE, RunRecord, read_finished_run, read_stored_faces
from fer_edge.edge_runtime.batch_predict import Probabilities, classify_faces
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.detectors.box_transform import box_transform_for
from fer_edge.edge_runtime.detectors.detector import open_detector
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.evaluation_set import EvaluationSet, TrainingProvenance, check_selection, select_faces
from fer_edge.train.ferplus import check_table, majority, vote_shares, with_votes
from fer_edge.train.predict import keras_probabilities
from fer_edge.train.read_dataset import check_source, read_faces
from fer_edge.train.read_options import ReadOptions, check_faces
from fer_edge.train.start_keras import check_keras, start_keras

KERAS = "keras"  # as precision: a run folder


@dataclass(frozen=True)
class LoadedModel:
    """A model that can be measured.

    Attributes:
        path: What was loaded: run folder, .keras or .tflite file, or name of a bundled model.
        network: Name of the network.
        precision: ``keras``, or the precision of the .tflite file.
        digest: sha256 of the Keras model that it is or was made from.
        trained: What it was trained on.
        label_map: Renamed classes of its training data, CLASS=LABEL each.
        views: 2 if the probabilities are the mean over each face and its mirror image.
        crop_for: From the name of a detector to the crop convention.
        probabilities: From faces to float32 (n, classes). The first call of a Keras model imports Keras.
    """

    path: str
    network: str
    precision: str
    digest: str
    trained: TrainingProvenance
    label_map: tuple[str, ...]
    views: int
    crop_for: Callable[[str], CropConvention]
    probabilities: Callable[[FaceDataset, Progress | None], Probabilities]

    @property
    def display_name(self) -> str:
        """Network and precision, for tables."""
        return f"{self.network} {self.precision}" + (", 2 views" if self.views == 2 else "")


@dataclass(frozen=True)
class Evaluation:
    """One model measured on one split of one dataset.

    Attributes:
        selection: The faces.
        probabilities: float32 array (n, classes), 0..1.
        record: The metrics, the model and the data.
        counted: Boolean array (n,): the faces that the accuracy counts; with votes those with a majority.
    """

    selection: EvaluationSet
    probabilities: Probabilities
    record: EvaluationRecord
    counted: npt.NDArray[np.bool_]


def evaluate(
    models: str | Path | Sequence[str | Path],
    data: str | Path,
    *,
    protocol: str | None = None,
    split: str = "test",
    seed: int | None = None,
    label_map: Sequence[str] = (),
    faces: str = "auto",
    detector: str = "auto",
    ferplus: str | Path | None = None,
    shared_classes: bool = False,
    ensemble: bool = False,
    views: int = 1,
    reporter: Reporter = SILENT,
) -> list[Evaluation]:
    """Measure models on a dataset, exactly as ``fer-edge evaluate`` does.

    Example:
        >>> import fer_edge
        >>> (result,) = fer_edge.evaluate(["cnn_nano"], "fer2013.zip", split="private_test")
        >>> result.record.metrics.accuracy

    Args:
        models: Run folders, .tflite files or names of bundled models.
        data: Folder, zip or csv of labeled faces; or ``synthetic``.
        protocol: ``paper``, ``subject``, ``official`` or ``all``. Default: the protocol of each model's training.
        split: ``train``, ``validation``, ``test``, ``private_test`` or ``all``.
        seed: Seed of the division. Default: that of each model's training.
        label_map: CLASS=LABEL per renamed class of the data, in addition to those of each model's training; ``CLASS=-``
            leaves it out.
        faces: ``crops`` (the images are faces), ``photos`` (faces are cut out as ``fer-edge run`` does) or ``auto``.
        detector: Finds the faces in photos: auto, blazeface, yunet, haar, own, or the path of a YuNet .onnx or
            detector .tflite file.
        ferplus: FER+ table, see ferplus.with_votes. The accuracy is then that on the faces on which more than half of the
            annotators agree, over the eight classes of FER+.
        shared_classes: Ignore the classes that the data does not have, as if the models did not know them.
        ensemble: Measure the mean of all models' probabilities as well.
        views: 2 averages over each face and its mirror image. Comparison and model cards have one view only.
        reporter: Receives progress, notes and warnings.

    Returns:
        One evaluation per model, in order; then that of the ensemble.

    Raises:
        FileNotFoundError: If a model or the data does not exist, or a run has not finished.
        ValueError: If a model, the data, the protocol or the split cannot be used.
    """
    check_selection(protocol, split)
    check_faces(faces)
    loaded = [load_model(model, views) for model in ([models] if isinstance(models, (str, Path)) else models)]
    _check_before_reading(loaded, ensemble, ferplus)
    reader = DatasetReader(data, ReadOptions(label_map, faces=faces, detector=detector), ferplus, reporter)
    evaluations = []
    for model in loaded:
        dataset = reader.faces_for(model)
        with reporter.progress(f"evaluating {Path(model.path).name}") as progress:
            evaluations.append(evaluate_model(model, dataset, protocol, split, seed, progress, shared_classes))
        report_limits(evaluations[-1].record, reporter)
    return [*evaluations, evaluate_ensemble(evaluations)] if ensemble else evaluations


def _check_before_reading(models: Sequence[LoadedModel], ensemble: bool, ferplus: str | Path | None) -> None:
    if ensemble:
        _check_ensemble(models)
    if any(model.precision == KERAS for model in models):
        check_keras()
    if ferplus:
        check_table(ferplus)


class DatasetReader:
    """Reads a dataset as each model needs it: with the class map of its training, and photos by its crop convention.

    Args:
        data: Folder, zip or csv of labeled faces; or ``synthetic``.
        options: How to read it.
        ferplus: FER+ table, see ferplus.with_votes; None for the labels of the data.
        reporter: Receives notes and warnings.
    """

    def __init__(self, data: str | Path, options: ReadOptions, ferplus: str | Path | None, reporter: Reporter) -> None:
        self._data = data
        self._options = options
        self._ferplus = ferplus
        self._reporter = reporter
        check_source(str(data))
        self._read: dict[tuple[str, ...], FaceDataset] = {}  # by class map: the dataset that was read last

    def faces_for(self, model: LoadedModel) -> FaceDataset:
        """Read the dataset, unless it was read in the same way already."""
        faces = self._read.get(model.label_map)
        if faces is None or not _fits(faces, model):
            options = replace(self._options, stored_label_map=model.label_map, crop_for=model.crop_for)
            faces = read_faces(self._data, options, self._reporter)
            if self._ferplus:
                faces = with_votes(faces, self._ferplus, self._reporter)
            self._read[model.label_map] = faces
        return faces


def _fits(faces: FaceDataset, model: LoadedModel) -> bool:
    """Return whether faces are crops of the data, or were cut out of photos by the crop convention of the model."""
    if faces.crop is None or faces.photos is None:
        return True
    detector, crop = faces.photos.detector, model.crop_for(faces.photos.detector)
    return (crop.training_resolution_px, crop.box_transforms.get(detector)) == (
        faces.crop.training_resolution_px,
        faces.crop.box_transforms.get(detector),
    )


def report_limits(record: EvaluationRecord, reporter: Reporter) -> None:
    """Report what limits an evaluation: ignored faces, classes without a face, faces seen in training.

    Args:
        record: The record of the evaluation.
        reporter: Receives notes and warnings.
    """
    if record.dropped:
        reporter.note(f"{record.model}: {record.dropped} faces have labels that the model does not know and were left out")
    absent = [label for label, scores in record.metrics.per_class.items() if not scores.support]
    if absent:
        reporter.note(
            f"{record.model}: no face is of {', '.join(absent)}, but the model may predict these labels "
            "(fer-edge evaluate --shared-classes leaves out classes that the data lacks)"
        )
    if record.warning:
        reporter.warn(f"{record.model}: {record.warning}")


def load_model(path: str | Path, views: int = 1) -> LoadedModel:
    """Load a run folder, the model.keras in it, a .tflite file or a bundled model.

    Args:
        path: The path or name.
        views: 2 averages the probabilities over each face and its mirror image; 1 does not.

    Raises:
        FileNotFoundError: If it does not exist, or the run has not finished.
        ValueError: If the file cannot be used.
    """
    if not Path(path).is_dir() and Path(path).suffix != ".keras":
        classifier = Classifier(path, views=views)
        contract = classifier.contract
        return LoadedModel(
            str(path),
            contract.architecture,
            contract.precision,
            contract.source_digest,
            TrainingProvenance(contract.labels, contract.data, contract.data_fingerprint, contract.split),
            contract.label_map,
            views,
            lambda detector: contract.crop,
            lambda faces, progress: classify_faces(classifier, faces.images, progress),
        )
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    if Path(path) not in (folder, folder / MODEL_FILE):
        raise ValueError(f"'{path}' is not the {MODEL_FILE} of a run folder. Give the run folder itself")
    run, results = read_finished_run(folder)
    return LoadedModel(
        str(path),
        run.plan.network,
        KERAS,
        results.model_digest,
        TrainingProvenance(run.labels, run.data.name, run.data.fingerprint, run.split, run.ids),
        run.data.label_map,
        views,
        cache(partial(_crop_of_run, folder, run)),
        lambda faces, progress: _run_probabilities(folder, run, views, faces, progress),
    )


def _crop_of_run(folder: Path, run: RunRecord, detector: str) -> CropConvention:
    """Return the crop convention of a run; measure the box transform if another detector cropped its training faces."""
    if run.crop and detector in run.crop.box_transforms:
        return run.crop
    faces = read_stored_faces(folder / CALIBRATION_FILE, len(run.labels)).images
    return CropConvention(
        training_resolution_px=run.data.resolution_px,
        box_transforms={detector: box_transform_for(faces, open_detector(detector))},
    )


def _run_probabilities(
    folder: Path, run: RunRecord, views: int, faces: FaceDataset, progress: Progress | None
) -> Probabilities:
    start_keras()
    import keras

    model = load_keras_model(keras, folder / MODEL_FILE, run.labels, run.plan.image_size)
    probabilities = keras_probabilities(model, faces, run.data.resolution_px, progress)
    if views == 2:
        mirrored = keras_probabilities(model, faces.mirrored(), run.data.resolution_px)
        probabilities = np.asarray((probabilities + mirrored) / 2, np.float32)
    return probabilities


def evaluate_model(
    model: LoadedModel,
    faces: FaceDataset,
    protocol: str | None = None,
    split: str = "test",
    seed: int | None = None,
    progress: Progress | None = None,
    shared_classes: bool = False,
) -> Evaluation:
    """Measure one model on faces that are in memory.

    Args:
        model: From load_model.
        faces: The whole dataset.
        protocol: See select_faces.
        split: See select_faces.
        seed: See select_faces.
        progress: Called with (faces done, number of faces).
        shared_classes: Ignore the classes that the data does not have, as if the model did not know them.

    Raises:
        ValueError: If the model or the selection cannot be used.
    """
    selection = select_faces(faces, model.trained, protocol, split, seed)
    probabilities = model.probabilities(selection.faces, progress)
    if selection.faces.votes is not None:
        probabilities = _in_label_order(probabilities, model.trained.labels, faces.labels)
    elif shared_classes:
        labels = tuple(label for label in model.trained.labels if label in faces.labels)
        probabilities = probabilities[:, [model.trained.labels.index(label) for label in labels]]
        probabilities = probabilities / np.maximum(probabilities.sum(axis=1, keepdims=True), MIN_PROBABILITY)
        selection = replace(selection, faces=selection.faces.with_labels(labels))
    return _evaluation(
        selection,
        probabilities,
        model=model.path,
        title=model.display_name,
        network=model.network,
        precision=model.precision,
        digest=model.digest,
        trained_on=model.trained.data,
        views=model.views,
    )


def evaluate_ensemble(members: Sequence[Evaluation]) -> Evaluation:
    """Measure the mean of several models' probabilities.

    Args:
        members: Evaluations of the same faces.

    Returns:
        Its digest consists of all digests, joined by ``+``.

    Raises:
        ValueError: If there are fewer than two, or they differ in faces or labels.
    """
    _check_ensemble(members)
    records, first = [member.record for member in members], members[0].selection
    for member in members[1:]:
        other = member.selection.faces
        if (other.ids, other.labels) != (first.faces.ids, first.faces.labels):
            raise ValueError(
                f"'{member.record.model}' and '{records[0].model}' were measured on different faces or labels, so they cannot "
                "be ensembled. Use models of one dataset and protocol, or pass --protocol and --seed"
            )
    warnings = {record.warning for record in records if record.warning is not None}
    return _evaluation(
        replace(first, warning="; ".join(sorted(warnings)) or None),
        np.asarray(np.stack([member.probabilities for member in members]).mean(axis=0), np.float32),
        model=" + ".join(record.title for record in records),
        title=f"ensemble of {len(members)}",
        network="ensemble",
        precision="+".join(sorted({record.precision for record in records})),
        digest="+".join(str(record.digest) for record in records),
        trained_on="+".join(sorted({record.trained_on for record in records})),
        views=max(record.views for record in records),
    )


def _check_ensemble(members: Sequence[object]) -> None:
    if len(members) < 2:
        raise ValueError(f"an ensemble needs at least two models. Received: {len(members)}")


def _in_label_order(probabilities: Probabilities, labels: tuple[str, ...], order: tuple[str, ...]) -> Probabilities:
    """Return the probabilities with one column per label of ``order``: 0 for a label that the model does not know."""
    unknown = set(labels) - set(order)
    if unknown:
        raise ValueError(f"the model has labels that FER+ lacks: {', '.join(sorted(unknown))}. Evaluate without --ferplus")
    result = np.zeros((len(probabilities), len(order)), np.float32)
    result[:, [order.index(label) for label in labels]] = probabilities
    return result


def _evaluation(selection: EvaluationSet, probabilities: Probabilities, views: int, **model: str) -> Evaluation:
    """Compute the metrics; ``model`` has the fields of the record that describe the model."""
    faces, distinct, votes = selection.faces, selection.not_in_training, None
    counted = np.ones(len(faces), bool)
    if faces.votes is not None:
        votes, counted = vote_metrics(probabilities, vote_shares(faces.votes)), majority(faces.votes)
    correct = probabilities.argmax(axis=1) == faces.targets
    accuracy_without_duplicates = None
    if distinct is not None and (distinct & counted).any():
        accuracy_without_duplicates = float(correct[distinct & counted].mean())
    record = EvaluationRecord(
        kind="evaluation",
        data=faces.name,
        protocol=selection.protocol,
        split=selection.split,
        warning=selection.warning,
        dropped=selection.dropped,
        metrics=classification_metrics(probabilities[counted], faces.targets[counted], faces.labels),
        duplicates_in_training=None if distinct is None else int((~distinct & counted).sum()),
        accuracy_without_duplicates=accuracy_without_duplicates,
        votes=votes,
        photos=faces.photos,
        views=views,
        **model,
    )
    return Evaluation(selection, probabilities, record, counted)
