"""Go back to the previous release of a board, or remove fer-edge from it."""

from typing import Any

from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.deploy.check_board import check_service
from fer_edge.deploy.connection import BoardConnection
from fer_edge.deploy.steps import SERVICE_TIMEOUT_S, StepLog, described, lock, run_self_test, start_service


def rollback(host: str, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Test the previous release on the board and switch to it.

    Args:
        host: As in deploy().
        reporter: Receives the steps.

    Returns:
        JSON-compatible data: host, release, previous, service, steps.

    Raises:
        OSError: If the connection fails.
        RuntimeError: If there is no previous release, or it does not work any more.
    """
    log = StepLog(reporter)
    with BoardConnection(host) as connection:
        lock(connection)
        facts = connection.call("facts")
        others = [manifest for manifest in facts["releases"] if manifest["release"] != facts["current"]]
        if not others:
            number = "one release" if facts["releases"] else "no release"
            raise RuntimeError(
                f"{host} has {number}, and a rollback needs two. Deploy another one first: fer-edge deploy {host}"
            )
        manifest = others[-1]
        run_self_test(connection, manifest["release"], manifest["self_test"], manifest["model_sha256"])
        log.step("self-test", f"self-test of {manifest['release']}: {described(manifest['self_test']['faces'])}")
        service = None
        if facts["service"]:
            check_service(host, facts)
            service = start_service(connection, manifest["unit"], log)
        connection.call("switch", release=manifest["release"])
        log.step("switch", f"current is {manifest['release']}, fer-edge {manifest['version']}, {manifest['model']}")
    return {"host": host, "release": manifest["release"], "previous": facts["current"], "service": service, "steps": log.steps}


def uninstall(host: str, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Remove the service and all releases from the board. The logs of the service in /var/lib/fer-edge stay.

    Args:
        host: As in deploy().
        reporter: Receives the steps.

    Returns:
        JSON-compatible data: host, removed (names of the releases), service (whether it was removed), steps.

    Raises:
        OSError: If the connection fails.
        RuntimeError: If the service cannot be removed.
    """
    log = StepLog(reporter)
    with BoardConnection(host) as connection:
        facts = connection.call("facts")
        if facts["service"] or facts["releases"]:
            lock(connection)
        if facts["service"]:
            check_service(host, facts)
            connection.call("remove_service", timeout_s=SERVICE_TIMEOUT_S)
            log.step("service", "the service is removed; its logs stay in /var/lib/fer-edge")
        connection.call("remove_all")
        names = [manifest["release"] for manifest in facts["releases"]]
        log.step("remove", f"{len(names)} releases removed")
    return {"host": host, "removed": names, "service": facts["service"], "steps": log.steps}
