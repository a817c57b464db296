"""Read a .tflite file completely and check it, before anything is passed to an interpreter.

The order is: contract, digest, graph. The interpreter then gets the bytes that were checked, not the path.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from fer_edge.artifacts.check_graph import check_graph
from fer_edge.artifacts.contract import Contract, ModelError, check_tflite, contract_of
from fer_edge.artifacts.graph import GraphError, Tensor

MAX_MODEL_BYTES = 256 << 20
MAX_OUTPUT_SCALE = 0.005  # of a uint8 output: 255 steps reach 1 with 0.0039
MIN_OUTPUT_SCALE = 1e-5
MAX_OUTPUT_ZERO_POINT = 25


@dataclass(frozen=True)
class ModelFile:
    """A checked .tflite file.

    Attributes:
        path: Its path.
        contract: Its contract.
        flatbuffer: The bytes before the zip archive.
        sha256: Their digest.
    """

    path: Path
    contract: Contract
    flatbuffer: bytes
    sha256: str


def read_model_file(path: str | Path) -> ModelFile:
    """Read and check a .tflite file of fer-edge.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If there is no such file.
        ModelError: If the file is not a .tflite file of fer-edge, is damaged, differs from its contract, or contains what the
            converters of fer-edge do not write.
    """
    model = check_tflite(path)
    size = model.stat().st_size
    if size > MAX_MODEL_BYTES:
        raise ModelError(f"{model} has {size} bytes; the maximum is {MAX_MODEL_BYTES}")
    content = model.read_bytes()
    contract, start = contract_of(io.BytesIO(content), model)
    flatbuffer = content[:start]
    digest = hashlib.sha256(flatbuffer).hexdigest()
    if contract.flatbuffer_sha256 not in (None, digest):
        raise ModelError(
            f"{model} differs from the digest in its contract: it is truncated, damaged or was changed. Copy it again, or "
            "convert the run again: fer-edge convert RUN"
        )
    if contract.npu is not None:
        raise ModelError(
            f"{model} was compiled for {contract.npu.target}: only a device with this NPU can run it. Use the file for the "
            "CPU, which fer-edge convert wrote next to it"
        )
    try:
        _check_output(check_graph(flatbuffer, contract.image_size, len(contract.labels)), contract)
    except GraphError as error:
        raise ModelError(
            f"{model} is damaged, or was not converted by fer-edge ({error}). Convert the run again: fer-edge convert RUN"
        ) from error
    return ModelFile(model, contract, flatbuffer, digest)


def _check_output(output: Tensor, contract: Contract) -> None:
    """Check scale and zero point of the output."""
    if output.kind == "float32":
        return
    scale = output.scales[0]
    if not (MIN_OUTPUT_SCALE <= scale <= MAX_OUTPUT_SCALE and output.zero_point <= MAX_OUTPUT_ZERO_POINT):
        raise GraphError(f"an output of scale {scale:g} and zero point {output.zero_point}, not a probability")
    declared = contract.output
    if declared is not None and (abs(declared.scale - scale) > 1e-6 * scale or declared.zero_point != output.zero_point):
        raise GraphError(f"an output of scale {scale:g}, contract {declared.scale:g}")
