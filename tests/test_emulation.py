from dataclasses import replace

import pytest
from records import PC, latency

from fer_edge.artifacts.latency_records import Energy
from fer_edge.benchmarks import environment
from fer_edge.benchmarks.bench_table import bench_table
from fer_edge.benchmarks.latency_tables import derive_row
from fer_edge.edge_runtime import emulation
from fer_edge.edge_runtime.emulation import find_emulator


def program(folder, name, e_machine):
    path = folder / name
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(11) + e_machine.to_bytes(2, "little") + bytes(44))
    return path


@pytest.mark.parametrize(
    ("machine", "e_machine", "emulated"),
    [
        ("aarch64", 183, False),
        ("aarch64", 40, False),  # 32-bit Python on a 64-bit kernel
        ("aarch64", 62, True),
        ("armv7l", 62, True),
        ("armv7l", 183, True),  # a 32-bit board on a 64-bit ARM server
        ("x86_64", 62, False),
        ("x86_64", 183, True),
        ("sparc64", 62, False),  # unknown: not claimed to be emulated
    ],
)
def test_a_program_for_another_machine_is_an_emulator(machine, e_machine, emulated, tmp_path):
    path = program(tmp_path, "qemu-aarch64-static", e_machine)
    assert find_emulator(machine, path) == ("qemu-aarch64-static" if emulated else None)


def test_a_pc_that_qemu_emulates_is_known_by_its_cpu(tmp_path, monkeypatch):
    path = program(tmp_path, "python3", 62)
    monkeypatch.setattr(emulation, "cpu_info", lambda *names: "QEMU TCG CPU version 2.5+")
    assert find_emulator("x86_64", path) == "qemu"
    monkeypatch.setattr(emulation, "cpu_info", lambda *names: "QEMU Virtual CPU version 2.5+")  # with KVM
    assert find_emulator("x86_64", path) is None


def test_without_proc_there_is_no_emulator(tmp_path):
    assert find_emulator("aarch64", tmp_path / "missing") is None


EMULATED = replace(PC, cpu="cortex-a72", machine="aarch64", emulator="qemu-aarch64-static")
NO_TIMES = {"samples_ms": (), "load_ms": None, "first_inference_ms": None}


def test_the_title_of_an_emulated_board_says_so():
    assert EMULATED.title == "cortex-a72 (emulated)"
    assert replace(EMULATED, integer_dot_product="asimddp").title == "cortex-a72 (asimddp, emulated)"


@pytest.mark.parametrize(
    "times", [{"samples_ms": (1.0,)}, {"load_ms": 1.0}, {"first_inference_ms": 1.0}, {"energy": Energy("rapl", 1.0, 1.0, 1)}]
)
def test_a_record_of_an_emulated_board_cannot_have_times(times):
    with pytest.raises(ValueError, match=r"times of an emulator \(qemu-aarch64-static\) are not latencies"):
        latency(environment=EMULATED, **{**NO_TIMES, **times})


def test_an_emulated_row_has_instructions_and_no_latency():
    row = derive_row(latency(environment=EMULATED, instructions=6_910_000, **NO_TIMES))
    assert (row.emulated_cpu, row.instructions) == ("cortex-a72", 6_910_000)
    assert (row.p50_ms, row.p99_ms, row.load_ms, row.end_to_end_ms) == (None, None, None, None)
    assert derive_row(latency()).emulated_cpu is None


def test_the_environment_names_the_emulator_and_the_processor_that_qemu_imitates(monkeypatch):
    monkeypatch.setattr(environment, "find_emulator", lambda: "qemu-aarch64-static")
    monkeypatch.setenv("QEMU_CPU", "cortex-a76")
    found = environment.describe_environment()
    assert (found.emulator, found.cpu) == ("qemu-aarch64-static", "cortex-a76")
    monkeypatch.setattr(environment, "find_emulator", lambda: None)
    assert environment.describe_environment().cpu != "cortex-a76"


def test_the_table_prints_instructions_and_modelled_times_only_where_asked():
    row = derive_row(latency(environment=EMULATED, instructions=6_910_000, **NO_TIMES))
    text = bench_table([row])
    (line,) = (line for line in text.splitlines() if line.startswith("cnn "))
    assert line.split()[-2:] == ["emulated", "6.9"]
    assert "emulated: run by an emulator, so there is no latency" in text
    assert "modelled" not in text
    asked = bench_table([row], modelled=True)
    assert "3.34 ±11%" in asked
    assert "modelled: estimated from the instructions, not measured" in asked
    assert "M instr." not in bench_table([derive_row(latency())])
