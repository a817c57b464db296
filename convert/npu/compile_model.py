"""Compile a converted file for NPUs, check the result in a simulator where there is one, and write it next to the original."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from fer_edge.artifacts.atomic_write import atomic_write, check_writable
from fer_edge.artifacts.contract import Contract
from fer_edge.artifacts.conversion import ConversionMetrics
from fer_edge.artifacts.gate import GateResult, Issue, Thresholds
from fer_edge.artifacts.model_file import ModelFile, read_model_file
from fer_edge.artifacts.npu_summary import NpuSummary
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.artifacts.run_folder import StoredFaces
from fer_edge.convert.metadata import append_contract
from fer_edge.convert.npu import qualcomm
from fer_edge.convert.npu.compilation import Compilation, custom_options, placement
from fer_edge.convert.npu.targets import ETHOS_U, QUALCOMM, NpuTarget, check_installed
from fer_edge.convert.npu.vela import compile_for_ethos_u
from fer_edge.edge_runtime.batch_predict import classify_faces
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.crop import preprocess_face, to_rgb

REJECTED_SUFFIX = ".rejected"
MIN_SIMULATED_FACES = 20  # fewer say nothing about the share of equal labels


@dataclass(frozen=True)
class NpuResult:
    """One compiled file.

    Attributes:
        target: The target.
        path: The file. The name of a rejected file ends in ``.rejected``.
        fallback: The file for the CPU next to it.
        file_bytes: Size of the compiled file.
        summary: What runs where, and what the simulator found.
        issues: Why the gate rejects it; empty if it is accepted.
        notes: What the user should know of an accepted file.
    """

    target: NpuTarget
    path: Path
    fallback: Path
    file_bytes: int
    summary: NpuSummary
    issues: tuple[Issue, ...]
    notes: tuple[str, ...]


def compile_for_npus(
    model: Path,
    targets: Sequence[NpuTarget],
    faces: StoredFaces | None = None,
    thresholds: Thresholds | None = None,
    out: Path | None = None,
    reporter: Reporter = SILENT,
) -> list[NpuResult]:
    """Compile a converted int8 file for NPUs.

    Args:
        model: The .tflite file for the CPU, made by fer-edge.
        targets: From find_target.
        faces: Labeled test faces for the simulator; None to compile without it.
        thresholds: Thresholds of the gate; None for the defaults.
        out: Folder for the files; None for the folder of the model.
        reporter: Receives progress.

    Returns:
        One result per target, also for files that the gate rejects.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If the model is not an int8 file of fer-edge.
        ImportError: If a compiler is not installed.
        RuntimeError: If a compiler or the simulator fails.
        OSError: If a file cannot be written.
    """
    file = read_model_file(model)
    _check_model(file, targets)
    check_installed(targets)
    folder = model.parent if out is None else out
    for target in targets:
        check_writable(_path(folder, model, target))
    results = []
    with reporter.progress(f"compiling {model.name}") as progress:
        for number, target in enumerate(targets):
            progress(number, len(targets))
            results.append(_compile(file, target, faces, thresholds or Thresholds(), folder))
    return results


def _check_model(file: ModelFile, targets: Sequence[NpuTarget]) -> None:
    recipe = file.contract.quantization.recipe
    if recipe.io_dtype != "uint8" or recipe.keep_float:
        raise ValueError(
            f"{file.path} has the precision {file.contract.precision}; NPUs need int8. Convert the run: "
            f"fer-edge convert RUN --npu {targets[0].name}"
        )


def _path(folder: Path, model: Path, target: NpuTarget) -> Path:
    return folder / f"{model.stem}_{target.file_suffix}.tflite"


def _compile(file: ModelFile, target: NpuTarget, faces: StoredFaces | None, thresholds: Thresholds, folder: Path) -> NpuResult:
    with TemporaryDirectory() as name:
        work = Path(name)
        compilers = {QUALCOMM: qualcomm.compile_for_qualcomm, ETHOS_U: compile_for_ethos_u}
        compilation = compilers[target.vendor](file.flatbuffer, target.chip, work)
        summary = _summarize(file, target, compilation)
        simulated = None
        if target.vendor == QUALCOMM and faces is not None and summary.npu_operators == summary.operators:
            simulated = simulate(file, compilation.content, faces, work)
    issues: tuple[Issue, ...] = ()
    if simulated is not None:
        issues = tuple(_check(simulated, thresholds, file.contract, target))
        simulated = replace(simulated, gate=GateResult(thresholds, issues))
        summary = replace(summary, simulated=simulated, simulator=qualcomm.SIMULATOR)
    if not summary.npu_operators:
        remedy = "use the file for the CPU"
        issues = (*issues, Issue(f"none of the {summary.operators} operators runs on {target.name}", remedy))
    path, fallback = _write(file, target, replace(file.contract, npu=summary), compilation.content, folder, bool(issues))
    notes = () if issues else tuple(_notes(file.contract, target, summary, faces))
    return NpuResult(target, path, fallback, path.stat().st_size, summary, issues, notes)


def _summarize(file: ModelFile, target: NpuTarget, compilation: Compilation) -> NpuSummary:
    placed = placement(file.flatbuffer, compilation.content)
    return NpuSummary(
        target=target.name,
        compiler=compilation.compiler,
        npu_operators=placed.npu_operators,
        cpu_operators=placed.cpu_operators,
        partitions=placed.partitions,
        memory_kib=compilation.memory_kib,
        estimated_ms=compilation.estimated_ms,
    )


def simulate(file: ModelFile, compiled: bytes, faces: StoredFaces, folder: Path) -> ConversionMetrics:
    """Compare a compiled file in the simulator with the file for the CPU, on the same faces.

    Args:
        file: The file for the CPU.
        compiled: The compiled file, whose operators are one part for the NPU.
        faces: Labeled faces; targets in the label order of the model.
        folder: Folder for temporary files.

    Raises:
        ValueError: If there are too few faces.
        RuntimeError: If the simulator fails.
    """
    from fer_edge.convert.compare import compare

    if len(faces.images) < MIN_SIMULATED_FACES:
        raise ValueError(f"the simulator needs at least {MIN_SIMULATED_FACES} faces. Received: {len(faces.images)}")
    contract = file.contract
    size, resolution = contract.image_size, contract.crop.training_resolution_px
    inputs = np.stack([to_rgb(preprocess_face(image, size, resolution)) for image in faces.images])
    binary, part = qualcomm.whole_model(compiled, custom_options(compiled)[0])
    outputs = qualcomm.simulate(binary, part, inputs, len(contract.labels), folder)
    if contract.output is None:
        raise ValueError(f"{file.path} does not state the scale of its output. Convert the run again")
    npu_probs = np.float32(contract.output.scale) * (outputs.astype(np.float32) - np.float32(contract.output.zero_point))
    cpu_probs = classify_faces(Classifier(file.path), list(inputs))
    return compare(cpu_probs, npu_probs, faces.targets, contract.labels)


def _check(metrics: ConversionMetrics, thresholds: Thresholds, contract: Contract, target: NpuTarget) -> list[Issue]:
    """Return why the gate rejects a compiled file. Its thresholds compare with the file for the CPU."""
    from fer_edge.convert.gate import check_thresholds

    remedy = f"use the file for the CPU, or try the other quantizer (this is {contract.quantization.recipe.quantizer}) or --qat"
    issues = check_thresholds(metrics, thresholds, contract, contract.labels)
    causes = [issue.cause.replace("the Keras model", "the file for the CPU") for issue in issues]
    return [Issue(f"{target.name}: {cause}", remedy) for cause in causes]


def _write(
    file: ModelFile, target: NpuTarget, contract: Contract, content: bytes, folder: Path, rejected: bool
) -> tuple[Path, Path]:
    """Write the compiled file with its contract, and the file for the CPU if it is not there. Returns both paths."""
    accepted = _path(folder, file.path, target)
    refused = accepted.with_name(accepted.name + REJECTED_SUFFIX)
    path = refused if rejected else accepted
    atomic_write(path, append_contract(content, contract))
    (accepted if rejected else refused).unlink(missing_ok=True)
    fallback = folder / file.path.name
    if not (fallback.exists() and fallback.samefile(file.path)):
        atomic_write(fallback, file.path.read_bytes())
    return path, fallback


def _notes(contract: Contract, target: NpuTarget, summary: NpuSummary, faces: StoredFaces | None) -> list[str]:
    notes = []
    if summary.cpu_operators:
        names = ", ".join(f"{count} {name}" for name, count in summary.cpu_operators.items())
        note = f"{target.name}: the CPU runs {names}"
        if contract.quantization.recipe.head == "float32" and target.integer_only:
            note += (
                ": the last layer of this file is in float, and a microcontroller then needs float kernels. From the run "
                f"folder, fer-edge convert RUN --npu {target.name} makes a file that is integer throughout"
            )
        notes.append(note)
    if target.vendor == QUALCOMM:
        if faces is None:
            notes.append(f"{target.name}: not simulated, so its labels were not checked. Add --data DATA")
        elif summary.cpu_operators:
            notes.append(f"{target.name}: not simulated, because the CPU runs a part of it. Check it on a phone")
    else:
        notes.append(f"{target.name}: vela has no simulator, so its labels were not checked")
    return notes
