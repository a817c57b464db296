"""Wait until a board that is throttled by heat has cooled down, so that its times are those of a cool board."""

import time
from collections.abc import Callable

from fer_edge.artifacts.reporter import Reporter
from fer_edge.edge_runtime.board import temperature_c, throttle_bits

# Bits of the Raspberry Pi firmware that heat sets: frequency capped, throttled, soft temperature limit. The first bit,
# under-voltage, does not pass by waiting.
HEAT_BITS = 0b1110
COOL_C = 65.0
MAX_WAIT_S = 300.0
POLL_S = 5.0


def wait_until_cool(
    reporter: Reporter,
    read: Callable[[], tuple[int | None, float | None]] = lambda: (throttle_bits(), temperature_c()),
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Wait while the board is throttled by heat, then until it has 65 °C or less, at most 5 minutes in all.

    Args:
        reporter: Receives a note when the wait starts, and a warning if the board is still hot at its end.
        read: Returns the throttle bits and the temperature, degrees Celsius; None for what a machine does not have.
        sleep: Waits for a number of seconds.

    Returns:
        The time that was waited, seconds; 0 on machines without these bits.
    """
    bits, temperature = read()
    waited_s = 0.0
    if not _is_throttled(bits):
        return waited_s
    reporter.note(f"the board is throttled by heat{_degrees(temperature)}: waiting until it is cool, up to {MAX_WAIT_S:.0f} s")
    while waited_s < MAX_WAIT_S and (_is_throttled(bits) or (temperature or 0.0) > COOL_C):
        sleep(POLL_S)
        waited_s += POLL_S
        bits, temperature = read()
    if _is_throttled(bits):
        reporter.warn(f"the board is still throttled{_degrees(temperature)}: improve its cooling. Its times are unreliable")
    return waited_s


def _is_throttled(bits: int | None) -> bool:
    return bool((bits or 0) & HEAT_BITS)


def _degrees(temperature: float | None) -> str:
    return "" if temperature is None else f" ({temperature:.0f} °C)"
