"""Counts of executed instructions, one JSON line per processor and stage. An emulator counts them; they are not times."""

from dataclasses import dataclass
from pathlib import Path

from fer_edge.artifacts.typed_json import read_json_lines


@dataclass(frozen=True)
class InstructionRecord:
    """How many instructions a stage executes on one processor, with one thread.

    Attributes:
        cpu: Processor that was emulated, such as ``cortex-a72``.
        stage: What was counted: ``classify`` (resize included), ``detect``, ``track`` or ``crop``.
        subject: Model or detector; empty for stages without one.
        instructions: Executed instructions per run.
        runtime: Package and version that ran the stage, such as ``ai-edge-litert 2.1.6``.
    """

    cpu: str
    stage: str
    subject: str
    instructions: int
    runtime: str


def read_instruction_records(path: Path) -> list[InstructionRecord]:
    """Read a JSON-lines file of instruction counts.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is not such a record. The error names the line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no instruction counts at '{path}'. Make some: make pi")
    return read_json_lines(InstructionRecord, path)
