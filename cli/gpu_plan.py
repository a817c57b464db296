"""Trainings on a rented GPU machine without a network: a bundle that travels there, and results that come back.

The machine has Python, JAX or PyTorch and the usual packages, but neither Keras nor fer-edge. A bundle has them, the faces and
a list of trainings. Each call of run continues the list, and packs what has finished since the last call.
"""

import importlib
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from fer_edge.artifacts.atomic_write import atomic_path, atomic_write
from fer_edge.artifacts.reporter import Reporter
from fer_edge.artifacts.run_folder import finished_runs, read_finished_run
from fer_edge.gpu_trainings import LISTS, WORK
from fer_edge.training_list import read_trainings, run_trainings

WHEELS = ("keras", "optree", "namex")  # what Keras needs and is not with JAX and PyTorch already
PLATFORM = ("--python-version", "3.12", "--implementation", "cp", "--platform", "manylinux_2_28_x86_64",
            "--platform", "manylinux_2_17_x86_64", "--platform", "manylinux2014_x86_64")  # fmt: skip
LIST_FILE, FACES_FILE, SCRIPT_FILE, PACKAGE = "trainings.txt", "faces.tar.xz", "run.sh", "fer_edge"
DELIVERED_FILE = "delivered.json"
VIEWS_PATTERN = "**/views-*.npz"
MAX_OUT_BYTES = 60_000_000
BYTES_PER_WEIGHT = 2  # packed runs have float16 weights
PACKED_OVERHEAD = 1.05  # of run.json and the tar file

SCRIPT = f"""#!/usr/bin/env bash
# run.sh OUT SECONDS: continue the trainings for SECONDS, then pack what has finished into OUT.
set -e
out=$1; seconds=$2; here=$(cd "$(dirname "$0")" && pwd); work={WORK}
mkdir -p $work/extra
cp "$here/{LIST_FILE}" $work/
[ ! -d "$here/extra" ] || cp -rn "$here/extra" $work/
if [ -d "$here/wheels" ] && [ ! -d $work/site ]; then
    python3 -m pip install -q --no-index --no-deps --no-compile --target $work/site "$here"/wheels/*.whl
fi
if [ ! -d $work/data ]; then
    mkdir -p $work/data.part && tar xJf "$here/{FACES_FILE}" -C $work/data.part && mv $work/data.part $work/data
fi
export PYTHONPATH=$work/site:$here KERAS_BACKEND=${{KERAS_BACKEND:-jax}} XLA_PYTHON_CLIENT_PREALLOCATE=false
export JAX_COMPILATION_CACHE_DIR=$work/jax-cache JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=1
fer_edge() {{ python3 -c 'from fer_edge.main import main; main()' dev "$@"; }}
if [ -d "$here/state" ] && [ ! -d $work/teachers ]; then
    fer_edge unpack "$here/state" $work/data/* --out $work/teachers
fi
fer_edge gpu-plan run $work --out "$out" --stop-after "$seconds"
"""


def prepare_bundle(data: Path, trainings: str, extra: Sequence[Path], out: Path, wheels: bool, reporter: Reporter) -> None:
    """Write a folder to carry to a GPU machine.

    Args:
        data: Zip of faces. Its files are packed together, which takes 70 % of the space.
        trainings: A key of LISTS, or a list of trainings, see training_list.read_trainings. Paths in it are those of the GPU
            machine.
        extra: Further files, such as initial weights; they come into the folder ``extra``.
        out: The folder, which must not exist.
        wheels: Whether to download the wheels of WHEELS.
        reporter: Receives the size of each part.

    Raises:
        FileExistsError: If the folder exists.
        FileNotFoundError: If a file does not exist.
        ValueError: If the list has a wrong line, or the data is not a zip.
        RuntimeError: If a wheel cannot be downloaded.
    """
    if out.exists():
        raise FileExistsError(f"{out} exists already. Choose another folder")
    if trainings not in LISTS:
        read_trainings(Path(trainings))
    for path in (data, *extra):
        if not path.is_file():
            raise FileNotFoundError(f"no file '{path}'")
    if not zipfile.is_zipfile(data):
        raise ValueError(f"{data} is not a zip of faces")
    out.mkdir(parents=True)
    atomic_write(out / LIST_FILE, LISTS.get(trainings) or Path(trainings).read_text(encoding="utf-8"))
    atomic_write(out / SCRIPT_FILE, SCRIPT)
    _copy_package(out / PACKAGE)
    _pack_faces(data, out / FACES_FILE)
    for path in extra:
        (out / "extra").mkdir(exist_ok=True)
        shutil.copy(path, out / "extra" / path.name)
    if wheels:
        _download_wheels(out / "wheels")
    for part in sorted(out.iterdir()):
        files = [part] if part.is_file() else [path for path in part.rglob("*") if path.is_file()]
        reporter.result(f"{part.name}: {sum(path.stat().st_size for path in files) / 1e6:.1f} MB")


