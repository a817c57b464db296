import re
from dataclasses import replace

import pytest

from fer_edge.board_checks import board_checks, describe_throttling
from fer_edge.edge_runtime.board_facts import BoardFacts

NOON_S = 1_800_000_000.0  # 2027-01-15
# Output of `rpicam-vid --list-cameras` on a Raspberry Pi 5: github.com/Gordon999/RPiCamGUI/issues/14.
LISTING = """Available cameras
-----------------
0 : imx585 [3840x2160 16-bit RGGB] (/base/axi/pcie@120000/rp1/i2c@80000/imx585@1A)
    Modes: 'SRGGB12_CSI2P' : 1928x1090 [87.60 fps - (0, 0)/3840x2160 crop]
                             3856x2180 [43.80 fps - (0, 0)/3840x2160 crop]
"""
BOARD = BoardFacts(
    board="Raspberry Pi 5 Model B Rev 1.0",
    machine="aarch64",
    os="Debian GNU/Linux 12 (bookworm)",
    glibc="2.36",
    python="3.11.2",
    python_bits=64,
    python_path="/home/pi/fer/bin/python",
    in_venv=True,
    sees_system_packages=True,
    externally_managed=False,
    can_make_venv=True,
    packages={"numpy": "1.24.2", "picamera2": "0.3.31"},
    picamera2_error=None,
    picamera2_numpy="1.24.2",
    picamera2_cameras=[{"Model": "imx219", "Id": "/base/axi/pcie@120000/rp1/i2c@88000/imx219@10"}],
    camera_listing=LISTING,
    camera_users=[],
    usb_cameras=[],
    user="pi",
    groups=["pi", "video"],
    cores=4,
    cpu_features=["fp", "asimd", "asimddp"],
    governor="ondemand",
    clock_hz=2_400_000_000,
    temperature_c=48.3,
    throttled=0,
    core_volts=0.8563,
    supply_volts=5.05716,
    memory_bytes=4_147_789_824,
    home="/home/pi",
    home_writable=True,
    free_bytes=20_000_000_000,
    time_s=NOON_S,
    time_synchronized=True,
    systemd=True,
)


def checks_of(now_s=None, **changes):
    return {check.part: check for check in board_checks(replace(BOARD, **changes), now_s)}


def test_a_healthy_board_has_no_remedies():
    checks = checks_of(NOON_S + 59)
    assert {part: check.state for part, check in checks.items() if check.remedy} == {}
    assert checks["board"].details == "Raspberry Pi 5 Model B Rev 1.0, Debian GNU/Linux 12 (bookworm), 4.1 GB of memory"
    assert checks["python"].details == "3.11.2, 64-bit, on aarch64"
    assert checks["pi camera"].details == "imx219"
    assert checks["processor"].details == "4 cores at 2400 MHz, asimddp: fast int8 models"
    assert checks["voltage"].details == "processor 0.86 V, supply 5.06 V"
    assert checks["throttling"].details == "none since the start"
    assert checks["clock"].details == "2027-01-15 08:00 UTC"


CAMERA = {"path": "/dev/video0", "title": "Cam", "allowed": True, "busy": False, "users": []}
NONE_LISTED = {"picamera2_cameras": [], "camera_listing": "No cameras available!"}
HIDDEN = {"picamera2_error": "this virtual environment does not see it", "sees_system_packages": False}
NO_LIBCAMERA = "No module named 'libcamera'"
NUMPY_ERROR = "ValueError: numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header, got 88"


