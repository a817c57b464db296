"""A board on this machine: an ``ssh`` that runs the command here, in a home folder of its own, with faults on request."""

import fcntl
import hashlib
import json
import os
import sys
import zipfile

PYTHON = sys._base_executable  # starts faster than that of an environment
SSH = f"""#!{PYTHON} -IS
import json, os, subprocess, sys, threading
board = json.load(open(os.environ["FAKE_BOARD"]))
assert "BatchMode=yes" in sys.argv and sys.argv[-2] == board["host"], sys.argv
if board["ssh_error"]:
    sys.exit(print(board["ssh_error"], file=sys.stderr) or 255)
print("Welcome to the board")  # of a startup file
sys.stdout.flush()
environment = {{**os.environ, "HOME": board["home"], "PYTHONPATH": board["patches"], "PATH": board["path"]}}
child = subprocess.Popen(["/bin/sh", "-c", sys.argv[-1]], stdin=subprocess.PIPE, env=environment)
threading.Thread(target=lambda: os._exit(child.wait()), daemon=True).start()  # ssh ends with the program on the board
left = board["cut_after_bytes"]
while left is None or left > 0:
    data = os.read(0, 65536 if left is None else min(left, 65536))
    if not data:
        child.stdin.close()
        threading.Event().wait()
    if left is not None:
        left -= len(data)
    child.stdin.write(data)
    child.stdin.flush()
print("client_loop: send disconnect: Broken pipe", file=sys.stderr)
sys.stderr.flush()
os._exit(255)  # the program on the board sees the end of its input
"""


class FakeBoard:
    """The board ``pi@board``.

    Args:
        folder: An empty folder.
        monkeypatch: Puts the fake ssh on the path.
    """

    host = "pi@board"

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.home = folder / "home"
        self.bin = folder / "bin"  # programs of the board
        self.patches = folder / "patches"
        for path in (self.home, self.bin, self.patches, folder / "pc"):
            path.mkdir(parents=True)
        self.settings = {"host": self.host, "home": str(self.home), "patches": str(self.patches)}
        self.settings |= {"path": f"{self.bin}:{os.environ['PATH']}", "ssh_error": None, "cut_after_bytes": None}
        self.write_program(folder / "pc/ssh", SSH)
        self.write_program(self.bin / "python3", f'#!/bin/sh\nexec {PYTHON} "$@"\n')
        monkeypatch.setenv("FAKE_BOARD", str(folder / "board.json"))
        monkeypatch.setenv("PATH", f"{folder / 'pc'}:{os.environ['PATH']}")
        self.change()

    def change(self, **settings):
        """Change settings, such as ``ssh_error`` or ``cut_after_bytes``."""
        self.settings |= settings
        (self.folder / "board.json").write_text(json.dumps(self.settings))

    def patch(self, code):
        """Run code when a Python of the board starts."""
        (self.patches / "sitecustomize.py").write_text(code)

    @staticmethod
    def write_program(path, text):
        path.write_text(text)
        path.chmod(0o755)

    @property
    def releases(self):
        return sorted(path.name for path in (self.home / "fer-edge-deploy/releases").glob("*"))

    @property
    def current(self):
        link = self.home / "fer-edge-deploy/current"
        return link.resolve() if link.is_symlink() else None

    def wait_for_end(self):
        """Wait until the program of a broken connection has released its lock."""
        with (self.home / "fer-edge-deploy/lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)

    def installed(self):
        """Every file of the deployment that a failed one must not change, with its content."""
        files = sorted(path for path in (self.home / "fer-edge-deploy").rglob("*") if path.is_file() and not path.is_symlink())
        return {path: path.read_bytes() for path in files if path.parent.name != "wheels" and path.name != "lock"}


def write_wheel(folder, name, version="1.0", files=(), requires=(), entry_points=""):
    """Write a small wheel and return its path."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(f"Requires-Dist: {r}\n" for r in requires)
    entries = {
        **dict(files),
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": entry_points,
    }
    record = "".join(f"{entry},,\n" for entry in [*entries, f"{info}/RECORD"])
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for entry, text in {**entries, f"{info}/RECORD": record}.items():
            wheel.writestr(zipfile.ZipInfo(entry), text)  # without the time: the same bytes each time
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
