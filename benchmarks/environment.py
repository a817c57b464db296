"""Where a measurement is made: board, OS, runtime, governor, temperature and throttling."""

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fer_edge.artifacts.latency_records import Environment, MachineState
from fer_edge.edge_runtime.board import BOARD, cpu_info, read_text, temperature_c
from fer_edge.edge_runtime.emulation import find_emulator

GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
PC_THROTTLE_COUNT = Path("/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count")
THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")  # firmware of the Raspberry Pi
# Instructions that multiply and add four int8 values at once, as cpuinfo names them; best first. They make int8 fast.
INTEGER_DOT_PRODUCTS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")
EMULATED_CPU = "QEMU_CPU"  # variable in which the user of qemu names the processor
MAX_SPREAD = 2.0  # p99 as a multiple of p50
MIN_CPU_SHARE = 0.95
THROTTLING_NOW = 0xF  # of the Raspberry Pi's bits: under-voltage, capped or throttled frequency, temperature limit
RUNTIMES = ("ai-edge-litert", "tflite-runtime")


def describe_environment() -> Environment:
    """Return what does not change during a measurement. Values that cannot be read are None."""
    runtimes = {}
    for package in RUNTIMES:
        try:
            runtimes[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    emulator = find_emulator()
    return Environment(
        board=read_text(BOARD),
        cpu=(emulator and os.environ.get(EMULATED_CPU)) or cpu_info("model name", "Model"),
        integer_dot_product=_integer_dot_product(),
        machine=platform.machine(),
        cores=os.cpu_count(),
        os=_os_name(),
        kernel=platform.release(),
        python=platform.python_version(),
        runtimes=runtimes,
        governor=read_text(GOVERNOR),
        emulator=emulator,
    )


def read_state() -> MachineState:
    """Return what can change during a measurement. Values that cannot be read are None."""
    return MachineState(
        temperature_c=temperature_c(),
        throttle_bits=read_text(THROTTLED),
        load_1min=round(os.getloadavg()[0], 2),
        throttle_count=_number(PC_THROTTLE_COUNT),
    )


def busy_reasons(
    samples_ms: Sequence[float], cpu_share: float, states: tuple[MachineState, MachineState], cores: int | None
) -> tuple[str, ...]:
    """Return why samples are unreliable: other processes or throttling.

    Args:
        samples_ms: The samples, milliseconds.
        cpu_share: CPU time of the process divided by the time it ran; below 1 if other processes took the core.
        states: State of the machine before and after.
        cores: Number of cores; None where unknown.

    Returns:
        One reason each; empty if nothing was found.
    """
    before, after = states
    p50, p99 = map(float, np.percentile(samples_ms, [50, 99]))
    reasons = []
    if p99 > MAX_SPREAD * p50:
        reasons.append(f"p99 is {p99 / p50:.1f} times p50")
    if cpu_share < MIN_CPU_SHARE:
        reasons.append(f"other processes took {1 - cpu_share:.0%} of the CPU time")
    if cores and before.load_1min is not None and before.load_1min > cores:
        reasons.append(f"load {before.load_1min:.1f} on {cores} cores")
    bits = [_bits(state.throttle_bits) for state in states]
    if (bits[0] | bits[1]) & THROTTLING_NOW or bits[1] & ~bits[0]:
        reasons.append(f"the CPU was throttled (bits {after.throttle_bits})")
    if after.throttle_count is not None and before.throttle_count is not None and after.throttle_count > before.throttle_count:
        reasons.append("the CPU was throttled by heat")
    return tuple(reasons)


def _number(file: Path) -> int | None:
    text = read_text(file)
    return int(text) if text and text.isdigit() else None


def _bits(text: str | None) -> int:
    """Return throttle bits, which the firmware writes in hexadecimal."""
    try:
        return int(text or "0", 16)
    except ValueError:
        return 0


def _integer_dot_product() -> str | None:
    available = (cpu_info("flags", "Features") or "").split()
    return next((instruction for instruction in INTEGER_DOT_PRODUCTS if instruction in available), None)


def _os_name() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None