@pytest.mark.parametrize(
    ("part", "state", "details", "remedy", "changes"),
    [
        ("python", "failed", "32-bit, on aarch64", r"Raspberry Pi OS \(64-bit\)", {"python_bits": 32}),
        ("python", "failed", "3.9.2", "Python 3.10 to 3.13", {"python": "3.9.2"}),
        ("environment", "warning", "belongs to apt", "venv --system-site-packages", {"externally_managed": True}),
        ("venv", "warning", "does not work", "apt install python3-venv", {"can_make_venv": False}),
        ("picamera2", "warning", "does not see it", "include-system", HIDDEN),
        ("picamera2", "warning", r"got 88 \(numpy 1.24.2\)", "pip uninstall --yes numpy$", {"picamera2_error": NUMPY_ERROR}),
        ("picamera2", "warning", "got 88", "break-system-packages", {"picamera2_error": NUMPY_ERROR, "in_venv": False}),
        ("picamera2", "warning", NO_LIBCAMERA, "reinstall", {"picamera2_error": NO_LIBCAMERA}),
        ("pi camera", "warning", r"imx219, used by process 812 \(vlc\)", "kill 812", {"camera_users": ["812 (vlc)"]}),
        ("pi camera", "missing", "none found", "ribbon cable", NONE_LISTED),
        ("groups", "warning", "pi is not in the group video", "usermod -aG video", {"groups": ["pi"]}),
        ("governor", "warning", "powersave", "scaling_governor", {"governor": "powersave"}),
        ("temperature", "warning", "82.3 °C", "fan", {"temperature_c": 82.3}),
        ("throttling", "warning", "under-voltage, throttled now", "power supply", {"throttled": 0x50005}),
        ("throttling", "warning", "soft temperature limit now", "fan", {"throttled": 0x80008}),
        ("voltage", "warning", "supply 4.62 V", "power supply", {"supply_volts": 4.62}),
        ("disk", "warning", "400 MB free in /home/pi", "free 500 MB", {"free_bytes": 400_000_000}),
        ("disk", "warning", "may not write to /home/pi", "remount,rw", {"home_writable": False}),
        ("clock", "warning", "1970-01-01 00:00 UTC is wrong", "set-ntp", {"time_s": 0.0}),
        ("clock", "warning", "is wrong", "set-ntp", {"now_s": NOON_S + 61}),
        ("/dev/video0", "warning", "Cam, this user has no permission", "video", {"usb_cameras": [CAMERA | {"allowed": False}]}),
        (
            "/dev/video0",
            "warning",
            r"Cam, used by process 9 \(vlc\)",
            "fuser -v /dev/video0",
            {"usb_cameras": [CAMERA | {"busy": True, "users": ["9 (vlc)"]}]},
        ),
    ],
)
def test_a_problem_of_a_board_has_a_remedy(part, state, details, remedy, changes):
    check = checks_of(**changes)[part]
    assert check.state == state
    assert re.search(details, check.details)
    assert re.search(remedy, check.remedy)


def test_a_board_without_picamera2_names_the_cameras_of_rpicam():
    checks = checks_of(picamera2_numpy=None, picamera2_cameras=[], packages={})
    assert checks["picamera2"].details == "not installed: needed for the Raspberry Pi camera only"
    assert checks["pi camera"].details == "imx585"


def test_a_pc_has_no_rows_for_the_parts_of_a_raspberry_pi():
    unknown = dict.fromkeys(("board", "governor", "clock_hz", "temperature_c", "throttled", "core_volts", "supply_volts"))
    checks = checks_of(**unknown, machine="x86_64", picamera2_numpy=None, picamera2_cameras=[], camera_listing=None, groups=[])
    assert set(checks) == {"board", "python", "picamera2", "usb camera", "processor", "disk", "clock"}
    assert checks["processor"].details == "4 cores"


# Bits 0 to 3 in the order of THROTTLE_BITS, from the documentation of get_throttled. Bits 16 to 19: since the start.
@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0x0, "none since the start"),
        (0x50000, "under-voltage, throttled since the start"),
        (0x50005, "under-voltage, throttled now"),
        (0xE0008, "soft temperature limit now; clock rate capped, throttled since the start"),
        (0x20002, "clock rate capped now"),
        (0x100, "none since the start"),
    ],
)
def test_the_bits_of_throttling_become_words(bits, words):
    assert describe_throttling(bits) == words
