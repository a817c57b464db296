"""Estimate the time of a stage on a board from its instructions. An estimate is never a measurement, and never in a record."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """How fast a processor executes the instructions of int8 networks, with one thread.

    Attributes:
        board: Board with this processor.
        clock_hz: Clock rate, hertz.
        instructions_per_cycle: From published times of a network and its counted instructions.
        error: Largest relative error of these times, 0..1.
    """

    board: str
    clock_hz: float
    instructions_per_cycle: float
    error: float


# Anchors: published int8 MobileNets on a Raspberry Pi 4, one thread. There is none for float files or other boards.
INT8_MODELS = {"cortex-a72": Model("Raspberry Pi 4", 1.8e9, 1.15, 0.11)}


def modelled_ms(cpu: str | None, precision: str | None, threads: int, instructions: int | None) -> tuple[float, float] | None:
    """Return the estimated time and its relative error; None without an anchor or a count.

    Args:
        cpu: Emulated processor, such as ``cortex-a72``.
        precision: Precision of the network; only ``int8`` can be estimated.
        threads: Number of threads; only one can be estimated.
        instructions: Executed instructions.

    Returns:
        Milliseconds, and the relative error, 0..1.
    """
    model = INT8_MODELS.get(cpu or "")
    if model is None or precision != "int8" or threads != 1 or instructions is None:
        return None
    return 1000 * instructions / (model.clock_hz * model.instructions_per_cycle), model.error
