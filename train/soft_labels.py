"""The label distribution of each training face: its class or its votes, the teachers' probabilities, or a mixture."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.training_plan import Plan
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.distill import check_teachers, teacher_labels
from fer_edge.train.ferplus import soft_labels, vote_shares
from fer_edge.train.splits import Split

Floats = npt.NDArray[np.float32]


def training_labels(plan: Plan, faces: FaceDataset, split: Split, cache: Path) -> Floats:
    """Return the label distribution of each training face.

    Args:
        plan: It names the teachers and their weight.
        faces: The dataset.
        split: Its division.
        cache: Folder for the teachers' probabilities.

    Returns:
        float32 array (len(split.train), classes), 0..1.

    Raises:
        FileNotFoundError: If a teacher does not exist.
        ValueError: If a teacher cannot teach this data.
    """
    check_teachers(plan.teachers, faces, split)
    labels = label_distributions(faces.subset(split.train))
    if plan.teachers:
        weight = plan.recipe.distillation_weight
        soft = teacher_labels(plan.teachers, faces, split.train, plan.recipe.teacher_temperature, cache)
        labels = (1 - weight) * labels + weight * soft
    return labels


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
