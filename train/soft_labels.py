"""The label distribution of each training face: its class or its votes, the teachers' probabilities, or a mixture."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.artifacts.training_plan import CLEAN, SAME, Plan
from fer_edge.edge_runtime.find_model import resolve_model
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.distill import CACHE_FOLDER, teacher_labels
from fer_edge.train.ferplus import soft_labels, vote_shares
from fer_edge.train.splits import Split
from fer_edge.train.teacher_views import TeacherViews, header_of, is_views_file, read_views, store_views
from fer_edge.train.teachers import load_teachers

if TYPE_CHECKING:
    import keras

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TrainingTargets:
    """What a network learns for each training face.

    Attributes:
        labels: float32 array (len(split.train), classes), 0..1: the label distribution of each face. Teachers that see the
            clean faces are mixed in already.
        teachers: Teachers that see what the network sees, see load_teachers.
        views: Outputs of teachers that saw views of the faces, None without.
    """

    labels: Floats
    teachers: Sequence["keras.Model"] = ()
    views: TeacherViews | None = None


def training_targets(
    plan: Plan,
    faces: FaceDataset,
    split: Split,
    cache: Path,
    stop_at: float | None = None,
    reporter: Reporter = SILENT,
) -> TrainingTargets:
    """Return what a network learns for each training face.

    Args:
        plan: It names the teachers, checked by check_teachers, their weight and their views.
        faces: The dataset.
        split: Its division.
        cache: Folder for the teachers' probabilities.
        stop_at: Time of time.monotonic(), seconds, after which running the teachers stops; None for no limit.
        reporter: Receives progress.

    Raises:
        FileNotFoundError: If a teacher does not exist.
        StoppedError: If the time was up.
    """
    labels = label_distributions(faces.subset(split.train))
    if not plan.teachers:
        return TrainingTargets(labels)
    if plan.teacher_views == SAME:
        return TrainingTargets(labels, teachers=load_teachers(plan.teachers, faces, split))
    if plan.teacher_views == CLEAN:
        weight = plan.recipe.distillation_weight
        soft = teacher_labels(plan.teachers, faces, split.train, plan.recipe.teacher_temperature, cache)
        return TrainingTargets((1 - weight) * labels + weight * soft)
    path = resolve_model(plan.teachers[0])
    if not is_views_file(path):
        header = header_of(faces, split, plan.recipe.augmentation, plan.image_size, int(plan.teacher_views))
        header = replace(header, teachers=plan.teachers, teacher_digests=plan.parent_digests[1:])
        path = store_views(
            header, lambda: load_teachers(plan.teachers, faces, split), faces, split, cache / CACHE_FOLDER, stop_at, reporter
        )
    return TrainingTargets(labels, views=read_views(path))


def label_distributions(faces: FaceDataset) -> Floats:
    """Return the distribution of the votes of each face, float32 array (n, classes); 1 for its class where it has no votes."""
    if faces.votes is not None:
        return soft_labels(faces.votes)
    return np.eye(len(faces.labels), dtype=np.float32)[faces.targets]


def vote_distributions(faces: FaceDataset) -> Floats:
    """Return what the probabilities should equal: like label_distributions, but with the outliers among the votes.

    The sums are below 1 where annotators chose no class.
    """
    return label_distributions(faces) if faces.votes is None else vote_shares(faces.votes)
