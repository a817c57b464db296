"""The board that the program runs on: its name and temperature."""

import platform
from pathlib import Path

BOARD = Path("/proc/device-tree/model")
CPU = Path("/proc/cpuinfo")
TEMPERATURE = Path("/sys/class/thermal/thermal_zone0/temp")


def read_text(path: Path) -> str | None:
    """Return the text of a file in /proc or /sys, without the zero byte at its end; None if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def cpu_info(*names: str) -> str | None:
    """Return the value of the first line of cpuinfo with one of these names."""
    for line in (read_text(CPU) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return None


def board_name() -> str:
    """Return the name of the board, such as ``Raspberry Pi 5 Model B Rev 1.0``; on a PC that of its processor."""
    return read_text(BOARD) or cpu_info("model name", "Model") or platform.machine()


def temperature_c() -> float | None:
    """Return the temperature of the processor, degrees Celsius; None if it cannot be read."""
    text = read_text(TEMPERATURE)
    return int(text) / 1000 if text and text.lstrip("-").isdigit() else None
