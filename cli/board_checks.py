"""What fer-edge doctor says about a board, here or over ssh: a remedy for each problem in its BoardFacts."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from fer_edge.edge_runtime.board_facts import BoardFacts

State = Literal["ok", "missing", "warning", "failed"]

PYTHONS = ((3, 10), (3, 13))
MIN_FREE_BYTES = 500_000_000  # an installation has 200 MB, and deploy keeps two
MIN_TIME_S = 1_767_225_600  # 2026-01-01, before which this version did not exist
MAX_CLOCK_ERROR_S = 60.0
HOT_C = 80.0  # the firmware starts to slow a Raspberry Pi down here
# A Raspberry Pi reports under-voltage at 4.63 V +-5 %: www.raspberrypi.com/documentation/computers/raspberry-pi.html
MIN_SUPPLY_VOLTS = 4.75
# Of vcgencmd get_throttled: www.raspberrypi.com/documentation/computers/os.html#get_throttled. The same bits 16 higher say that
# it has happened since the start.
THROTTLE_BITS = ("under-voltage", "clock rate capped", "throttled", "soft temperature limit")
UNDER_VOLTAGE_BITS = 0x10001
SUPPLY_REMEDY = (
    "the board slows down or crashes. Use the official power supply (5 V, 3 A for a Pi 4; 5 A for a Pi 5), a short cable, "
    "and fewer USB devices"
)
GROUP_REMEDY = "sudo usermod -aG video $USER, then log in again"
COOLING_REMEDY = "add a fan or a heat sink, or lower the load: fer-edge run --fps 10"
IMAGE_64_BIT = "Raspberry Pi OS (64-bit)"
VENV_REMEDY = (
    "create a virtual environment: python3 -m venv --system-site-packages ~/fer, then ~/fer/bin/pip install 'fer-edge[edge]'"
)
# In an environment that sees the system's packages, its own numpy hides the one that picamera2 was built for.
NUMPY_REMEDY = "remove the numpy that pip installed, so that the system's is used: pip uninstall --yes numpy"


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
        part: Name of the checked part.
        needed_for: Commands that need the part, such as ``train, bench``; ``optional`` if none does.
        details: The version, value or location found, or the reason of a problem.
        remedy: How to solve the problem; None if there is none.
        state: ``ok``, ``missing`` (an optional part), ``warning``, or ``failed`` if models cannot run.
    """

    part: str
    needed_for: str
    details: str
    remedy: str | None = None
    state: State = "ok"

    def cells(self) -> tuple[str, str, str, str]:
        """Return the table row: part, commands, state, details."""
        return self.part, self.needed_for, self.state.upper() if self.state == "failed" else self.state, self.details


def board_checks(facts: BoardFacts, now_s: float | None = None) -> list[Check]:
    """Check a board.

    Args:
        facts: From board_facts(), on this board or another one.
        now_s: The time by another clock, seconds since 1970; None if there is none.
    """
    return [
        _board(facts),
        _python(facts),
        *_environment(facts),
        _picamera2(facts),
        *_pi_cameras(facts),
        *_usb_cameras(facts),
        *_processor(facts),
        *_heat_and_supply(facts),
        _disk(facts),
        _clock(facts, now_s),
    ]


def _warning(part: str, details: str, remedy: str) -> Check:
    return Check(part, "optional", details, remedy, "warning")


def _board(facts: BoardFacts) -> Check:
    memory = f", {facts.memory_bytes / 1e9:.1f} GB of memory" if facts.memory_bytes else ""
    return Check("board", "run", f"{facts.board or facts.machine}, {facts.os or 'unknown system'}{memory}")


def _python(facts: BoardFacts) -> Check:
    details = f"{facts.python}, {facts.python_bits}-bit, on {facts.machine}"
    low, high = PYTHONS
    if facts.python_bits != 64:
        # The kernel says nothing here: 32-bit Raspberry Pi OS has a 64-bit kernel on a Pi 4 and Pi 5.
        remedy = f"there is no LiteRT for 32-bit systems. Write {IMAGE_64_BIT} to the SD card"
        return Check("python", "run", details, remedy, "failed")
    if not low <= tuple(int(number) for number in facts.python.split(".")[:2]) <= high:
        remedy = f"use Python {low[0]}.{low[1]} to {high[0]}.{high[1]}: {IMAGE_64_BIT} Bookworm or Trixie"
        return Check("python", "run", details, remedy, "failed")
    return Check("python", "run", details)


def _environment(facts: BoardFacts) -> Iterator[Check]:
    if facts.externally_managed:
        yield _warning("environment", "this Python belongs to apt: pip refuses to install here", VENV_REMEDY)
    if not facts.can_make_venv:
        yield _warning("venv", "python3 -m venv does not work", "sudo apt install python3-venv")


def _picamera2(facts: BoardFacts) -> Check:
    error, numpy_version = facts.picamera2_error, facts.packages.get("numpy")
    if error is None and facts.picamera2_numpy is None:
        return Check("picamera2", "optional", "not installed: needed for the Raspberry Pi camera only")
    if error is None:
        version = facts.packages.get("picamera2", "version unknown")
        return Check("picamera2", "optional", f"{version}, with numpy {facts.picamera2_numpy}")
    if facts.in_venv and not facts.sees_system_packages:
        remedy = "sed -i '/^include-system/s/false/true/' pyvenv.cfg in the folder of the environment"
    elif re.search(r"numpy|_ARRAY_API", error):
        remedy = NUMPY_REMEDY if facts.in_venv else f"{NUMPY_REMEDY} --break-system-packages"
        error = f"{error} (numpy {numpy_version})"
    else:
        remedy = "sudo apt install --reinstall python3-picamera2"
    return _warning("picamera2", error, remedy)


