"""Compare the outputs of runtimes with those of the reference."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.benchmarks.parity.browser_runtime import run_in_browser
from fer_edge.benchmarks.parity.parity_model import ParityModel, RuntimeOutput
from fer_edge.benchmarks.parity.python_runtime import run_in_python
from fer_edge.benchmarks.parity.runtimes import REFERENCE, RUNTIMES
from fer_edge.benchmarks.tables import text_table

HEADER = ("model", "runtime", "version", "equal labels", "identical faces", "largest difference")


@dataclass(frozen=True)
class ParityRow:
    """One model in one runtime, compared with the reference. The counts are None if it failed.

    Attributes:
        model: Name of the file.
        runtime: Name of the runtime, one of RUNTIMES.
        version: Its version.
        faces: Number of faces.
        equal_labels: Number of faces with the label of the reference.
        identical_faces: Number of faces for which all output bytes are equal.
        max_steps: Largest difference of an output, in steps: of the quantized output, or 1/256 of a float output.
        problem: Why it failed; None if it did not.
    """

    model: str
    runtime: str
    version: str
    faces: int
    equal_labels: int | None = None
    identical_faces: int | None = None
    max_steps: float | None = None
    problem: str | None = None

    def exceeds(self, max_steps: float) -> bool:
        """Return whether the runtime failed, or differs by more than a number of steps."""
        return self.max_steps is None or self.max_steps > max_steps


def measure_parity(models: Sequence[ParityModel], runtimes: Sequence[str], reporter: Reporter = SILENT) -> list[ParityRow]:
    """Run models in runtimes, one after the other, and compare the outputs.

    Args:
        models: From read_parity_model.
        runtimes: Names in RUNTIMES, the reference first.
        reporter: Receives progress.

    Returns:
        The rows by model, in the order of the runtimes.

    Raises:
        RuntimeError: If the reference cannot run a model.
    """
    outputs: dict[str, list[RuntimeOutput]] = {}
    with reporter.progress("running the models") as progress:
        for number, name in enumerate(runtimes):
            progress(number, len(runtimes))
            runtime = RUNTIMES[name]
            outputs[name] = run_in_browser(runtime, models) if runtime.module is None else run_in_python(runtime, models)
    for model, reference in zip(models, outputs[REFERENCE], strict=True):
        if reference.problem:
            raise RuntimeError(f"{REFERENCE} cannot run {model.path.name}: {reference.problem}")
    return [
        compare_outputs(model, name, outputs[REFERENCE][number], outputs[name][number])
        for number, model in enumerate(models)
        for name in runtimes
    ]


def compare_outputs(model: ParityModel, runtime: str, reference: RuntimeOutput, found: RuntimeOutput) -> ParityRow:
    """Compare the outputs of one model.

    Args:
        model: The model.
        runtime: Name of the runtime.
        reference: What the reference returned.
        found: What the runtime returned.
    """
    name, faces = model.path.name, len(model.faces)
    if found.outputs is None or reference.outputs is None:
        return ParityRow(name, runtime, found.version, faces, problem=found.problem)
    if found.outputs.shape != reference.outputs.shape:
        problem = f"its outputs have the shape {found.outputs.shape}, not {reference.outputs.shape}"
        return ParityRow(name, runtime, found.version, faces, problem=problem)
    if found.labels not in (None, model.labels):
        problem = f"it read the labels {', '.join(found.labels or ())}, not {', '.join(model.labels)}"
        return ParityRow(name, runtime, found.version, faces, problem=problem)
    a, b = reference.outputs, found.outputs
    difference = float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max())
    return ParityRow(
        name,
        runtime,
        found.version,
        faces,
        equal_labels=int((a.argmax(axis=1) == b.argmax(axis=1)).sum()),
        identical_faces=int((a == b).all(axis=1).sum()),
        max_steps=difference if model.scale else difference / model.step,
    )


def parity_table(rows: Sequence[ParityRow]) -> str:
    """Return the rows as a table for terminals, and the problems below it."""
    cells = []
    for row in rows:
        if row.max_steps is None:
            counts = ("cannot run", "-", "-")
        else:
            steps = f"{row.max_steps:.3g} {'step' if row.max_steps == 1 else 'steps'}"
            counts = (f"{row.equal_labels} of {row.faces}", f"{row.identical_faces} of {row.faces}", steps)
        cells.append((row.model, row.runtime + (" (reference)" if row.runtime == REFERENCE else ""), row.version, *counts))
    problems = [f"{row.runtime}, {row.model}: {row.problem}" for row in rows if row.problem]
    return "\n".join([text_table(HEADER, cells), *problems])
