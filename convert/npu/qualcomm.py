"""Compile for Snapdragon NPUs with LiteRT and Qualcomm's libraries, and run the result in Qualcomm's simulator.

Nothing of Qualcomm is part of fer-edge: the libraries are those of the package onnxruntime-qnn, which the user installs.
"""

import os
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.convert.npu.compilation import Compilation
from fer_edge.convert.npu.worker import run_worker

WORKER = Path(__file__).with_name("qualcomm_worker.py")
SIMULATOR = "Qualcomm HTP simulator"
LICENSE = (
    "the license of Qualcomm's libraries (in the package onnxruntime-qnn) forbids emotion recognition in the workplace and in "
    "education. Read it before you use the compiled file"
)


def compile_for_qualcomm(flatbuffer: bytes, chip: str, folder: Path) -> Compilation:
    """Compile a model for a Snapdragon.

    Args:
        flatbuffer: The model for the CPU.
        chip: Model of the chip, such as ``SM8750``.
        folder: Empty folder for the files of the compiler.

    Raises:
        RuntimeError: If the compiler fails.
    """
    source = folder / "model.tflite"
    source.write_bytes(flatbuffer)
    result = _run_worker("compile", {"model": str(source), "chip": chip, "out": str(folder)}, folder, f"compile for {chip}")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("ai-edge-litert", "onnxruntime-qnn"))
    return Compilation(Path(result["path"]).read_bytes(), versions)


def simulate(binary: bytes, part: str, faces: npt.NDArray[np.uint8], classes: int, folder: Path) -> npt.NDArray[np.uint8]:
    """Run the binary of a compiled file in the simulator on this machine. Its speed says nothing about an NPU.

    Args:
        binary: The whole model as one part for the NPU.
        part: Name of the part.
        faces: uint8 array (n, size, size, 3), RGB.
        classes: Number of classes.
        folder: Folder for temporary files.

    Returns:
        The output bytes, uint8 array (n, classes).

    Raises:
        RuntimeError: If the simulator fails.
    """
    paths = {name: folder / f"{name}.npy" for name in ("faces", "outputs")}
    np.save(paths["faces"], faces)
    (folder / "part.bin").write_bytes(binary)
    job = {"binary": str(folder / "part.bin"), "part": part, "classes": classes, **{k: str(v) for k, v in paths.items()}}
    _run_worker("simulate", job, folder, "run in the simulator")
    outputs = np.load(paths["outputs"])
    if outputs.shape != (len(faces), classes) or outputs.dtype != np.uint8:
        raise RuntimeError(f"the simulator returned {outputs.dtype} {outputs.shape}, expected uint8 {(len(faces), classes)}")
    return outputs


def whole_model(compiled: bytes, options: bytes) -> tuple[bytes, str]:
    """Return the binary of a part for the NPU, and the name of the part.

    Args:
        compiled: The compiled file.
        options: Options of its custom operator, a flexbuffer with the place of the binary in the file.

    Raises:
        RuntimeError: If the file has no such binary.
    """
    from flatbuffers import flexbuffers

    try:
        values = flexbuffers.Loads(options)
        offset, size = int(values["bytecode_offset"]), int(values["bytecode_size"])
        name = str(values["name"])
    except Exception as error:  # flexbuffers raises many types
        raise RuntimeError(f"the compiled file does not describe its part for the NPU ({error!r})") from error
    if not 0 < offset < offset + size <= len(compiled):
        raise RuntimeError(f"the compiled file has no binary at {offset} to {offset + size}")
    return compiled[offset : offset + size], name


def _run_worker(task: str, job: dict[str, Any], folder: Path, purpose: str) -> dict[str, Any]:
    """Run a task of qualcomm_worker.py in a child process that finds Qualcomm's libraries, and return its result."""
    libraries = os.pathsep.join([*map(str, _library_folders()), os.environ.get("LD_LIBRARY_PATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "LD_LIBRARY_PATH": libraries}
    what = f"Qualcomm's tools cannot {purpose}"
    return run_worker([sys.executable, str(WORKER)], {**job, "task": task}, folder, what, environment)


def _library_folders() -> list[Path]:
    """Return the folders of Qualcomm's libraries in the package onnxruntime-qnn."""
    found = find_spec("onnxruntime_qnn")
    if found is None or not found.submodule_search_locations:
        return []
    package = Path(next(iter(found.submodule_search_locations)))
    return [package, package.with_name(f"{package.name}.libs")]
