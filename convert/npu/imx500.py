"""Quantize and compile for the IMX500 of the Raspberry Pi AI Camera, with Sony's tools in their environment."""

import json
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.convert.npu.compilation import Compilation
from fer_edge.convert.npu.layer_list import read_layers
from fer_edge.convert.npu.targets import IMX500_TOOLS
from fer_edge.convert.npu.worker import run_worker

WORKER = Path(__file__).with_name("imx500_worker.py")
SIMULATOR = "Sony's quantized network in TensorFlow"
# The rebuilt network computes in float, so it differs from the int8 file by the rounding of activations. Measured on 200 faces
# of FER2013 with cnn_nano: equal labels 98 %, mean difference of a probability 0.004.
MIN_FLOAT_AGREEMENT, MAX_FLOAT_DIFFERENCE = 0.9, 0.02
UNITS_KIB = {"B": 1 / 1024, "KB": 1.0, "MB": 1024.0}
LAST_STEP = (
    "the last step needs Raspberry Pi OS and was not tried: sudo apt install imx500-tools, then "
    "imx500-package -i {name} -o FOLDER, which writes network.rpk for the camera"
)
Faces = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Imx500Compilation:
    """A network for the IMX500.

    Attributes:
        compilation: The packed file and its memory.
        capacity_kib: Memory of the chip, KiB.
        probabilities: Those of the quantized network for the faces, float32 (n, classes).
    """

    compilation: Compilation
    capacity_kib: float
    probabilities: Probabilities


def compile_for_imx500(
    flatbuffer: bytes, calibration: Faces, faces: Faces, expected: Probabilities, folder: Path
) -> Imx500Compilation:
    """Quantize and compile a network.

    Args:
        flatbuffer: The int8 model for the CPU. Its weights are taken, its activations are quantized again.
        calibration: Training faces, uint8 (n, size, size, 3), RGB.
        faces: Test faces, likewise.
        expected: Probabilities of the model for the CPU for the test faces, float32 (n, classes).
        folder: Empty folder for the files of the tools.

    Raises:
        RuntimeError: If an operator cannot be rebuilt, a tool fails, or the network does not fit in the chip.
    """
    what = "Sony's tools cannot compile for imx500"
    try:
        network = read_layers(flatbuffer)
    except ValueError as error:
        raise RuntimeError(f"{what}: {error}") from error
    IMX500_TOOLS.check_programs()
    arrays: dict[str, npt.NDArray[Any]] = {"calibration": calibration, "faces": faces, "expected": expected}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    np.savez(folder / "weights.npz", **network.arrays())  # type: ignore[arg-type]
    (folder / "layers.json").write_text(json.dumps(network.to_data()))
    job = {
        "layers": str(folder / "layers.json"),
        "weights": str(folder / "weights.npz"),
        **{name: str(folder / f"{name}.npy") for name in (*arrays, "outputs")},
        "out": str(folder),
        "min_agreement": MIN_FLOAT_AGREEMENT,
        "max_difference": MAX_FLOAT_DIFFERENCE,
    }
    result = run_worker([str(IMX500_TOOLS.python), str(WORKER)], job, folder, what, _environment())
    return _read_result(result, folder, expected.shape, what)


def _environment() -> dict[str, str]:
    """Return the environment variables of the worker: it must not find the packages of fer-edge."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    path = os.pathsep.join([str(IMX500_TOOLS.python.parent), os.environ.get("PATH", "")])
    return {**kept, "PATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}


def _read_result(result: dict[str, Any], folder: Path, shape: tuple[int, ...], what: str) -> Imx500Compilation:
    out = folder / "compiled"
    report = next(out.glob("*_MemoryReport.json"), None)
    memory = _memory(json.loads(report.read_text())["Memory Report"], what) if report else None
    if memory and memory[0] > memory[1]:
        raise RuntimeError(
            f"{what}: the network does not fit in the chip. It needs {memory[0]:,.0f} of {memory[1]:,.0f} KiB. Use a smaller "
            "network, such as cnn_nano or mobilenet_v2"
        )
    packed = out / "packerOut.zip"
    if result["status"] or memory is None or not zipfile.is_zipfile(packed):
        lines = [line.strip() for line in result["log"].splitlines() if line.strip()]
        errors = [line for line in lines if "ERROR" in line]
        raise RuntimeError(f"{what}: {(errors or lines[-1:] or ['exit status ' + str(result['status'])])[0]}")
    outputs = np.load(folder / "outputs.npy")
    if outputs.dtype != np.float32 or outputs.shape != shape or not np.isfinite(outputs).all():
        raise RuntimeError(f"{what}: the quantized network returned {outputs.dtype} {outputs.shape}, expected float32 {shape}")
    _, capacity, parts = memory
    return Imx500Compilation(Compilation(packed.read_bytes(), _versions(), parts), capacity, outputs)


def _memory(report: dict[str, Any], what: str) -> tuple[float, float, dict[str, float]]:
    """Return the memory that is used (more than the chip has if it does not fit), that of the chip, and its parts, KiB."""
    try:
        parts = {
            "activations": _kib(report["Runtime Memory Physical Size"]),
            "weights": _kib(report["Model Memory Physical Size"]),
            "reserved": _kib(report["Reserved Memory"]),
        }
        used, capacity = _kib(report["Memory Usage"]), _kib(report["Total Memory Available On Chip"])
        fits = bool(report["Fit In Chip"])
    except (KeyError, TypeError, ValueError) as error:
        raise RuntimeError(f"{what}: its memory report cannot be read ({error!r})") from error
    return (used if fits else max(used, capacity + 1)), capacity, parts


def _kib(text: str) -> float:
    match = re.fullmatch(r"([\d.]+) ?(B|KB|MB)", text)
    if match is None:
        raise ValueError(f"a size '{text}'")
    return round(float(match[1]) * UNITS_KIB[match[2]], 2)


def _versions() -> str:
    named = [*IMX500_TOOLS.no_dependencies, *IMX500_TOOLS.requirements]
    wanted = ("model-compression-toolkit", "imx500-converter")
    return ", ".join(name.replace("[tf]", "").replace("==", " ") for name in named if name.startswith(wanted))
