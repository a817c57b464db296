import pytest

from fer_edge.artifacts.reporter import Reporter
from fer_edge.benchmarks.cooling import wait_until_cool


class Board(Reporter):
    """A board whose throttle bits and temperature follow a list, one entry per reading; the last one repeats."""

    def __init__(self, *readings):
        self.readings = list(readings)
        self.waits, self.lines = [], []

    def read(self):
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]

    def note(self, text):
        self.lines.append(f"note: {text}")

    def warn(self, text):
        self.lines.append(f"warning: {text}")

    def wait(self):
        return wait_until_cool(self, self.read, self.waits.append)


@pytest.mark.parametrize("reading", [(None, 90.0), (0x0, 79.0), (0x1, 50.0), (0xE0000, 60.0)])
def test_a_board_that_heat_does_not_limit_now_is_not_waited_for(reading):
    board = Board(reading)
    assert board.wait() == 0.0
    assert (board.waits, board.lines) == ([], [])


def test_a_throttled_board_is_waited_for_until_it_is_cool():
    board = Board((0x4, 85.0), (0x4, 82.0), (0x80000, 72.0), (0x80000, 64.0))
    assert board.wait() == 15.0
    assert board.waits == [5.0] * 3
    assert board.lines == ["note: the board is throttled by heat (85 °C): waiting until it is cool, up to 300 s"]


def test_without_a_temperature_the_bits_decide():
    assert Board((0x8, None), (0x0, None)).wait() == 5.0


def test_a_board_that_stays_hot_is_measured_with_a_warning():
    board = Board((0xA, 85.0))
    assert board.wait() == 300.0
    assert board.lines[-1] == ("warning: the board is still throttled (85 °C): improve its cooling. Its times are unreliable")
