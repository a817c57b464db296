import pytest

from fer_edge.artifacts.instruction_records import read_instruction_records
from fer_edge.benchmarks import instructions
from fer_edge.benchmarks.instructions import COUNTS_VARIABLE, MARKER, count_instructions
from fer_edge.benchmarks.modelled import modelled_ms


class Emulator:
    """Counts 100 instructions per call of run(), and 7 per marker."""

    def __init__(self, path):
        self.path = path
        self.executed = self.runs = 0

    def getpriority(self, which, who):
        assert (which, who) == (2, MARKER)
        self.executed += 7
        with self.path.open("a") as file:
            file.write(f"mark {self.executed}\n")
        return 0

    def run(self):
        self.runs += 1
        self.executed += 100


@pytest.fixture
def emulator(monkeypatch, tmp_path):
    emulator = Emulator(tmp_path / "counts")
    monkeypatch.setattr(instructions.ctypes, "CDLL", lambda name: emulator)
    monkeypatch.setenv(COUNTS_VARIABLE, str(emulator.path))
    return emulator


def test_the_instructions_of_a_call_are_those_between_two_markers(emulator):
    assert count_instructions(emulator.run, runs=4, warmup_runs=3) == 101  # 400 and one marker, by four
    assert emulator.runs == 7
    assert count_instructions(emulator.run, runs=1) == 107


def test_without_an_emulator_nothing_is_counted_and_nothing_runs(emulator, monkeypatch):
    monkeypatch.delenv(COUNTS_VARIABLE)
    assert count_instructions(emulator.run) is None
    assert emulator.runs == 0


def test_without_the_plugin_there_is_no_count(emulator, monkeypatch):
    monkeypatch.setattr(emulator, "getpriority", lambda which, who: 0)
    assert count_instructions(emulator.run) is None


def test_a_line_that_is_not_a_count_is_named(tmp_path):
    path = tmp_path / "counts.jsonl"
    path.write_text('{"cpu": "cortex-a72"}\n')
    with pytest.raises(ValueError, match=r"counts\.jsonl.*1|1.*counts\.jsonl"):
        read_instruction_records(path)
    with pytest.raises(FileNotFoundError, match="make pi"):
        read_instruction_records(tmp_path / "missing")


@pytest.mark.parametrize(
    ("cpu", "precision", "threads", "count", "expected"),
    [
        ("cortex-a72", "int8", 1, 20_700_000, (pytest.approx(10.0), 0.11)),
        ("cortex-a76", "int8", 1, 20_700_000, None),
        ("cortex-a72", "float32", 1, 20_700_000, None),
        ("cortex-a72", "int8", 4, 20_700_000, None),
        ("cortex-a72", "int8", 1, None, None),
        (None, "int8", 1, 20_700_000, None),
    ],
)
def test_only_an_int8_file_on_one_core_of_a_pi_4_has_a_modelled_time(cpu, precision, threads, count, expected):
    assert modelled_ms(cpu, precision, threads, count) == expected