def _pi_cameras(facts: BoardFacts) -> Iterator[Check]:
    names = [str(camera.get("Model")) for camera in facts.picamera2_cameras if "/usb" not in str(camera.get("Id", ""))]
    names = names or re.findall(r"^\d+ : (\S+)", facts.camera_listing or "", re.MULTILINE)
    is_pi = (facts.board or "").startswith("Raspberry Pi")
    if names and facts.camera_users:
        used = f"{', '.join(names)}, used by process {' and '.join(facts.camera_users)}"
        yield _warning("pi camera", used, f"end that program: kill {facts.camera_users[0].partition(' ')[0]}")
    elif names:
        yield Check("pi camera", "optional", ", ".join(names))
    elif facts.picamera2_numpy or facts.camera_listing:
        yield Check("pi camera", "optional", "none found", "check the direction of the ribbon cable, then reboot", "missing")
    if is_pi and facts.user != "root" and "video" not in facts.groups:
        yield _warning("groups", f"user {facts.user} is not in the group video", GROUP_REMEDY)


def _usb_cameras(facts: BoardFacts) -> Iterator[Check]:
    if not facts.usb_cameras:
        yield Check("usb camera", "optional", "none at /dev/video*")
    for camera in facts.usb_cameras:
        path, title, users = camera["path"], camera["title"], " and ".join(camera["users"])
        if not camera["allowed"]:
            yield _warning(path, f"{title}, this user has no permission", GROUP_REMEDY)
        elif camera["busy"]:
            by = f"process {users}" if users else "a program of another user"
            yield _warning(path, f"{title}, used by {by}", f"end that program; sudo fuser -v {path} names it")
        else:
            yield Check(path, "optional", title)


def _processor(facts: BoardFacts) -> Iterator[Check]:
    details = f"{facts.cores} cores" + (f" at {facts.clock_hz / 1e6:.0f} MHz" if facts.clock_hz else "")
    if facts.machine == "aarch64":
        found = "asimddp" in facts.cpu_features
        details += ", asimddp: fast int8 models" if found else ", without asimddp: int8 takes 2 to 3 times the instructions"
    yield Check("processor", "run", details)
    if facts.governor == "powersave":
        command = "echo ondemand | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        yield _warning("governor", "powersave: the processor stays at its lowest clock rate", command)
    elif facts.governor:
        yield Check("governor", "optional", facts.governor)


def _heat_and_supply(facts: BoardFacts) -> Iterator[Check]:
    if facts.temperature_c is not None:
        hot = facts.temperature_c >= HOT_C
        degrees = f"{facts.temperature_c:.1f} °C"
        yield _warning("temperature", degrees, COOLING_REMEDY) if hot else Check("temperature", "optional", degrees)
    if facts.throttled is not None:
        under_voltage = facts.throttled & UNDER_VOLTAGE_BITS
        remedy = SUPPLY_REMEDY if under_voltage else COOLING_REMEDY
        words = describe_throttling(facts.throttled)
        yield _warning("throttling", words, remedy) if facts.throttled else Check("throttling", "optional", words)
    volts = [(facts.core_volts, "processor"), (facts.supply_volts, "supply")]
    details = ", ".join(f"{name} {value:.2f} V" for value, name in volts if value is not None)
    if facts.supply_volts is not None and facts.supply_volts < MIN_SUPPLY_VOLTS:
        yield _warning("voltage", details, SUPPLY_REMEDY)
    elif details:
        yield Check("voltage", "optional", details)


def describe_throttling(bits: int) -> str:
    """Return the meaning of the bits of ``vcgencmd get_throttled``, such as ``throttled now; under-voltage since the start``.

    Args:
        bits: The number, such as 0x50005. Bits without a known meaning are ignored.
    """
    now = [name for bit, name in enumerate(THROTTLE_BITS) if bits >> bit & 1]
    before = [name for bit, name in enumerate(THROTTLE_BITS) if bits >> bit + 16 & 1 and name not in now]
    parts = [f"{', '.join(now)} now"] if now else []
    parts += [f"{', '.join(before)} since the start"] if before else []
    return "; ".join(parts) or "none since the start"


def _disk(facts: BoardFacts) -> Check:
    if not facts.home_writable:
        remedy = "log in as a user with a folder; if the disk is read-only: sudo mount -o remount,rw /"
        return _warning("disk", f"this user may not write to {facts.home}", remedy)
    if facts.free_bytes is not None and facts.free_bytes < MIN_FREE_BYTES:
        details = f"{facts.free_bytes / 1e6:.0f} MB free in {facts.home}"
        return _warning("disk", details, f"free {MIN_FREE_BYTES // 1_000_000} MB: sudo apt clean; du -xh ~ | sort -h | tail")
    return Check("disk", "optional", f"{(facts.free_bytes or 0) / 1e9:.1f} GB free in {facts.home}")


def _clock(facts: BoardFacts, now_s: float | None) -> Check:
    details = f"{datetime.fromtimestamp(facts.time_s, timezone.utc):%Y-%m-%d %H:%M} UTC"
    wrong = facts.time_s < MIN_TIME_S or (now_s is not None and abs(facts.time_s - now_s) > MAX_CLOCK_ERROR_S)
    if wrong:
        remedy = "labels get wrong times. Set it: sudo timedatectl set-ntp true, or sudo date --set TIME"
        return _warning("clock", f"{details} is wrong", remedy)
    return Check("clock", "optional", details + ("" if facts.time_synchronized is not False else ", not synchronized"))
