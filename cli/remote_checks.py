"""The checks of fer-edge doctor --host: a board over ssh, and the release that is deployed there."""

import dataclasses
import time
from typing import Any

from fer_edge.board_checks import Check, board_checks
from fer_edge.deploy.connection import BoardConnection
from fer_edge.deploy.steps import described, find_manifest, run_self_test
from fer_edge.edge_runtime.board_facts import BoardFacts


def remote_checks(host: str) -> list[Check]:
    """Check a board, and the current release on it with the known image.

    Args:
        host: ``[USER@]HOST`` or a name of the user's ssh configuration.

    Raises:
        OSError: If the connection fails.
    """
    with BoardConnection(host) as connection:
        facts = connection.call("facts")
        checks = board_checks(
            BoardFacts(**{field.name: facts[field.name] for field in dataclasses.fields(BoardFacts)}), time.time()
        )
        # A deployment needs the module venv, but no pip on the board.
        hidden = {"environment", "venv"} if facts["venv"] else {"environment"}
        checks = [check for check in checks if check.part not in hidden]
        return [*checks, *_release_checks(host, connection, facts)]


def _release_checks(host: str, connection: BoardConnection, facts: dict[str, Any]) -> list[Check]:
    manifest = find_manifest(facts, facts["current"])
    if manifest is None:
        return [Check("release", "optional", "none is deployed", f"fer-edge deploy {host}", "missing")]
    service = "with the service" if facts["service"] else "without a service"
    release = Check("release", "run", f"{manifest['release']}: fer-edge {manifest['version']}, {manifest['model']}, {service}")
    test = manifest["self_test"]
    try:
        run_self_test(connection, manifest["release"], test, manifest["model_sha256"])
    except RuntimeError as error:
        reason = str(error).removeprefix(f"{host}: ").splitlines()[-1]
        return [release, Check("self-test", "run", reason, f"install the release again: fer-edge deploy {host}", "failed")]
    return [release, Check("self-test", "run", described(test["faces"]))]
