"""Personal corrections on simulated persons: subjects of CK+48, and cameras that are dark, blurred or tilted.

``python -m fer_edge.benchmarks.personalization --data ck48.zip --model cnn_nano``

CK+48 has three frames of each sequence, and no subject shows an expression in two sequences. For each sequence of a subject,
the correction is fitted to the last frame of each other sequence, through the same camera, and tested on the three frames of
that sequence. So the tested expression never occurs in the fit. The column "shared camera" is the case with that expression:
eight subjects share a camera; one frame per expression is for the fit, and all other sequences are for the test.
"""

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path, PurePosixPath

import click
import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.typed_json import append_json_lines
from fer_edge.benchmarks.tables import markdown_table
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.images import Image, decode_image, import_cv2
from fer_edge.edge_runtime.personal.correction import (
    MIN_LABELS,
    Take,
    apply_offsets,
    fit_offsets,
    leave_one_out,
    log_probabilities,
)

CK48_CLASSES = {
    "anger": "angry",
    "contempt": "contempt",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happy",
    "sadness": "sad",
    "surprise": "surprise",
}
Camera = Callable[[Image], Image]  # from a face, uint8 (height, width), to what the camera sees of it
ABSENT_LABEL = "neutral"  # CK+48 has no neutral faces; lowering this label costs nothing there
DRAWS = 4  # cameras of each kind
LOSS = -0.01  # a person whose mean change is below this loses more than one point
GROUPS = 20
SUBJECTS_PER_GROUP = 8


@dataclass(frozen=True)
class SequenceFrame:
    """A face of CK+48.

    Attributes:
        subject: Subject, such as ``S005``.
        sequence: Sequence of the subject, such as ``001``.
        label: Expression of the sequence.
        face: uint8 array (48, 48), gray.
    """

    subject: str
    sequence: str
    label: str
    face: Image


@dataclass(frozen=True)
class CameraResult:
    """What personal corrections change under one kind of camera.

    Attributes:
        camera: Name of the camera.
        accuracy_before: Mean accuracy of a person without correction, 0..1.
        accuracy_after: The same with the correction, or without where it was not stored.
        stored_fraction: Fraction of the fits that leave-one-out accepted, 0..1.
        change_without_neutral: Mean change of accuracy if the model had no output "neutral".
        group_change: Mean change of accuracy in groups that share the camera.
        change_by_person: Mean change of accuracy by subject.
    """

    camera: str
    accuracy_before: float
    accuracy_after: float
    stored_fraction: float
    change_without_neutral: float
    group_change: float
    change_by_person: dict[str, float]


@dataclass(frozen=True)
class PersonalizationRecord:
    """Personal corrections of one model on the simulated persons."""

    what: str
    data: str
    model: str
    persons: str
    results: tuple[CameraResult, ...]


def dark(rng: np.random.Generator) -> Camera:
    """Return a camera in the dark: 0.35 to 0.65 of the brightness, a gamma of 2.2, and noise of 4 steps."""
    brightness = 255 * rng.uniform(0.35, 0.65)

    def see(face: Image) -> Image:
        darker = brightness * (face / 255.0) ** 2.2 + rng.normal(0, 4, face.shape)
        return np.clip(np.round(darker), 0, 255).astype(np.uint8)

    return see


