"""Teachers' outputs for a fixed number of views of each training face, in a file of a few MB.

A view is one augmentation of a face. Its random numbers depend on the face and on the number of the view only, so training can
repeat the pixels that the teachers saw. Running teachers on every step costs more than training a small network.
"""

import hashlib
import json
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_path
from fer_edge.artifacts.reporter import Reporter
from fer_edge.artifacts.training_plan import Augmentation
from fer_edge.artifacts.typed_json import from_data, to_data
from fer_edge.train.augment import augment
from fer_edge.train.checkpoint import StoppedError
from fer_edge.train.dataset import FaceDataset, to_gray_batch
from fer_edge.train.draws import ViewDraws
from fer_edge.train.splits import Split
from fer_edge.train.teachers import mean_probabilities

if TYPE_CHECKING:
    import keras

VIEWS_SUFFIX = ".npz"
MAX_VIEWS = 1024
BATCH = 256
SAVE_SECONDS = 60.0
# An output is stored as the negative logarithm of the probability in steps of 1/32, up to 255/32: 0.0003. Rounding changes a
# probability by at most 1.6 % of itself.
STEPS_PER_NAT = 32


@dataclass(frozen=True)
class ViewsHeader:
    """What the outputs in a file depend on.

    Attributes:
        labels: Label names, in the order of the outputs.
        data: Name of the dataset.
        data_fingerprint: sha256 over its labels and pixels.
        faces_digest: Digest of the training faces in their order.
        augmentation: The random changes to the faces.
        image_size: Side of the views, pixels. The teachers saw them resized to their own input.
        resolution_px: Side of the faces before they were enlarged, pixels.
        views: Number of views of each face.
        teachers: Names of the teachers.
        teacher_digests: sha256 of each teacher's Keras model.
    """

    labels: tuple[str, ...]
    data: str
    data_fingerprint: str
    faces_digest: str
    augmentation: Augmentation
    image_size: int
    resolution_px: int
    views: int
    teachers: tuple[str, ...]
    teacher_digests: tuple[str | None, ...]


@dataclass(frozen=True)
class TeacherViews:
    """The content of a file.

    Attributes:
        header: What the outputs depend on.
        outputs: uint8 array (faces, views, classes): negative logarithms of probabilities, STEPS_PER_NAT steps per nat.
        done: Number of views whose outputs are known; the others follow when the file is completed.
    """

    header: ViewsHeader
    outputs: npt.NDArray[np.uint8]
    done: int


def is_views_file(source: str | Path) -> bool:
    """Return whether a teacher is a file of stored outputs."""
    return Path(source).suffix == VIEWS_SUFFIX


def header_of(faces: FaceDataset, split: Split, augmentation: Augmentation, image_size: int, views: int) -> ViewsHeader:
    """Return the header of a file for training faces, without teachers.

    Args:
        faces: The dataset.
        split: Its division.
        augmentation: The random changes to the faces.
        image_size: Side of the views, pixels.
        views: Number of views of each face.

    Raises:
        ValueError: If a view would depend on the other faces of its batch.
    """
    if augmentation.occlusion:
        raise ValueError(
            "stored views cannot cover faces with parts of other faces. Use --set occlusion=0, or --teacher-views same. "
            f"Received: occlusion={augmentation.occlusion}"
        )
    # Mixing comes after the view, so it does not belong to it.
    unmixed = replace(augmentation, mixup=0.0, cutmix=0.0)
    order = hashlib.sha256("".join(faces.digests[i] for i in split.train).encode()).hexdigest()
    return ViewsHeader(
        faces.labels, faces.name, faces.fingerprint, order, unmixed, image_size, faces.resolution_px, views, (), ()
    )


def check_views(path: Path, expected: ViewsHeader) -> None:
    """Check that the outputs in a file are those of the faces and the views of a training.

    Args:
        path: The file.
        expected: From header_of. The image size may differ: a view is the same at every size.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or incomplete, or of other faces, labels or views.
    """
    stored = read_views(path)
    header = stored.header
    differences = [
        f"{field.name} {getattr(header.augmentation, field.name)}, not {getattr(expected.augmentation, field.name)}"
        for field in fields(Augmentation)
        if getattr(header.augmentation, field.name) != getattr(expected.augmentation, field.name)
    ]
    if header.labels != expected.labels:
        differences.append(f"labels {', '.join(header.labels)}, not {', '.join(expected.labels)}")
    if (header.data_fingerprint, header.faces_digest) != (expected.data_fingerprint, expected.faces_digest):
        differences.append("other training faces (data, protocol, seed or fold)")
    if differences:
        raise ValueError(
            f"the teachers' outputs in {path} do not fit this training: {'; '.join(differences)}. Set the same with --set, or "
            "store them again with --teacher and --teacher-views"
        )
    if stored.done < header.views:
        raise ValueError(f"{path} has only {stored.done} of {header.views} views. Repeat the command that wrote it")


