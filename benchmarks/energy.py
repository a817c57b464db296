"""Energy of inferences, from the counters of the CPU (RAPL) or from a power sensor of the board (INA)."""

import time
from collections.abc import Callable
from pathlib import Path

from fer_edge.artifacts.latency_records import Energy
from fer_edge.edge_runtime.board import read_text

POWERCAP = Path("/sys/class/powercap")
HWMON = Path("/sys/class/hwmon")
SECONDS = 0.7
SECONDS_PER_READING = 0.05


def measure_energy(run: Callable[[], object], seconds: float = SECONDS) -> Energy | None:
    """Run repeatedly and read the energy: that of the CPU packages or of the board, idle power included.

    Args:
        run: One inference.
        seconds: Time to run, seconds.

    Returns:
        None if no sensor can be read: most virtual machines and boards have none, and RAPL needs root on recent kernels.
    """
    packages = [folder for folder in sorted(POWERCAP.glob("intel-rapl:?")) if _number(folder / "energy_uj") is not None]
    powers = [] if packages else [file for file in sorted(HWMON.glob("*/power1_input")) if _is_ina(file) and _number(file)]
    if not (packages or powers):
        return None
    before = [_number(folder / "energy_uj") or 0 for folder in packages]
    watts: list[float] = []
    start = time.monotonic()
    runs, elapsed = 0, 0.0
    while not runs or elapsed < seconds:
        run()
        runs += 1
        elapsed = time.monotonic() - start
        if powers and elapsed >= SECONDS_PER_READING * len(watts):
            watts.append(sum(_number(file) or 0 for file in powers) / 1e6)
    if powers:
        names = "+".join(read_text(file.with_name("name")) or "" for file in powers)
        return Energy(names, sum(watts) / len(watts) * elapsed, elapsed, runs)
    joules = 0.0
    for folder, first in zip(packages, before, strict=True):
        used = (_number(folder / "energy_uj") or 0) - first
        joules += (used if used >= 0 else used + (_number(folder / "max_energy_range_uj") or 0)) / 1e6  # it starts again at 0
    return Energy("+".join(read_text(folder / "name") or folder.name for folder in packages), joules, elapsed, runs)


def _is_ina(file: Path) -> bool:
    return (read_text(file.with_name("name")) or "").startswith("ina")


def _number(file: Path) -> int | None:
    text = read_text(file)
    return int(text) if text and text.isdigit() else None
