"""Calls Qualcomm's tools: ``python qualcomm_worker.py JOB.json``. A crash of theirs ends this process only.

The libraries must be on LD_LIBRARY_PATH when the process starts, so the tools cannot run in the process of fer-edge.
"""

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

ERROR_FILE = re.compile(r"See (\S+\.error)")


def main(job_file: str) -> None:
    """Run the job and write its result, or its problem.

    Raises:
        OSError: If a file cannot be read or written.
    """
    job = json.loads(Path(job_file).read_text())
    try:
        result = {"compile": compile_model, "simulate": simulate}[job["task"]](job)
    except Exception as error:  # the tools raise many types
        result = {"problem": describe(error)}
    Path(job["result"]).write_text(json.dumps(result))


def describe(error: Exception) -> str:
    """Return the reason of a failure, from the log of the compiler if it names one."""
    text = str(error).strip()
    log = ERROR_FILE.search(text)
    if log and Path(log[1]).is_file():
        lines = Path(log[1]).read_text(errors="replace").splitlines()
        Path(log[1]).unlink()
        text = next((line for line in lines if "ERROR" in line or "error" in line), (lines or [text])[-1])
    return (text.splitlines() or [type(error).__name__])[0]


def compile_model(job: dict[str, Any]) -> dict[str, Any]:
    """Compile a model.

    Args:
        job: ``model``, ``chip`` and ``out``, the folder for the result.

    Returns:
        ``path`` of the compiled file.
    """
    aot = importlib.import_module("ai_edge_litert.aot.aot_compile")
    importlib.import_module("ai_edge_litert.aot.vendors.qualcomm.qualcomm_backend")
    vendor = importlib.import_module("ai_edge_litert.aot.vendors.qualcomm.target")
    target = vendor.Target(vendor.SocModel(job["chip"]))
    result = aot.aot_compile(job["model"], output_dir=job["out"], target=target, keep_going=False)
    ((_, model),) = result.models_with_backend
    return {"path": str(model.path)}


def simulate(job: dict[str, Any]) -> dict[str, Any]:
    """Run a binary in the simulator, as the only node of an ONNX graph.

    Args:
        job: ``binary``, ``part``, ``faces``, ``classes`` and ``outputs``.

    Returns:
        Nothing; the outputs are in their file.

    Raises:
        RuntimeError: If the simulator is not available.
    """
    onnx, runtime = importlib.import_module("onnx"), importlib.import_module("onnxruntime")
    qnn = importlib.import_module("onnxruntime_qnn")
    faces = np.load(job["faces"])
    path = Path(job["outputs"]).with_suffix(".onnx")
    helper, uint8 = onnx.helper, onnx.TensorProto.UINT8
    node = helper.make_node(
        "EPContext", ["face"], ["probability"], name=job["part"], domain="com.microsoft", embed_mode=1, main_context=1,
        ep_cache_context=Path(job["binary"]).read_bytes(), source="QNN", partition_name=job["part"], ep_sdk_version="",
    )  # fmt: skip
    shapes = {"face": [1, *faces.shape[1:]], "probability": [1, job["classes"]]}
    face, probability = (helper.make_tensor_value_info(name, uint8, shape) for name, shape in shapes.items())
    graph = helper.make_graph([node], "part", [face], [probability])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    runtime.register_execution_provider_library("QNN", qnn.get_library_path())
    devices = [device for device in runtime.get_ep_devices() if device.ep_name.startswith("QNN")]
    if not devices:
        raise RuntimeError("onnxruntime finds no QNN device on this machine")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.add_provider_for_devices(devices[:1], {"backend_path": qnn.get_qnn_htp_path()})
    session = runtime.InferenceSession(str(path), options)
    outputs = [session.run(None, {"face": faces[number : number + 1]})[0].reshape(-1) for number in range(len(faces))]
    np.save(job["outputs"], np.stack(outputs))
    return {}


if __name__ == "__main__":
    main(sys.argv[1])
