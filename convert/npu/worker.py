"""Run a vendor's tools in a child process: a crash of theirs ends that process only."""

import json
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_SECONDS = 1800


def run_worker(
    command: list[str], job: Mapping[str, Any], folder: Path, what: str, environment: Mapping[str, str]
) -> dict[str, Any]:
    """Run a worker on a job and return its result.

    Args:
        command: The Python and the script of the worker.
        job: What to do; the worker also gets ``result``, the file for its result or its ``problem``.
        folder: Folder for the job and the result.
        what: What fails if it fails, such as ``vela cannot compile for u55``.
        environment: Environment variables of the process.

    Raises:
        RuntimeError: If the worker fails. The message has its reason.
    """
    job_file, result_file = folder / "job.json", folder / "result.json"
    result_file.unlink(missing_ok=True)
    job_file.write_text(json.dumps({**job, "result": str(result_file)}))
    try:
        done = subprocess.run(
            [*command, str(job_file)],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=MAX_SECONDS,
            env=dict(environment),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{what}: no answer within {MAX_SECONDS} s") from error
    if result_file.is_file():
        result: dict[str, Any] = json.loads(result_file.read_text())
        if "problem" not in result:
            return result
        reason = result["problem"]
    elif done.returncode < 0:
        reason = f"the process ended with {signal.Signals(-done.returncode).name}"
    else:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    raise RuntimeError(f"{what}: {reason}")