def read_views(path: Path) -> TeacherViews:
    """Read a file.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged or another kind of file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file '{path}' with teachers' outputs. Train once with --teacher and --teacher-views 64")
    try:
        with np.load(path, allow_pickle=False) as content:
            state = json.loads(str(content["header"]))
            outputs = content["outputs"]
        stored = TeacherViews(from_data(ViewsHeader, state["header"]), outputs, int(state["done"]))
        shape = (len(outputs), stored.header.views, len(stored.header.labels))
        if outputs.dtype != np.uint8 or outputs.shape != shape:
            raise ValueError(f"the outputs are {outputs.dtype} {outputs.shape}, not uint8 {shape}")
    except (ValueError, TypeError, KeyError, IndexError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} has no teachers' outputs, or is damaged ({error}). Remove it and store them again") from error
    return stored


def store_views(
    header: ViewsHeader,
    teachers: Callable[[], Sequence["keras.Model"]],
    faces: FaceDataset,
    split: Split,
    folder: Path,
    stop_at: float | None,
    reporter: Reporter,
) -> Path:
    """Compute the teachers' outputs for all views, unless they are known, and store them. A stopped computation continues.

    Args:
        header: From header_of, with the teachers.
        teachers: Returns the teachers, see load_teachers. Not called if all outputs are known.
        faces: The dataset.
        split: Its division.
        folder: Folder for the file; its name depends on the header.
        stop_at: Time of time.monotonic(), seconds, after which the computation stops; None for no limit.
        reporter: Receives progress.

    Returns:
        The file.

    Raises:
        StoppedError: If the time was up. The views so far are in the file.
        ValueError: If the file of an earlier computation is damaged.
    """
    key = hashlib.sha256(json.dumps(to_data(replace(header, teachers=())), sort_keys=True).encode()).hexdigest()
    path = folder / f"views-{key[:16]}{VIEWS_SUFFIX}"
    count = len(split.train)
    if path.is_file():
        stored = read_views(path)
        outputs, done = stored.outputs, stored.done
    else:
        outputs, done = np.zeros((count, header.views, len(header.labels)), np.uint8), 0
    if done == header.views:
        return path
    images = to_gray_batch(faces.subset(split.train), header.image_size, header.resolution_px)
    look = _outputs_of_views(teachers(), header, images)
    saved = time.monotonic()
    with reporter.progress("running the teachers") as progress:
        for view in range(done, header.views):
            progress(view, header.views)
            outputs[:, view] = look(view)
            late = stop_at is not None and time.monotonic() >= stop_at and view + 1 < header.views
            if late or view + 1 == header.views or time.monotonic() - saved >= SAVE_SECONDS:
                _write(path, TeacherViews(header, outputs, view + 1))
                saved = time.monotonic()
            if late:
                raise StoppedError(f"time is up: the teachers saw {view + 1} of {header.views} views. Continue with --resume")
    return path


def _outputs_of_views(
    models: Sequence["keras.Model"], header: ViewsHeader, images: npt.NDArray[np.uint8]
) -> Callable[[int], npt.NDArray[np.uint8]]:
    """Return a function from the number of a view to the teachers' outputs for it, uint8 (faces, classes)."""
    import keras

    class Views(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(dtype="float32", trainable=False)
            self.models = list(models)

        def call(self, gray: Any, faces: Any, views: Any) -> Any:
            seen = augment(gray, header.augmentation, ViewDraws(faces, views), header.resolution_px)
            return mean_probabilities(self.models, keras.ops.concatenate([seen] * 3, axis=-1))

    gray = keras.Input(images.shape[1:], dtype="float32")
    numbers, views = keras.Input((), dtype="int32"), keras.Input((), dtype="int32")
    model = keras.Model([gray, numbers, views], Views()(gray, numbers, views))
    every = np.arange(len(images), dtype=np.int32)

    def look(view: int) -> npt.NDArray[np.uint8]:
        results = []
        for start in range(0, len(images), BATCH):
            # The last batch is filled up with the last face, so that the backend compiles only one shape.
            chosen = np.minimum(np.arange(start, start + BATCH, dtype=np.int32), len(images) - 1)
            batch = [images[chosen].astype(np.float32), every[chosen], np.full(BATCH, view, np.int32)]
            results.append(np.asarray(model.predict_on_batch(batch))[: len(images) - start])
        return quantize(np.concatenate(results))

    return look


def quantize(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return probabilities as they are stored.

    Args:
        probabilities: float32 array of any shape, 0..1.
    """
    nats = -np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    return np.round(np.minimum(STEPS_PER_NAT * nats, 255)).astype(np.uint8)


def _write(path: Path, views: TeacherViews) -> None:
    state = json.dumps({"header": to_data(views.header), "done": views.done})
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, header=state, outputs=views.outputs)
