"""Run models in a Python runtime, in a child process: a runtime may conflict with others, or end its process."""

import json
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fer_edge.benchmarks.parity.parity_model import ParityModel, RuntimeOutput
from fer_edge.benchmarks.parity.runtimes import Runtime

WORKER = Path(__file__).with_name("worker.py")
MAX_SECONDS = 1800


def run_in_python(runtime: Runtime, models: Sequence[ParityModel]) -> list[RuntimeOutput]:
    """Run models in a Python runtime.

    Args:
        runtime: The runtime, which must be installed.
        models: The models with their faces.

    Returns:
        One output per model. A model that ends the process is a problem of that model alone.

    Raises:
        RuntimeError: If the runtime has no Python.
    """
    python = runtime.python()
    if python is None:
        raise RuntimeError(f"{runtime.package} is {runtime.missing()}")
    results: list[RuntimeOutput] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        jobs = [_job(number, model, folder) for number, model in enumerate(models)]
        while len(results) < len(models):
            problem = _run(python, runtime, jobs[len(results) :], folder)
            results += _read(folder, jobs[len(results) :])
            if len(results) < len(models):  # the process ended at this model
                results.append(RuntimeOutput("unknown", problem=problem or "it ended without a result"))
    return results


def _job(number: int, model: ParityModel, folder: Path) -> dict[str, Any]:
    inputs = folder / f"inputs_{number}.npy"
    np.save(inputs, model.faces)
    return {
        "path": str(model.path),
        "inputs": str(inputs),
        "outputs": str(folder / f"outputs_{number}.npy"),
        "classes": len(model.labels),
        "scale": model.scale,
        "zero_point": model.zero_point,
    }


def _run(python: str, runtime: Runtime, jobs: Sequence[dict[str, Any]], folder: Path) -> str | None:
    """Run the worker, and return why it failed; None if it did not."""
    job, results = folder / "job.json", folder / "results.jsonl"
    results.unlink(missing_ok=True)
    shared = {"adapter": runtime.adapter, "module": runtime.module, "package": runtime.package, "results": str(results)}
    job.write_text(json.dumps({**shared, "models": list(jobs)}))
    try:
        done = subprocess.run([python, str(WORKER), str(job)], capture_output=True, timeout=MAX_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {MAX_SECONDS} s"
    if done.returncode < 0:
        return f"it ends the process that runs it ({signal.Signals(-done.returncode).name})"
    return (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1] if done.returncode else None


def _read(folder: Path, jobs: Sequence[dict[str, Any]]) -> list[RuntimeOutput]:
    """Return the outputs that the worker wrote: those of the first models."""
    results = folder / "results.jsonl"
    lines = results.read_text().splitlines() if results.is_file() else []
    outputs = []
    for line, job in zip(lines, jobs, strict=False):
        values = json.loads(line)
        if values.get("problem"):
            outputs.append(RuntimeOutput(values["version"], problem=values["problem"]))
        else:
            labels = values["labels"] and tuple(values["labels"])
            outputs.append(RuntimeOutput(values["version"], np.load(job["outputs"]), labels))
    return outputs
