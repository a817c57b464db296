"""Video devices, and the processes that use cameras. Part of board_facts: standard library and the syntax of Python 3.9."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from fer_edge.edge_runtime.board import read_text

LOCKS = Path("/proc/locks")
PROCESSES = Path("/proc")
SYSFS = Path("/sys/class/video4linux")
# From linux/videodev2.h. struct v4l2_capability has 104 bytes: capabilities at 84, device_caps at 88. Bit 31 of capabilities
# says that device_caps is valid.
QUERYCAP = 0x80685600
# struct v4l2_requestbuffers: count, type (1: video capture), memory (1: mapped), and 8 more bytes. A request for 0 buffers
# has no effect, but fails while another program has buffers.
REQBUFS = 0xC0145608
NO_BUFFERS = struct.pack("<III8x", 0, 1, 1)
CAP_VIDEO_CAPTURE = 0x00000001
CAP_DEVICE_CAPS = 0x80000000
# Parts of a Raspberry Pi that are video devices but deliver no images by themselves: codecs, the image signal processor, and
# the raw side of the Pi camera, which only libcamera can use.
NOT_CAMERAS = ("bcm2835-codec", "bcm2835-isp", "rpi-hevc", "rpivid", "pispbe", "unicam", "rp1-cfe")


@dataclass(frozen=True)
class VideoDevice:
    """A /dev/video file.

    Attributes:
        path: The file.
        title: The kernel's name for the device.
        is_capture_device: Whether it captures video; None without permission to query it.
    """

    path: Path
    title: str
    is_capture_device: bool | None


def video_devices(sysfs: Path = SYSFS) -> list[VideoDevice]:
    """Return the video devices of this machine that may be cameras, sorted by number."""
    devices = []
    for entry in sorted(sysfs.glob("video*"), key=lambda path: int(path.name[5:] or 0)):
        title = read_text(entry / "name") or entry.name
        if not title.startswith(NOT_CAMERAS):
            path = Path("/dev") / entry.name
            devices.append(VideoDevice(path, title, _is_capture_device(path)))
    return devices


def _is_capture_device(path: Path) -> bool | None:
    try:
        handle = os.open(str(path), os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        answer = fcntl.ioctl(handle, QUERYCAP, bytes(104))
        capabilities, device_caps = struct.unpack_from("<II", answer, 84)
        return bool((device_caps if capabilities & CAP_DEVICE_CAPS else capabilities) & CAP_VIDEO_CAPTURE)
    except OSError:
        return False
    finally:
        os.close(handle)


def is_busy(device: Path) -> bool:
    """Return whether another program captures from a video device. A program that only has it open does not count."""
    try:
        handle = os.open(str(device), os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:  # some drivers let only one program open it
        return error.errno == errno.EBUSY
    try:
        fcntl.ioctl(handle, REQBUFS, NO_BUFFERS)
    except OSError as error:
        return error.errno == errno.EBUSY
    finally:
        os.close(handle)
    return False


def processes_using(device: Path, processes: Path = PROCESSES) -> list[str]:
    """Return "PID (NAME)" of other processes that have the device open, as far as this user can see.

    Args:
        device: The device file.
        processes: The proc filesystem.
    """
    target = str(device.resolve())
    users = []
    for process in processes.glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        try:
            if any(str(handle.readlink()) == target for handle in (process / "fd").iterdir()):
                users.append(_with_name(process.name, processes))
        except OSError:
            continue
    return users


def pi_camera_users() -> list[str]:
    """Return "PID (NAME)" of other processes that use a Raspberry Pi camera."""
    return lock_holders(sorted(Path("/dev").glob("media*")))


def lock_holders(files: list[Path], locks: Path = LOCKS, processes: Path = PROCESSES) -> list[str]:
    """Return "PID (NAME)" of other processes that have locked one of the files. libcamera locks /dev/media* of its camera.

    Args:
        files: The files.
        locks: The list of all locks. It also has those of other users.
        processes: The proc filesystem.
    """
    wanted = set()
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        wanted.add(f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}")
    # Such as "1: POSIX  ADVISORY  WRITE 1234 00:05:123 0 EOF"; a process that waits has "->" before its lock.
    lines = [line.split() for line in (read_text(locks) or "").splitlines()]
    pids = {line[4] for line in lines if len(line) > 5 and line[1] != "->" and line[5] in wanted} - {str(os.getpid())}
    return [_with_name(pid, processes) for pid in sorted(pids, key=int)]


def _with_name(pid: str, processes: Path) -> str:
    return f"{pid} ({read_text(processes / pid / 'comm') or 'unknown'})"
