"""Load a model in a child process first, if its contract has no digest: a damaged file can end the process that loads it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.contract import ModelError
from fer_edge.artifacts.model_file import ModelFile
from fer_edge.artifacts.user_folders import user_cache_folder
from fer_edge.edge_runtime.check_probabilities import check_probabilities
from fer_edge.edge_runtime.emulation import find_emulator
from fer_edge.edge_runtime.interpreter import find_interpreter, make_interpreter

MAX_CPU_SECONDS = 10
MAX_SECONDS = 60  # a busy machine may take this long for the same work
EMULATED = 20  # times as long on an emulated processor
MAX_MEMORY_BYTES = 2 << 30  # of addresses; the interpreter and numpy reserve half of it without using it
PATTERN_CELLS = (1, 2, 3, 4, 6, 8, 12, 24)
_loaded_before: set[str] = set()  # in this process
# Not -m: with it, a module in the current folder could take the place of one that is imported.
CHILD = (
    "import sys; sys.path[:] = [path for path in sys.path if path]; "
    "from fer_edge.edge_runtime.trial_load import run_child; run_child()"
)


def try_loading(file: ModelFile) -> None:
    """Load and run a model in a child process with limits, once per file and version of the interpreter.

    The result is kept in the user's cache folder. A file whose contract has a digest is not tried.

    Args:
        file: The file, already checked by read_model_file.

    Raises:
        ImportError: If no interpreter is installed.
        ModelError: If the child process crashes, exceeds 10 seconds of CPU time (200 on an emulated processor) or 2 GB, or
            reports an error.
    """
    if file.contract.flatbuffer_sha256 is not None:
        return
    package, _ = find_interpreter()
    name = f"{file.sha256}-{package}-{_version(package)}"
    mark = _cache_folder() / name
    if name in _loaded_before or mark.is_file():
        return
    problem = _run(file.flatbuffer)
    if problem:
        raise ModelError(f"{file.path} cannot be used: {problem}. Convert the run again: fer-edge convert RUN")
    _loaded_before.add(name)
    try:
        mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark.touch()
    except OSError:  # without a cache, the next process tries again
        pass


def run_child() -> None:
    """Load the flatbuffer on standard input and run it on patterns. The entry point of the child process."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    # At the first limit, the kernel sends SIGXCPU, by which the parent process knows the reason; at the second, SIGKILL.
    seconds = MAX_CPU_SECONDS * _slowness()
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    try:
        interpreter = make_interpreter(model_content=sys.stdin.buffer.read(), num_threads=1)
        (inputs,), (outputs,) = interpreter.get_input_details(), interpreter.get_output_details()
        for pattern in _patterns(inputs["shape"][1]):
            interpreter.set_tensor(inputs["index"], pattern.astype(inputs["dtype"]))
            interpreter.invoke()
            scale, zero_point = outputs["quantization"]
            check_probabilities((interpreter.get_tensor(outputs["index"])[0] - np.float64(zero_point)) * (scale or 1.0))
    except (ValueError, RuntimeError, MemoryError) as error:
        sys.exit(f"loading it fails: {(str(error) or type(error).__name__).strip().splitlines()[0]}")


def _patterns(size: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield random patterns, coarse to fine: some of them give confident predictions."""
    rng = np.random.default_rng(0)
    for cells in PATTERN_CELLS:
        cell = np.arange(size) * cells // size
        yield rng.integers(0, 256, (1, cells, cells, 3), np.uint8)[:, cell][:, :, cell]


def _run(flatbuffer: bytes) -> str | None:
    """Return what went wrong in the child process, None if nothing did."""
    command, environment = [sys.executable, "-c", CHILD], {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    limit_s = MAX_SECONDS * _slowness()
    try:
        done = subprocess.run(command, input=flatbuffer, capture_output=True, timeout=limit_s, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return f"loading it takes more than {limit_s} s"
    except OSError as error:
        return f"it has no digest, and a process to try it in cannot be started ({error})"
    if done.returncode == -signal.SIGXCPU:
        return f"loading it takes more than {MAX_CPU_SECONDS * _slowness()} s"
    if done.returncode < 0:
        return f"it ends the process that loads it ({signal.Signals(-done.returncode).name})"
    return (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1] if done.returncode else None


def _slowness() -> int:
    return EMULATED if find_emulator() else 1


def _version(package: str) -> str:
    from importlib import metadata  # here, because it imports the package email

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _cache_folder() -> Path:
    try:
        return user_cache_folder() / "models"
    except RuntimeError:  # a user without a home folder
        return Path(os.devnull) / "models"
