"""Compile a converted file for NPUs, check the result in a simulator where there is one, and write it next to the original."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_write, check_writable
from fer_edge.artifacts.contract import Contract
from fer_edge.artifacts.conversion import ConversionMetrics
from fer_edge.artifacts.gate import GateResult, Issue, Thresholds
from fer_edge.artifacts.graph import read_graph
from fer_edge.artifacts.model_file import ModelFile, read_model_file
from fer_edge.artifacts.npu_summary import NpuSummary
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.artifacts.run_folder import StoredFaces
from fer_edge.convert.calibrate import MIN_DISTINCT
from fer_edge.convert.metadata import append_contract
from fer_edge.convert.npu import imx500, qualcomm
from fer_edge.convert.npu.compilation import Compilation, custom_options, placement
from fer_edge.convert.npu.targets import ETHOS_U, IMX500, QUALCOMM, NpuTarget, check_installed
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
    calibration: StoredFaces | None = None,
) -> list[NpuResult]:
    """Compile a converted int8 file for NPUs.

    Args:
        model: The .tflite file for the CPU, made by fer-edge.
        targets: From find_target.
        faces: Labeled test faces for the simulator; None to compile without it.
        thresholds: Thresholds of the gate; None for the defaults.
        out: Folder for the files; None for the folder of the model.
        reporter: Receives progress.
        calibration: Training faces, which imx500 needs.

    Returns:
        One result per target, also for files that the gate rejects.

    Raises:
        FileNotFoundError: If there is no such model.
        ValueError: If the model is not an int8 file of fer-edge, or faces are missing.
        ImportError: If a compiler is not installed.
        RuntimeError: If a compiler or the simulator fails.
        OSError: If a file cannot be written.
    """
    file = read_model_file(model)
    _check_model(file, targets)
    check_installed(targets)
    if any(target.vendor == IMX500 for target in targets):
        _check_faces(faces, calibration)
    folder = model.parent if out is None else out
    for target in targets:
        check_writable(_path(folder, model, target))
    results = []
    with reporter.progress(f"compiling {model.name}") as progress:
        for number, target in enumerate(targets):
            progress(number, len(targets))
            results.append(_compile(file, target, (faces, calibration), thresholds or Thresholds(), folder))
    return results


def _check_model(file: ModelFile, targets: Sequence[NpuTarget]) -> None:
    recipe = file.contract.quantization.recipe
    if recipe.io_dtype != "uint8" or recipe.keep_float:
        raise ValueError(
            f"{file.path} has the precision {file.contract.precision}; NPUs need int8. Convert the run: "
            f"fer-edge convert RUN --npu {targets[0].name}"
        )


def _check_faces(faces: StoredFaces | None, calibration: StoredFaces | None) -> None:
    """Check the faces for a target that quantizes again."""
    if faces is None or calibration is None:
        raise ValueError("imx500 quantizes again, which needs training and test faces. Add --data DATA, or give the run folder")
    for kind, count, minimum in (
        ("test", len(faces.images), MIN_SIMULATED_FACES),
        ("training", len(calibration.images), MIN_DISTINCT),
    ):
        if count < minimum:
            raise ValueError(f"imx500 needs at least {minimum} {kind} faces. Received: {count}")


def _path(folder: Path, model: Path, target: NpuTarget) -> Path:
    return folder / f"{model.stem}_{target.file_suffix}{'.zip' if target.vendor == IMX500 else '.tflite'}"


def _compile(
    file: ModelFile,
    target: NpuTarget,
    faces_and_calibration: tuple[StoredFaces | None, StoredFaces | None],
    thresholds: Thresholds,
    folder: Path,
) -> NpuResult:
    faces, calibration = faces_and_calibration
    simulator = imx500.SIMULATOR if target.vendor == IMX500 else qualcomm.SIMULATOR
    simulated = None
    with TemporaryDirectory() as name:
        work = Path(name)
        if target.vendor == IMX500 and faces is not None and calibration is not None:
            compilation, summary, simulated = _compile_for_imx500(file, target, faces, calibration, work)
        else:
            compilers = {QUALCOMM: qualcomm.compile_for_qualcomm, ETHOS_U: compile_for_ethos_u}
            compilation = compilers[target.vendor](file.flatbuffer, target.chip, work)
            summary = _summarize(file, target, compilation)
            if target.vendor == QUALCOMM and faces is not None and summary.npu_operators == summary.operators:
                simulated = simulate(file, compilation.content, faces, work)
    issues: tuple[Issue, ...] = ()
    if simulated is not None:
        issues = tuple(_check(simulated, thresholds, file.contract, target))
        simulated = replace(simulated, gate=GateResult(thresholds, issues))
        summary = replace(summary, simulated=simulated, simulator=simulator)
    if not summary.npu_operators:
        remedy = "use the file for the CPU"
        issues = (*issues, Issue(f"none of the {summary.operators} operators runs on {target.name}", remedy))
    path, fallback = _write(file, target, replace(file.contract, npu=summary), compilation.content, folder, bool(issues))
    notes = () if issues else tuple(_notes(file.contract, target, summary, faces, path))
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


def _inputs(contract: Contract, faces: StoredFaces) -> npt.NDArray[np.uint8]:
    size, resolution = contract.image_size, contract.crop.training_resolution_px
    return np.stack([to_rgb(preprocess_face(image, size, resolution)) for image in faces.images])


def _compile_for_imx500(
    file: ModelFile, target: NpuTarget, faces: StoredFaces, calibration: StoredFaces, folder: Path
) -> tuple[Compilation, NpuSummary, ConversionMetrics]:
    """Quantize and compile a file. The chip runs the whole network, or the compiler fails."""
    from fer_edge.convert.compare import compare

    contract, inputs = file.contract, _inputs(file.contract, faces)
    cpu_probs = classify_faces(Classifier(file.path), list(inputs))
    found = imx500.compile_for_imx500(file.flatbuffer, _inputs(contract, calibration), inputs, cpu_probs, folder)
    summary = NpuSummary(
        target=target.name,
        compiler=found.compilation.compiler,
        npu_operators=len(read_graph(file.flatbuffer).operators),
        cpu_operators={},
        partitions=1,
        memory_kib=found.compilation.memory_kib,
        capacity_kib=found.capacity_kib,
    )
    return found.compilation, summary, compare(cpu_probs, found.probabilities, faces.targets, contract.labels)


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
    inputs = _inputs(contract, faces)
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
    if target.vendor == IMX500:
        remedy = "use the file for the CPU, or compile another network"
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
    if target.vendor == IMX500:  # the last tool may not accept other parts in its zip, so the contract is next to it
        atomic_write(path, content)
        atomic_write(accepted.with_suffix(".json"), contract.to_json())
    else:
        atomic_write(path, append_contract(content, contract))
    (accepted if rejected else refused).unlink(missing_ok=True)
    fallback = folder / file.path.name
    if not (fallback.exists() and fallback.samefile(file.path)):
        atomic_write(fallback, file.path.read_bytes())
    return path, fallback


def _notes(contract: Contract, target: NpuTarget, summary: NpuSummary, faces: StoredFaces | None, path: Path) -> list[str]:
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
    if target.vendor == IMX500:
        notes.append(imx500.LAST_STEP.format(name=path.name))
    elif target.vendor == QUALCOMM:
        if faces is None:
            notes.append(f"{target.name}: not simulated, so its labels were not checked. Add --data DATA")
        elif summary.cpu_operators:
            notes.append(f"{target.name}: not simulated, because the CPU runs a part of it. Check it on a phone")
    else:
        notes.append(f"{target.name}: vela has no simulator, so its labels were not checked")
    return notes
