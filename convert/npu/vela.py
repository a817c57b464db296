"""Compile for Arm Ethos-U with vela."""

import csv
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from fer_edge.convert.npu.compilation import Compilation

PACKAGE = "ethos-u-vela"
MAX_SECONDS = 1800
MEMORIES = {
    "SRAM": "sram_memory_used",
    "DRAM": "dram_memory_used",
    "on-chip flash": "on_chip_flash_memory_used",
    "off-chip flash": "off_chip_flash_memory_used",
}


def compile_for_ethos_u(flatbuffer: bytes, chip: str, folder: Path) -> Compilation:
    """Compile a model with vela.

    vela takes its default system configuration and memory mode for each chip, so its numbers are those of Arm's reference
    designs, not of a product.

    Args:
        flatbuffer: The model for the CPU.
        chip: Accelerator configuration, such as ``ethos-u55-128``.
        folder: Empty folder for the files of vela.

    Raises:
        RuntimeError: If vela fails.
    """
    source = folder / "model.tflite"
    source.write_bytes(flatbuffer)
    command = [sys.executable, "-m", "ethosu.vela", "--accelerator-config", chip, "--output-dir", str(folder), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MAX_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"vela took more than {MAX_SECONDS} s for {chip}") from error
    compiled = folder / "model_vela.tflite"
    if done.returncode or not compiled.is_file():
        lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()]
        reason = (errors or lines[-1:] or [f"exit status {done.returncode}"])[0]
        raise RuntimeError(f"vela cannot compile the model for {chip}: {reason}")
    memory_kib, estimated_ms = _read_summary(folder)
    return Compilation(compiled.read_bytes(), f"{PACKAGE} {metadata.version(PACKAGE)}", memory_kib, estimated_ms)


def _read_summary(folder: Path) -> tuple[dict[str, float], float | None]:
    """Return the memory by name, KiB, and vela's estimate of the time on the NPU, milliseconds."""
    path = next(folder.glob("*_summary_*.csv"), None)
    if path is None:
        return {}, None
    with path.open(newline="") as file:
        row = next(csv.DictReader(file))
    memory = {name: round(float(row[column]), 2) for name, column in MEMORIES.items() if float(row[column])}
    return memory, round(1000 * float(row["inference_time"]), 3)