def blurred(rng: np.random.Generator) -> Camera:
    """Return a camera out of focus: Gaussian blur with a standard deviation of 1.2 to 2 pixels of a 48 pixel face."""
    sigma = rng.uniform(1.2, 2.0)
    cv2 = import_cv2()
    return lambda face: np.asarray(cv2.GaussianBlur(face, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.uint8)


def tilted(rng: np.random.Generator) -> Camera:
    """Return a camera that is tilted by 8 to 20 degrees to either side."""
    degrees = rng.uniform(8, 20) * rng.choice([-1, 1])
    cv2 = import_cv2()

    def see(face: Image) -> Image:
        height, width = face.shape
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
        return np.asarray(cv2.warpAffine(face, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)

    return see


CAMERAS: dict[str, tuple[Callable[[np.random.Generator], Camera], ...]] = {
    "as recorded": (),
    "dark": (dark,),
    "blurred": (blurred,),
    "tilted": (tilted,),
    "all three": (blurred, tilted, dark),
}


def read_ck48(data: Path) -> list[SequenceFrame]:
    """Read CK+48, sorted by subject, sequence and frame.

    Raises:
        FileNotFoundError: If there is no such zip.
        ValueError: If it is not CK+48.
    """
    if not data.is_file():
        raise FileNotFoundError(f"no file '{data}'. --data takes the zip of CK+48")
    frames = []
    try:
        with zipfile.ZipFile(data) as archive:
            for name in sorted(archive.namelist(), key=lambda name: PurePosixPath(name).name):
                path = PurePosixPath(name)
                parts = path.stem.split("_")
                if path.suffix == ".png" and path.parent.name in CK48_CLASSES and len(parts) == 3:
                    face = decode_image(archive.read(name), name)[:, :, 0]
                    frames.append(SequenceFrame(parts[0], parts[1], CK48_CLASSES[path.parent.name], face))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{data} is not a zip ({error}). --data takes the zip of CK+48") from error
    if not frames:
        raise ValueError(f"{data} is not CK+48: it has no CLASS/SUBJECT_SEQUENCE_FRAME.png")
    return frames


class _Outputs:
    """The probabilities of frames through one camera, restricted to some labels."""

    def __init__(
        self, frames: Sequence[SequenceFrame], probabilities: npt.NDArray[np.float64], labels: Sequence[str], without: str = ""
    ) -> None:
        self.labels = [label for label in labels if label != without]
        kept = [labels.index(label) for label in self.labels]
        self.values = probabilities[:, kept] / np.maximum(probabilities[:, kept].sum(1, keepdims=True), 1e-9)
        self.frames = frames
        self.rows: dict[tuple[str, str], list[int]] = {}  # of each sequence
        for row, frame in enumerate(frames):
            self.rows.setdefault((frame.subject, frame.sequence), []).append(row)

    def fit(self, sequences: Sequence[tuple[str, str]]) -> tuple[float, ...] | None:
        """Fit and evaluate as ``fer-edge personalize`` does; None if it would store nothing."""
        last = [self.rows[sequence][-1] for sequence in sequences]
        takes = [Take(self.frames[row].label, tuple(log_probabilities(self.values[row]).tolist())) for row in last]
        if len({take.label for take in takes}) < MIN_LABELS or not leave_one_out(takes, self.labels).is_useful:
            return None
        return fit_offsets(takes, self.labels)

    def accuracy(self, sequences: Sequence[tuple[str, str]], offsets: tuple[float, ...] | None) -> float:
        right = []
        for row in (row for sequence in sequences for row in self.rows[sequence]):
            values = self.values[row] if offsets is None else np.array(apply_offsets(self.values[row], offsets))
            right.append(self.labels[int(values.argmax())] == self.frames[row].label)
        return float(np.mean(right))


def measure_camera(
    frames: Sequence[SequenceFrame], camera: str, classifier: Classifier, draws: int = DRAWS, seed: int = 0
) -> CameraResult:
    """Measure the corrections of all persons under one kind of camera.

    Args:
        frames: Frames whose labels the model has.
        camera: One of CAMERAS.
        classifier: The model.
        draws: Number of cameras of this kind, each of another strength. The camera ``as recorded`` is one.
        seed: Seed of the cameras and of the groups.
    """
    rng = np.random.default_rng(seed)
    before, after, stored, control, group = [], [], [], [], []
    for _ in range(draws if CAMERAS[camera] else 1):
        steps = [make(rng) for make in CAMERAS[camera]]
        seen = (reduce(lambda face, step: step(face), steps, frame.face) for frame in frames)
        probabilities = np.array([classifier.probabilities(face) for face in seen], np.float64)
        outputs = _Outputs(frames, probabilities, classifier.labels)
        people = _persons(outputs)
        before.append(people.before)
        after.append(people.after)
        stored.append(people.stored)
        without = _persons(_Outputs(frames, probabilities, classifier.labels, ABSENT_LABEL))
        control.append(np.mean(without.after - without.before))
        group.append(_group_change(outputs, rng))
    change = np.mean(after, axis=0) - np.mean(before, axis=0)
    return CameraResult(
        camera=camera,
        accuracy_before=float(np.mean(before)),
        accuracy_after=float(np.mean(after)),
        stored_fraction=float(np.mean(stored)),
        change_without_neutral=float(np.mean(control)),
        group_change=float(np.mean(group)),
        change_by_person={name: round(float(value), 4) for name, value in zip(people.names, change, strict=True)},
    )


@dataclass(frozen=True)
class _People:
    """Mean accuracy of each person before and after, and the fraction of their fits that were stored."""

    names: list[str]
    before: npt.NDArray[np.float64]
    after: npt.NDArray[np.float64]
    stored: float


def _persons(outputs: _Outputs) -> _People:
    names, pairs, stored = [], [], []
    for subject in sorted({subject for subject, _ in outputs.rows}):
        sequences = [sequence for sequence in outputs.rows if sequence[0] == subject]
        if len(sequences) < 2:
            continue
        changes = []
        for tested in sequences:
            offsets = outputs.fit([sequence for sequence in sequences if sequence != tested])
            stored.append(offsets is not None)
            changes.append((outputs.accuracy([tested], None), outputs.accuracy([tested], offsets)))
        names.append(subject)
        pairs.append(np.mean(changes, axis=0))
    before, after = np.array(pairs).T
    return _People(names, before, after, float(np.mean(stored)))


def _group_change(outputs: _Outputs, rng: np.random.Generator) -> float:
    """Return the mean change if several subjects share a camera: fitted to one frame per expression, tested on all others."""
    subjects = sorted({subject for subject, _ in outputs.rows})
    changes = []
    for _ in range(GROUPS):
        group = set(rng.choice(subjects, min(SUBJECTS_PER_GROUP, len(subjects)), replace=False).tolist())
        sequences = [sequence for sequence in outputs.rows if sequence[0] in group]
        by_label: dict[str, list[tuple[str, str]]] = {}
        for sequence in sequences:
            by_label.setdefault(outputs.frames[outputs.rows[sequence][0]].label, []).append(sequence)
        fitted = [choices[int(rng.integers(len(choices)))] for choices in by_label.values()]
        tested = [sequence for sequence in sequences if sequence not in fitted]
        if tested:
            changes.append(outputs.accuracy(tested, outputs.fit(fitted)) - outputs.accuracy(tested, None))
    return float(np.mean(changes)) if changes else 0.0


def change_over_cameras(results: Sequence[CameraResult]) -> dict[str, float]:
    """Return the mean change of each person over all cameras, in accuracy."""
    persons = results[0].change_by_person
    return {person: float(np.mean([result.change_by_person[person] for result in results])) for person in persons}


def results_table(record: PersonalizationRecord) -> str:
    """Return a record as a markdown table, with a line on the change per person over all cameras."""
    header = (
        *("camera", "correct before, %", "correct after, %", "change, points", "without neutral, points"),
        *("shared camera, points", "stored, %", "persons that gain", "persons that lose"),
    )
    rows = []
    for result in record.results:
        changes = np.array([*result.change_by_person.values()])
        points = (
            result.accuracy_after - result.accuracy_before,
            result.change_without_neutral,
            result.group_change,
        )
        rows.append(
            (
                *(result.camera, f"{100 * result.accuracy_before:.1f}", f"{100 * result.accuracy_after:.1f}"),
                *(f"{100 * value:+.1f}" for value in points),
                f"{100 * result.stored_fraction:.0f}",
                *(str(int(count)) for count in ((changes > 0.001).sum(), (changes < -0.001).sum())),
            )
        )
    overall = np.array([*change_over_cameras(record.results).values()])
    summary = (
        f"{record.model}, {len(overall)} persons ({record.persons}), mean of the cameras: {100 * overall.mean():+.2f} points; "
        f"{int((overall > 0.001).sum())} persons gain, {int((overall < LOSS).sum())} lose more than one point; "
        f"from {100 * overall.min():+.1f} to {100 * overall.max():+.1f} points"
    )
    return f"{summary}\n\n{markdown_table(header, rows)}"


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Zip of CK+48.")
@click.option("--model", "models", multiple=True, help="As for fer-edge run.  [default: as fer-edge run]")
@click.option(
    "--persons",
    type=click.Choice(["all", "development", "held-out"]),
    default="all",
    show_default=True,
    help="All subjects, or every second: the settings were chosen on the development subjects.",
)
@click.option("--record", type=click.Path(path_type=Path), help="Append the results to this JSON-lines file.")
def main(data: Path, models: tuple[str, ...], persons: str, record: Path | None) -> None:
    """Measure personal corrections on the subjects of CK+48. --model may be repeated."""
    try:
        frames = read_ck48(data)
        subjects = sorted({frame.subject for frame in frames})
        chosen = {"all": subjects, "development": subjects[::2], "held-out": subjects[1::2]}[persons]
        for model in models or (None,):
            classifier = Classifier(model)
            known = [frame for frame in frames if frame.label in classifier.labels and frame.subject in chosen]
            results = tuple(measure_camera(known, camera, classifier) for camera in CAMERAS)
            result = PersonalizationRecord("personalization", data.stem, classifier.model.name, persons, results)
            if record:
                append_json_lines(record, [result])
            click.echo(results_table(result) + "\n")
    except (ValueError, OSError, ImportError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
