"""Where a measurement is made: board, OS, runtime, governor, temperature and throttling."""

import importlib.metadata
import os
import platform
from pathlib import Path

from fer_edge.artifacts.latency_records import Environment, MachineState
from fer_edge.edge_runtime.board import BOARD, cpu_info, read_text, temperature_c
from fer_edge.edge_runtime.emulation import find_emulator

GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")  # firmware of the Raspberry Pi
# Instructions that multiply and add four int8 values at once, as cpuinfo names them; best first. They make int8 fast.
INTEGER_DOT_PRODUCTS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")
EMULATED_CPU = "QEMU_CPU"  # variable in which the user of qemu names the processor
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
    )


def _integer_dot_product() -> str | None:
    available = (cpu_info("flags", "Features") or "").split()
    return next((instruction for instruction in INTEGER_DOT_PRODUCTS if instruction in available), None)


def _os_name() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None
