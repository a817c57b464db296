"""The steps that deployments and rollbacks share, and their times."""

import getpass
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fer_edge.artifacts.reporter import Reporter
from fer_edge.deploy.connection import BoardConnection, BoardStepError
from fer_edge.deploy.known_image import check_faces
from fer_edge.edge_runtime.live.service_manager import FIRST_FRAME

FIRST_FRAME_S = 20.0
TEST_TIMEOUT_S = 700.0
SERVICE_TIMEOUT_S = 300.0


@dataclass
class StepLog:
    """Reports the steps and keeps their times.

    Attributes:
        reporter: Receives a line for each step.
        start_s: The start, seconds of time.monotonic().
        steps: The steps so far, each with its name and the seconds since the start.
    """

    reporter: Reporter
    start_s: float = field(default_factory=time.monotonic)
    steps: list[dict[str, Any]] = field(default_factory=list)

    def step(self, name: str, text: str) -> None:
        """Report that a step has ended.

        Args:
            name: Its name.
            text: The line for people.
        """
        seconds = round(time.monotonic() - self.start_s, 1)
        self.steps.append({"step": name, "seconds": seconds})
        self.reporter.result(f"{seconds:6.1f} s  {text}")


def lock(connection: BoardConnection) -> None:
    """Keep other deployments away from the board until the connection ends. Raises RuntimeError if one is running."""
    connection.call("lock", owner=f"{getpass.getuser()}@{platform.node()}, since {time.strftime('%H:%M:%S')}")


def find_manifest(state: dict[str, Any], release: str | None) -> dict[str, Any] | None:
    """Return the manifest of a release, None if it is not on the board.

    Args:
        state: The result of ``facts`` or ``state``.
        release: Name of the release.
    """
    return next((manifest for manifest in state["releases"] if manifest["release"] == release), None)


def start_service(connection: BoardConnection, unit: str, log: StepLog) -> dict[str, Any]:
    """Start the service on the board and wait for its first labeled frame. If there is none, the board restores its state.

    Args:
        connection: The board.
        unit: Text of the unit.
        log: Receives the step.

    Returns:
        ``seconds`` until the first labeled frame, and the last ``lines`` of the journal.
    """
    started: dict[str, Any] = connection.call(
        "start_service", text=unit, first_frame=FIRST_FRAME, within_s=FIRST_FRAME_S, timeout_s=SERVICE_TIMEOUT_S
    )
    log.step("service", f"the service labels frames, the first one {started['seconds']} s after its start")
    for line in started["lines"]:
        if "preview: " in line:
            log.reporter.result(f"          {line}")
    return started


def run_self_test(connection: BoardConnection, release: str, test: dict[str, Any], model_sha256: str) -> None:
    """Run a release on the known image.

    Args:
        connection: The board.
        release: Name of the release.
        test: Arguments of ``fer-edge run``, modules that must be importable, and the expected faces.
        model_sha256: Digest that the model on the board must have.

    Raises:
        BoardStepError: If the release does not run, or its model has another digest.
        RuntimeError: If it finds other faces.
    """
    result = connection.call(
        "self_test", release=release, arguments=test["arguments"], modules=test["modules"], timeout_s=TEST_TIMEOUT_S
    )
    if result["model_sha256"] != model_sha256:
        raise BoardStepError(
            f"the model on the board has sha256 {result['model_sha256']}, not {model_sha256}: it was replaced or damaged"
        )
    check_faces(test["faces"], result["faces"])


def described(faces: Sequence[dict[str, Any]]) -> str:
    """Return faces as text: label, probability and box."""
    texts = [f"{face['label']} {face['probability']:.0%} at {','.join(map(str, face['box_px']))}" for face in faces]
    return "; ".join(texts) or "no face"
