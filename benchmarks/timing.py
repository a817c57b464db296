"""Time a call repeatedly."""

from collections.abc import Callable


def time_runs(
    run: Callable[[], object], warmup_runs: int, min_runs: int, min_seconds: float, clock_ns: Callable[[], int]
) -> tuple[float, ...]:
    """Time a call until both minima are reached.

    Args:
        run: The call.
        warmup_runs: Number of calls before the first counted one.
        min_runs: Minimum number of counted calls.
        min_seconds: Minimum counted time, seconds.
        clock_ns: A monotonic clock, nanoseconds.

    Returns:
        Milliseconds of each counted call, in order.
    """
    for _ in range(warmup_runs):
        run()
    samples: list[float] = []
    total_ns = 0
    while len(samples) < min_runs or total_ns < min_seconds * 1e9:
        start = clock_ns()
        run()
        elapsed_ns = clock_ns() - start
        total_ns += elapsed_ns
        samples.append(elapsed_ns / 1e6)
    return tuple(samples)


def time_in_turn(
    calls: tuple[Callable[[], object], Callable[[], object]],
    warmup_runs: int,
    min_runs: int,
    min_seconds: float,
    clock_ns: Callable[[], int],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Time two calls in turn until both minima are reached. Each of them is the first of every other pair.

    Args:
        calls: The calls.
        warmup_runs: Number of calls of each before the first counted one.
        min_runs: Minimum number of counted calls of each.
        min_seconds: Minimum counted time of both together, seconds.
        clock_ns: A monotonic clock, nanoseconds.

    Returns:
        Milliseconds of each counted call, in order, of the first and of the second.
    """
    for _ in range(warmup_runs):
        for call in calls:
            call()
    samples: tuple[list[float], list[float]] = ([], [])
    total_ns = 0
    while len(samples[0]) < min_runs or total_ns < min_seconds * 1e9:
        for side in (0, 1) if len(samples[0]) % 2 == 0 else (1, 0):
            start = clock_ns()
            calls[side]()
            elapsed_ns = clock_ns() - start
            total_ns += elapsed_ns
            samples[side].append(elapsed_ns / 1e6)
    return tuple(samples[0]), tuple(samples[1])
