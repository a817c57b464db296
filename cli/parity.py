"""Parity with faces of a dataset that training reads, or with drawn faces. ``fer-edge parity`` is this file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.benchmarks.parity.compare import ParityRow, measure_parity
from fer_edge.benchmarks.parity.parity_model import read_parity_model
from fer_edge.edge_runtime.find_model import find_model
from fer_edge.edge_runtime.images import Image


def parity(
    models: Sequence[str | Path],
    runtimes: Sequence[str],
    data: str | None = None,
    faces: int = 100,
    reporter: Reporter = SILENT,
) -> list[ParityRow]:
    """Run the same faces through runtimes and compare their outputs with those of LiteRT.

    Args:
        models: Model files, folders (all .tflite files in them), or names of bundled models.
        runtimes: From choose_runtimes.
        data: Dataset; None for drawn faces.
        faces: Maximum number of faces.
        reporter: Receives progress and notes.

    Raises:
        FileNotFoundError: If a model or the data does not exist.
        ValueError: If a model or the data cannot be read.
        RuntimeError: If a runtime is missing.
    """
    files = _model_files(models)
    images = read_images(data, faces, reporter)
    return measure_parity([read_parity_model(file, images) for file in files], runtimes, reporter)


def _model_files(models: Sequence[str | Path]) -> list[Path]:
    files: list[Path] = []
    for model in map(Path, models):
        found = sorted(model.rglob("*.tflite")) if model.is_dir() else [find_model(model)]
        if not found:
            raise FileNotFoundError(f"the folder '{model}' has no .tflite file. Make some: fer-edge convert RUN --all")
        files += found
    return list(dict.fromkeys(files))


def read_images(data: str | None, count: int, reporter: Reporter = SILENT) -> list[Image]:
    """Return face crops, the same in every call.

    Args:
        data: Dataset; None for drawn faces.
        count: Maximum number of faces.
        reporter: Receives a note about drawn faces.

    Returns:
        uint8 arrays (height, width), gray, or (height, width, 3), RGB.

    Raises:
        FileNotFoundError: If the dataset does not exist.
        ValueError: If it cannot be read.
    """
    from fer_edge.train.read_dataset import read_faces
    from fer_edge.train.read_options import ReadOptions
    from fer_edge.train.synthetic import synthetic_faces

    if data is None:
        reporter.note("drawn faces. --data DATA compares real ones")
        images: Sequence[Image] = synthetic_faces(-(-count // 16)).images
    else:
        images = read_faces(data, ReadOptions()).images
    chosen = np.random.default_rng(0).permutation(len(images))[:count]
    return [images[index] for index in np.sort(chosen)]
