"""Choose the training faces that calibrate an int8 file. The run folder stores them."""

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.run_folder import StoredFaces
from fer_edge.train.dataset import FaceDataset
from fer_edge.train.splits import Split

CALIBRATION_FACES = 256
MIN_FACES = 128  # with fewer, mirror images are added: conversion needs 100 distinct faces


def calibration_faces(faces: FaceDataset, split: Split, seed: int) -> StoredFaces:
    """Return the faces that calibrate an int8 file. If training has few faces, their mirror images are among them.

    Args:
        faces: The dataset.
        split: Its division.
        seed: Seed of the choice.
    """
    chosen = faces.subset(choose_calibration(faces, split, seed))
    if len(chosen) >= MIN_FACES:
        return StoredFaces(chosen.images, chosen.targets)
    mirrored = tuple(np.ascontiguousarray(image[:, ::-1]) for image in chosen.images)
    return StoredFaces((*chosen.images, *mirrored), np.concatenate([chosen.targets, chosen.targets]))


def choose_calibration(faces: FaceDataset, split: Split, seed: int) -> npt.NDArray[np.intp]:
    """Choose distinct training faces for quantization, evenly over the classes.

    Args:
        faces: The dataset.
        split: Its division.
        seed: Seed of the choice.

    Returns:
        At most CALIBRATION_FACES indices of training images. None of them has a copy in validation or test.
    """
    rng = np.random.default_rng(seed)
    taken = {faces.digests[i] for i in np.concatenate([split.validation, split.test])}
    queues: list[list[int]] = []
    for k in range(len(faces.labels)):
        queues.append([int(i) for i in rng.permutation(split.train[faces.targets[split.train] == k])])
    chosen: list[int] = []
    while len(chosen) < CALIBRATION_FACES and any(queues):
        for queue in queues:
            while queue:
                candidate = queue.pop()
                if faces.digests[candidate] not in taken:
                    taken.add(faces.digests[candidate])
                    chosen.append(candidate)
                    break
    return np.sort(np.array(chosen[:CALIBRATION_FACES], np.intp))
