"""The measuring rules as data, so that every row of a table was made the same way."""

from collections.abc import Callable
from dataclasses import dataclass

STAGES = ("preprocess", "detect", "invoke", "end_to_end")


@dataclass(frozen=True)
class Protocol:
    """How a latency is measured.

    Attributes:
        warmup_runs: Runs that are made first and not counted.
        min_runs: At least so many counted runs.
        min_seconds: For at least so long.
        stage: What one run is, one of STAGES; stages are never mixed.
    """

    warmup_runs: int = 10
    min_runs: int = 50
    min_seconds: float = 2.0
    stage: str = "invoke"

    def __post_init__(self) -> None:
        if self.min_runs < 1 or self.warmup_runs < 0 or self.min_seconds < 0:
            raise ValueError(f"a protocol needs at least 1 counted run and no negative numbers. Received: {self}")
        if self.stage not in STAGES:
            raise ValueError(f"unknown stage '{self.stage}'; choose one of: {', '.join(STAGES)}")


def time_runs(
    run: Callable[[], object], warmup_runs: int, min_runs: int, min_seconds: float, clock_ns: Callable[[], int]
) -> tuple[float, ...]:
    """Time a call again and again.

    Args:
        run: The call.
        warmup_runs: Calls that are not counted.
        min_runs: Counted calls at least.
        min_seconds: Counted time at least.
        clock_ns: A monotonic clock, nanoseconds.

    Returns:
        Milliseconds of each counted call, in order.
    """
    for _ in range(warmup_runs):
        run()
    samples: list[float] = []
    spent_ns = 0
    while len(samples) < min_runs or spent_ns < min_seconds * 1e9:
        started = clock_ns()
        run()
        took = clock_ns() - started
        spent_ns += took
        samples.append(took / 1e6)
    return tuple(samples)
