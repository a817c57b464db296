"""What is found on a board before anything is installed there. Standard library and the syntax of Python 3.9."""

from __future__ import annotations

import getpass
import grp
import json
import os
import platform
import shutil
import struct
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fer_edge.edge_runtime import board
from fer_edge.edge_runtime.cameras import devices

GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
SYSTEM_PACKAGES = Path("/usr/lib/python3/dist-packages")  # of Debian's packages
PACKAGES = ("fer-edge", "numpy", "ai-edge-litert", "tflite-runtime", "opencv-python-headless", "picamera2")
LISTING_PROGRAMS = ("rpicam-hello", "rpicam-vid", "libcamera-hello")
PICAMERA2_TIMEOUT_S = 60.0  # a Pi Zero needs 10 s for the import
PICAMERA2_TEST = (
    "import json, picamera2, numpy; cameras = picamera2.Picamera2.global_camera_info(); "
    "print('\\n' + json.dumps({'numpy': numpy.__version__, 'cameras': [dict(camera) for camera in cameras]}, default=str))"
)


@dataclass(frozen=True)
class BoardFacts:
    """What is found on a board. A value that cannot be read is None.

    Attributes:
        board: Name of the board, such as ``Raspberry Pi 5 Model B Rev 1.0``.
        machine: Architecture of the kernel, such as ``aarch64``; that of Python may be another one, see python_bits.
        os: Name of the operating system.
        glibc: Version of the C library.
        python: Version of Python, as in ``3.11.2``.
        python_bits: Word size of Python: 32 or 64.
        python_path: The Python program.
        in_venv: Whether it belongs to a virtual environment.
        sees_system_packages: Whether it can import Debian's Python packages.
        externally_managed: Whether pip refuses to install here, because apt manages this Python.
        can_make_venv: Whether ``python3 -m venv`` works.
        packages: Versions of the installed packages, of those in PACKAGES.
        picamera2_error: Why picamera2 cannot be imported; None if it can, or is not installed for any Python.
        picamera2_numpy: Version of numpy with which it was imported.
        picamera2_cameras: Its list of cameras.
        camera_listing: Output of ``rpicam-hello --list-cameras``.
        camera_users: Processes that use the Pi camera, as ``PID (NAME)``.
        usb_cameras: One dict per /dev/video file that may be a camera: path, title, allowed, busy, users.
        user: Name of the user.
        groups: Names of the user's groups.
        cores: Number of processors.
        cpu_features: Names of the processor's instruction sets, as in cpuinfo.
        governor: What chooses the clock rate of the processor.
        clock_hz: Clock rate of the processor.
        temperature_c: Temperature of the processor, degrees Celsius.
        throttled: Bits of vcgencmd get_throttled.
        core_volts: Voltage of the processor.
        supply_volts: Voltage of the supply; only a Raspberry Pi 5 measures it.
        memory_bytes: Size of the memory.
        home: The user's folder.
        home_writable: Whether files can be created there.
        free_bytes: Free space on its disk.
        time_s: The time, seconds since 1970.
        time_synchronized: Whether a time server has set the clock since the start.
        systemd: Whether systemd runs the services.
    """

    board: str | None
    machine: str
    os: str | None
    glibc: str | None
    python: str
    python_bits: int
    python_path: str
    in_venv: bool
    sees_system_packages: bool
    externally_managed: bool
    can_make_venv: bool
    packages: dict[str, str]
    picamera2_error: str | None
    picamera2_numpy: str | None
    picamera2_cameras: list[dict[str, Any]]
    camera_listing: str | None
    camera_users: list[str]
    usb_cameras: list[dict[str, Any]]
    user: str
    groups: list[str]
    cores: int | None
    cpu_features: list[str]
    governor: str | None
    clock_hz: int | None
    temperature_c: float | None
    throttled: int | None
    core_volts: float | None
    supply_volts: float | None
    memory_bytes: int | None
    home: str
    home_writable: bool
    free_bytes: int | None
    time_s: float
    time_synchronized: bool | None
    systemd: bool


