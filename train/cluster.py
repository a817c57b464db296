"""A Ray cluster that trains runs in parallel: its address, its nodes, and what each run takes of it."""

import math
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fer_edge import __version__
from fer_edge.train.start_keras import BACKENDS

LOCAL = "ray"
CLIENT_PORT = 10001  # of Ray's client server
CONNECT_SECONDS = 5.0
PROBE_SECONDS = 120.0  # a node starts a process for the first task
MAX_SHARED_CPUS = 8  # small networks do not train faster on more
HEAD_RESOURCE = "node:__internal_head__"  # Ray gives it to the head node, which outlives every other node


@dataclass(frozen=True)
class RunResources:
    """What each run takes of the cluster.

    Attributes:
        cpus: CPUs; None for an equal share of all, at most MAX_SHARED_CPUS.
        gpus: GPUs, also a fraction; None for ``devices`` if the cluster has GPUs, otherwise 0.
        devices: Number of devices that share each batch of a run.
        checkpoint_seconds: Minimum time between two checkpoints that a run sends, seconds.

    Raises:
        ValueError: If a number is out of range.
    """

    cpus: int | None = None
    gpus: float | None = None
    devices: int = 1
    checkpoint_seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.cpus is not None and self.cpus < 1:
            raise ValueError(f"--cpus-per-run must be at least 1. Received: {self.cpus}")
        if self.gpus is not None and (self.gpus < 0 or (self.gpus > 1 and self.gpus % 1)):
            raise ValueError(f"--gpus-per-run must be a fraction from 0 to 1 or a whole number. Received: {self.gpus:g}")
        if not 0 <= self.checkpoint_seconds < math.inf:
            raise ValueError(f"--checkpoint-seconds must be 0 or more. Received: {self.checkpoint_seconds:g}")


@dataclass(frozen=True)
class Cluster:
    """A connected cluster.

    Attributes:
        ray: The module ``ray``.
        resources: What each run takes.
    """

    ray: Any
    resources: RunResources

    def nodes(self) -> list[dict[str, float]]:
        """Return the resources of each node that is alive, such as ``CPU`` and ``GPU``."""
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def check_nodes(self, version: str, packages: Sequence[str]) -> None:
        """Check that every node can import fer-edge and the packages that training needs.

        Args:
            version: Version of fer-edge here.
            packages: Names of modules.

        Raises:
            RuntimeError: If a node cannot. The message names the nodes.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from fer_edge.train import cluster_probe

        self.ray.cloudpickle.register_pickle_by_value(cluster_probe)  # a node without fer-edge can run it too
        probe = self.ray.remote(num_cpus=0, max_retries=0)(cluster_probe.find_problem)
        nodes = [node for node in self.ray.nodes() if node["Alive"]]
        asked = [
            probe.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                version, packages
            )
            for node in nodes
        ]
        problems = [
            f"{node['NodeManagerHostname']}: {problem}"
            for node, problem in zip(nodes, self.ray.get(asked, timeout=PROBE_SECONDS), strict=True)
            if problem
        ]
        if problems:
            raise RuntimeError(
                f"{len(problems)} of {len(nodes)} nodes cannot train:\n  "
                + "\n  ".join(problems)
                + f"\nInstall fer-edge {version} "
                "with the extras train and cluster there, or take them out of the cluster"
            )

    def runs_at_once(self, runs: int) -> int:
        """Return how many runs can train at the same time.

        Args:
            runs: Number of runs to train.

        Raises:
            ValueError: If no node has the CPUs and GPUs of a run.
        """
        cpus, gpus = self.share(runs)
        slots = sum(
            min(int(node.get("CPU", 0) // cpus), int(node.get("GPU", 0.0) // gpus) if gpus else runs) for node in self.nodes()
        )
        return max(1, min(runs, slots))

    def share(self, runs: int) -> tuple[int, float]:
        """Return the CPUs and GPUs of each run.

        Args:
            runs: Number of runs to train.

        Raises:
            ValueError: If no node has as many.
        """
        return share(self.nodes(), runs, self.resources)


def share(nodes: Sequence[dict[str, float]], runs: int, resources: RunResources) -> tuple[int, float]:
    """Return the CPUs and GPUs of each run.

    Args:
        nodes: Resources per node.
        runs: Number of runs to train.
        resources: What the user asked for.

    Raises:
        ValueError: If no node has as many.
    """
    cpus_of = [int(node.get("CPU", 0)) for node in nodes]
    gpus_of = [node.get("GPU", 0.0) for node in nodes]
    gpus = resources.gpus
    if gpus is None:
        gpus = float(resources.devices) if max(gpus_of, default=0) else 0.0
    cpus = resources.cpus or max(1, min(MAX_SHARED_CPUS, max(cpus_of, default=1), sum(cpus_of) // max(1, runs)))
    if not any(has_cpus >= cpus and has_gpus >= gpus for has_cpus, has_gpus in zip(cpus_of, gpus_of, strict=True)):
        largest = f"{max(cpus_of, default=0)} CPUs and {max(gpus_of, default=0):g} GPUs"
        raise ValueError(
            f"no node of the cluster has {cpus} CPUs and {gpus:g} GPUs, as each run needs; the largest numbers are {largest}. "
            "Change --cpus-per-run and --gpus-per-run"
        )
    return cpus, gpus


def parse_address(on: str) -> str | None:
    """Return the ``HOST:PORT`` of a cluster.

    Args:
        on: ``ray`` or ``ray://HOST[:PORT]``.

    Returns:
        None for ``ray``.

    Raises:
        ValueError: If it is neither.
    """
    if on == LOCAL:
        return None
    try:
        parts = urlsplit(on)
        if parts.scheme == LOCAL and parts.hostname and not (parts.path or parts.query or parts.username):
            host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
            return f"{host}:{parts.port or CLIENT_PORT}"
    except ValueError:  # a port that is not a number
        pass
    raise ValueError(f"--on takes ray (this machine) or ray://HOST:PORT (a cluster). Received: '{on}'")


def check_port_answers(address: str) -> None:
    """Check that a port accepts connections.

    Args:
        address: HOST:PORT.

    Raises:
        ConnectionError: If it does not, within CONNECT_SECONDS.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"no Ray cluster answers at {address} ({error}). Start one there: ray start --head --ray-client-server-port "
            f"{CLIENT_PORT} --include-dashboard=false --disable-usage-stats; or use --on ray for this machine"
        ) from error


