"""Where a measurement was made: board, OS, runtime, governor, temperature and throttling."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
TEMPERATURE = Path("/sys/class/thermal/thermal_zone0/temp")
THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")  # Raspberry Pi's firmware
BOARD = Path("/proc/device-tree/model")
CPU = Path("/proc/cpuinfo")
# Instructions that multiply and add int8 four at a time, as cpuinfo names them; best first. They decide how fast int8 is.
INTEGER_DOT_PRODUCTS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")
RUNTIMES = ("ai-edge-litert", "tflite-runtime")


def describe_environment() -> dict[str, Any]:
    """Return what does not change during a measurement. What cannot be read is None."""
    runtimes = {}
    for package in RUNTIMES:
        try:
            runtimes[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "board": _text(BOARD),
        "cpu": _cpu_model(),
        "integer_dot_product": _integer_dot_product(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "os": _os_name(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "runtimes": runtimes,
        "governor": _text(GOVERNOR),
    }


def read_state() -> dict[str, Any]:
    """Return what can change during a measurement: temperature (Celsius), throttle bits, load. None where unknown."""
    temperature = _text(TEMPERATURE)
    return {
        "temperature_c": int(temperature) / 1000 if temperature and temperature.isdigit() else None,
        "throttle_bits": _text(THROTTLED),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _cpu_model() -> str | None:
    for line in (_text(CPU) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return None


def _integer_dot_product() -> str | None:
    for line in (_text(CPU) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            held = value.split()
            return next((one for one in INTEGER_DOT_PRODUCTS if one in held), None)
    return None


def _os_name() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None
