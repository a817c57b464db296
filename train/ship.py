"""What a worker of a cluster needs, in a form that travels: the faces, and the models that a plan starts or learns from.

Workers need neither the dataset nor a shared folder: everything comes through the object store, once per node.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge.artifacts.atomic_write import atomic_write
from fer_edge.artifacts.run_folder import MODEL_FILE, RUN_FILE, RunRecord
from fer_edge.artifacts.training_plan import Plan
from fer_edge.edge_runtime.find_model import resolve_model
from fer_edge.train.dataset import FaceDataset

Files = dict[str, bytes]  # contents by name; the single file of a source that is a file


@dataclass(frozen=True)
class PackedFaces:
    """A dataset whose images are one array, which the object store shares between processes without a copy.

    Attributes:
        faces: The dataset without its images.
        images: uint8 array (n, height, width) or (n, height, width, 3); a tuple of arrays where the shapes differ.
    """

    faces: FaceDataset
    images: Any


def pack_faces(faces: FaceDataset) -> PackedFaces:
    """Return a dataset in a form that travels."""
    same = len({image.shape for image in faces.images}) == 1
    return PackedFaces(replace(faces, images=()), np.stack(faces.images) if same else faces.images)


def unpack_faces(packed: PackedFaces) -> FaceDataset:
    """Return the dataset again. Its images are views of the packed array."""
    return replace(packed.faces, images=tuple(packed.images))


def sources(plan: Plan) -> list[str]:
    """Return the initial weights and teachers of a plan that are files here: neither keywords nor missing."""
    return [source for source in dict.fromkeys((plan.weights, *plan.teachers)) if resolve_model(source).exists()]


def read_source(source: str) -> Files:
    """Return the files of a model: a file, or model.keras and run.json of a run folder.

    Args:
        source: A path or the name of a bundled model.
    """
    path = resolve_model(source)
    paths = [path / MODEL_FILE, path / RUN_FILE] if path.is_dir() else [path]
    return {path.name: path.read_bytes() for path in paths}


def write_sources(contents: Mapping[str, Files], folder: Path) -> dict[str, Path]:
    """Write shipped models into a folder.

    Args:
        contents: The files of each source.
        folder: Folder for them.

    Returns:
        The path of each source here: a file or a run folder, with the name that it had.
    """
    paths = {}
    for source, files in contents.items():
        digest = hashlib.sha256(source.encode()).hexdigest()[:16]
        place = folder / digest
        original = resolve_model(source)
        run_folder = len(files) > 1
        target = place / original.name if run_folder else place
        for name, content in files.items():
            atomic_write(target / name, content)
        paths[source] = target if run_folder else target / next(iter(files))
    return paths


def with_local_sources(plan: Plan, paths: Mapping[str, Path]) -> Plan:
    """Return a plan whose initial weights and teachers are the shipped ones.

    Args:
        plan: The plan of the driver.
        paths: From write_sources.
    """
    return replace(plan, weights=_local(plan.weights, paths), teachers=tuple(_local(name, paths) for name in plan.teachers))


def with_original_sources(record: RunRecord, plan: Plan, local: Plan) -> RunRecord:
    """Return the record of a run as if it had been trained where its plan was made.

    Args:
        record: The record that a worker wrote.
        plan: The plan of the driver.
        local: The plan that the worker trained.
    """
    results = record.results
    if results is not None:
        source = results.weights.source.replace(local.weights, plan.weights, 1)
        results = replace(results, weights=replace(results.weights, source=source))
    return replace(record, plan=plan, results=results)


def read_files(folder: Path, without: Iterable[str]) -> Files:
    """Return the files of a folder.

    Args:
        folder: The folder. Its sub-folders are left out.
        without: Names that are left out.
    """
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file() and path.name not in [*without]}


def _local(source: str, paths: Mapping[str, Path]) -> str:
    return str(paths[source]) if source in paths else source
