"""Notice that an emulator runs this program: its times say nothing about the board that it imitates."""

import platform
from pathlib import Path

from fer_edge.edge_runtime.board import cpu_info

# The file that the kernel runs. qemu-user answers for /proc/self/exe itself, with the emulated program.
PROGRAM = Path("/proc/thread-self/exe")
MACHINE_OFFSET = 18  # of the field e_machine in an ELF header, two bytes
# e_machine of the programs that run on a machine, by its name in uname. A 64-bit kernel also runs 32-bit programs.
ELF_MACHINES = {
    "aarch64": (183, 40),
    "armv8l": (183, 40),
    "armv7l": (40,),
    "armv6l": (40,),
    "x86_64": (62, 3),
    "i686": (3, 62),
    "riscv64": (243,),
}
EMULATED_CPU = "QEMU TCG"  # in the CPU name of a PC that qemu emulates without hardware support


def find_emulator(machine: str | None = None, program: Path = PROGRAM) -> str | None:
    """Return the name of the emulator that runs this process; None without one.

    A process that is emulated runs a program for another kind of machine: that of the emulator.

    Args:
        machine: Architecture, as ``uname -m`` prints it; None for that of this process.
        program: The file that the kernel runs for this process.
    """
    try:
        with program.open("rb") as file:
            header = file.read(MACHINE_OFFSET + 2)
        name = program.resolve().name
    except OSError:  # not Linux
        return None
    expected = ELF_MACHINES.get(machine or platform.machine())
    if header.startswith(b"\x7fELF") and expected and int.from_bytes(header[MACHINE_OFFSET:], "little") not in expected:
        return name
    return "qemu" if EMULATED_CPU in (cpu_info("model name") or "") else None