def _copy_package(target: Path) -> None:
    """Copy the package without model files. It may be installed from a checkout, whose folders have other names."""
    import fer_edge

    ignored = shutil.ignore_patterns("__pycache__", "*.tflite", "results", "*.md", "*.pyc")
    shutil.copytree(Path(str(fer_edge.__file__)).parent, target, ignore=ignored)
    for name in ("artifacts", "train", "convert", "edge_runtime", "benchmarks", "deploy", "models"):
        source = importlib.import_module(f"fer_edge.{name}").__path__[0]
        shutil.copytree(source, target / name, ignore=ignored, dirs_exist_ok=True)


def _pack_faces(data: Path, target: Path) -> None:
    """Write the files of a zip as one tar.xz, so that their common parts are stored once."""
    with zipfile.ZipFile(data) as archive, atomic_path(target) as temporary, tarfile.open(temporary, "w:xz") as packed:
        for entry in archive.infolist():
            if not entry.is_dir():
                member = tarfile.TarInfo(f"{data.stem}/{entry.filename}")
                member.size = entry.file_size
                with archive.open(entry) as file:
                    packed.addfile(member, file)


def _download_wheels(target: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *PLATFORM, "-d", str(target)]
    done = subprocess.run([*pip, *WHEELS], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"the wheels of {', '.join(WHEELS)} could not be downloaded ({reason}). Pass --no-wheels to go on")


def run_plan(work: Path, out: Path, stop_after: float, reporter: Reporter, max_bytes: int = MAX_OUT_BYTES) -> None:
    """Continue the list of trainings in a folder, and pack finished runs and stored views that were not delivered before.

    Args:
        work: Folder with trainings.txt. Its runs are in ``runs`` or deeper.
        out: Folder for the delivered files.
        stop_after: Seconds after which training stops with a checkpoint; 0 only packs.
        reporter: Receives a line per training and per delivered file.
        max_bytes: Maximum size of what one call delivers. The rest follows with the next call.

    Raises:
        FileNotFoundError: If there is no list.
        RuntimeError: If trainings failed or the time was up. What has finished is packed first.
        ValueError: If the list has a wrong line.
    """
    trainings = read_trainings(work / LIST_FILE)
    try:
        run_trainings(trainings, stop_after, reporter)
    finally:
        _deliver(work, out, max_bytes, reporter)


def _deliver(work: Path, out: Path, max_bytes: int, reporter: Reporter) -> None:
    """Write what has finished into a folder, as far as it fits; remember the delivered ones."""
    from fer_edge.train.pack import pack_runs
    from fer_edge.train.start_keras import start_keras

    record = work / DELIVERED_FILE
    delivered = set(json.loads(record.read_text())) if record.is_file() else set()
    left, waiting = max_bytes, 0
    chosen: list[Path] = []
    for path in sorted(work.glob(VIEWS_PATTERN)):
        name, size = f"{path.name} {path.stat().st_mtime_ns}", path.stat().st_size
        if name in delivered:
            continue
        if size > left:
            waiting += 1
            continue
        out.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, out / path.name)
        delivered.add(name)
        left -= size
        reporter.result(f"delivered {path.name}: {size / 1e6:.1f} MB")
    for folder in sorted({run for parent in [work, *work.glob("*/"), *work.glob("*/*/")] for run in finished_runs(parent)}):
        _, results = read_finished_run(folder)
        if results.model_digest in delivered or results.weights_rounded_to:
            continue
        size = round(PACKED_OVERHEAD * BYTES_PER_WEIGHT * results.parameters)
        if size > left or folder.name in {other.name for other in chosen}:  # packed runs need different names
            waiting += 1
            continue
        chosen.append(folder)
        delivered.add(results.model_digest)
        left -= size
    if chosen:
        start_keras()
        for part in pack_runs(chosen, out):
            reporter.result(f"delivered {part.name}: {part.stat().st_size / 1e6:.1f} MB")
        reporter.result("runs: " + ", ".join(folder.name for folder in chosen))
    atomic_write(record, json.dumps(sorted(delivered)))
    if waiting:
        reporter.warn(f"{waiting} finished results did not fit into {max_bytes / 1e6:.0f} MB. Call again to get them")
