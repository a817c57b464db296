"""The board that the program runs on: its name, processor, temperature and supply.

Part of board_facts: only the standard library, in the syntax of Python 3.9.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

BOARD = Path("/proc/device-tree/model")
CPU = Path("/proc/cpuinfo")
TEMPERATURE = Path("/sys/class/thermal/thermal_zone0/temp")
COMMAND_TIMEOUT_S = 10.0
DEVICES = Path("/sys/devices/platform")
FIRMWARE_THROTTLED = "soc*/soc*:firmware/get_throttled"  # soc is followed by its address on a Raspberry Pi 5


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


def throttle_bits() -> int | None:
    """Return the bits of ``vcgencmd get_throttled``; None on a board that is not a Raspberry Pi."""
    for path in DEVICES.glob(FIRMWARE_THROTTLED):  # without permission for vcgencmd, and faster
        try:
            return int(read_text(path) or "", 16)
        except ValueError:
            continue
    return number_in(command_output("vcgencmd", "get_throttled"), lambda text: int(text, 16))


def number_in(output: str | None, convert: Any) -> Any:
    """Return the number in the output of vcgencmd; None if there is none, or it is that of an error.

    Args:
        output: Such as ``temp=48.3'C``, ``volt=0.8563V``, ``frequency(48)=1500345728`` or ``throttled=0x50005``.
        convert: From the text of the number to its value.
    """
    # An unknown command gives: error=1 error_msg="Command not registered"
    match = re.search(r"(?<!error)=(0x[0-9a-fA-F]+|-?\d+(?:\.\d+)?)", output or "")
    return convert(match.group(1)) if match else None


def command_output(program: str, *arguments: str) -> str | None:
    """Return the output of a program; None if it is missing, fails, as without permission, or does not answer.

    Args:
        program: Its name.
        arguments: Its arguments.
    """
    path = shutil.which(program)
    if path is None:
        return None
    try:
        result = subprocess.run([path, *arguments], capture_output=True, timeout=COMMAND_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.decode(errors="replace").strip() if result.returncode == 0 else None