def board_facts() -> BoardFacts:
    """Examine this board. It takes some seconds where picamera2 is installed."""
    home = Path.home()
    error, numpy_version, cameras = _picamera2()
    return BoardFacts(
        board=board.read_text(board.BOARD),
        machine=platform.machine(),
        os=_os_name(),
        glibc=_glibc(),
        python=platform.python_version(),
        python_bits=struct.calcsize("P") * 8,
        python_path=sys.executable,
        in_venv=sys.prefix != sys.base_prefix,
        sees_system_packages=str(SYSTEM_PACKAGES) in sys.path,
        externally_managed=_is_externally_managed(),
        can_make_venv=find_spec("venv") is not None and find_spec("ensurepip") is not None,
        packages=_versions(),
        picamera2_error=error,
        picamera2_numpy=numpy_version,
        picamera2_cameras=cameras,
        camera_listing=_camera_listing(),
        camera_users=devices.pi_camera_users(),
        usb_cameras=[_usb_camera(device) for device in devices.video_devices() if device.is_capture_device is not False],
        user=_user(),
        groups=_groups(),
        cores=os.cpu_count(),
        cpu_features=(board.cpu_info("flags", "Features") or "").split(),
        governor=board.read_text(GOVERNOR),
        clock_hz=board.number_in(board.command_output("vcgencmd", "measure_clock", "arm"), int),
        temperature_c=board.temperature_c(),
        throttled=board.throttle_bits(),
        core_volts=board.number_in(board.command_output("vcgencmd", "measure_volts", "core"), float),
        supply_volts=board.number_in(board.command_output("vcgencmd", "pmic_read_adc", "EXT5V_V"), float),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        home=str(home),
        home_writable=os.access(str(home), os.W_OK | os.X_OK),
        free_bytes=shutil.disk_usage(str(home)).free if home.exists() else None,
        time_s=time.time(),
        time_synchronized=_is_time_synchronized(),
        systemd=Path("/run/systemd/system").is_dir(),
    )


def _os_name() -> str | None:
    lines = (board.read_text(Path("/etc/os-release")) or "").splitlines()
    return next((line.partition("=")[2].strip("\"'") for line in lines if line.startswith("PRETTY_NAME=")), None)


def _glibc() -> str | None:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")[2] or None
    except (OSError, ValueError):
        return None


def _is_externally_managed() -> bool:
    return sys.prefix == sys.base_prefix and (Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED").is_file()


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _picamera2() -> tuple[str | None, str | None, list[dict[str, Any]]]:
    """Import picamera2 in a child process. Return the error, the version of numpy and the cameras."""
    if find_spec("picamera2") is None:
        hidden = (SYSTEM_PACKAGES / "picamera2").is_dir()
        return ("it is installed, but this virtual environment does not see it" if hidden else None), None, []
    command = [sys.executable, "-c", PICAMERA2_TEST]
    try:
        result = subprocess.run(command, capture_output=True, timeout=PICAMERA2_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"it does not answer within {PICAMERA2_TIMEOUT_S:g} s", None, []
    if result.returncode:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        return (lines[-1] if lines else f"it ends with status {result.returncode}"), None, []
    found = json.loads(result.stdout.decode().strip().splitlines()[-1])
    return None, found["numpy"], found["cameras"]


def _camera_listing() -> str | None:
    program = next((name for name in LISTING_PROGRAMS if shutil.which(name)), None)
    return board.command_output(program, "--list-cameras") if program else None


def _usb_camera(device: devices.VideoDevice) -> dict[str, Any]:
    return {
        "path": str(device.path),
        "title": device.title,
        "allowed": device.is_capture_device is not None,
        "busy": devices.is_busy(device.path),
        "users": devices.processes_using(device.path),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without an entry in passwd
        return str(os.getuid())


def _groups() -> list[str]:
    names = []
    for group in {os.getegid(), *os.getgroups()}:
        try:
            names.append(grp.getgrgid(group).gr_name)
        except KeyError:
            continue
    return sorted(names)


def _is_time_synchronized() -> bool | None:
    answer = board.command_output("timedatectl", "show", "--property=NTPSynchronized", "--value")
    return answer == "yes" if answer in ("yes", "no") else None