@contextmanager
def open_cluster(on: str | None, resources: RunResources) -> Iterator[Cluster | None]:
    """Connect to a cluster while the block runs.

    ``ray`` starts Ray on this machine, on the loopback interface, or connects to the cluster of RAY_ADDRESS. Ray's usage
    statistics and its dashboard are off.

    Args:
        on: ``ray`` or ``ray://HOST[:PORT]``; None for no cluster.
        resources: What each run takes.

    Yields:
        The cluster; None for no cluster.

    Raises:
        ConnectionError: If no cluster answers.
        ImportError: If Ray is not installed.
        ValueError: If the address cannot be used.
    """
    if on is None:
        yield None
        return
    client = parse_address(on)
    driver = os.environ.get("RAY_ADDRESS") if client is None else None
    if address := client or driver:
        check_port_answers(address)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's new default; without it, Ray prints a warning
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            f"Ray cannot be imported ({error}). Install it here and on every node: pip install 'fer-edge[cluster]'"
        ) from error
    _connect(ray, client, driver)
    try:
        cluster = Cluster(ray, resources)
        if client or driver:
            cluster.check_nodes(__version__, ["keras", os.environ.get("KERAS_BACKEND") or BACKENDS[0]])
        yield cluster
    finally:
        ray.shutdown()


def _connect(ray: Any, client: str | None, driver: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if client is None and driver is None:
        ray.init("local", include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
        return
    try:
        if client:
            _check_client_server(client)
            ray.init(f"ray://{client}", **quiet)
        else:
            ray.init(driver, **quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = str(error).partition("\n")[0]
        raise ConnectionError(
            f"{client or driver} is not a Ray cluster that this Ray ({ray.__version__}) can use ({reason}). Use the same "
            "version of Ray and Python there, and the port of its client server"
        ) from error


def _check_client_server(address: str) -> None:
    """Check that a port is Ray's client server: Ray itself would try for half a minute."""
    import grpc

    channel = grpc.insecure_channel(address)
    try:
        grpc.channel_ready_future(channel).result(CONNECT_SECONDS)
    except grpc.FutureTimeoutError as error:
        raise ConnectionError(f"the port does not answer as Ray does within {CONNECT_SECONDS:g} s") from error
    finally:
        channel.close()
