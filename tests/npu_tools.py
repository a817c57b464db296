"""Stand-ins for the compilers of NPUs, and the files that they write."""

import sys

import pytest

from fer_edge.artifacts.run_folder import StoredFaces
from fer_edge.edge_runtime.batch_predict import classify_faces
from fer_edge.edge_runtime.classify import Classifier

flatbuffers = pytest.importorskip("flatbuffers", reason="flatbuffers is not installed: pip install 'fer-edge[convert]'")

FAKE_VELA = """
import os, pathlib, sys
words = sys.argv[1:]
out = pathlib.Path(words[words.index("--output-dir") + 1])
if "ethos-u85-2048" in words:
    sys.exit("Warning: default\\nError: Invalid tflite file.")
(out / "model_vela.tflite").write_bytes(pathlib.Path(os.environ["FAKE_COMPILED"]).read_bytes())
(out / "model_summary_Ethos.csv").write_text(
    "inference_time,sram_memory_used,dram_memory_used,on_chip_flash_memory_used,off_chip_flash_memory_used\\n"
    "0.00574,274.21875,0.0,0.0,2185.0\\n")
"""
FAKE_WORKER = """
import json, os, pathlib, sys
import numpy as np
job = json.loads(pathlib.Path(sys.argv[1]).read_text())
assert os.environ["LD_LIBRARY_PATH"].startswith("/fake/libraries")
mode = os.environ["FAKE_MODE"]
if mode == "crash":
    os.kill(os.getpid(), 11)
result = {}
if mode == "fail":
    result = {"problem": "HTP: unsupported operator"}
elif job["task"] == "compile":
    result = {"path": os.environ["FAKE_COMPILED"]}
else:
    assert pathlib.Path(job["binary"]).read_bytes() == b"the binary" and job["part"] == "part_0"
    np.save(job["outputs"], np.load(os.environ["FAKE_OUTPUTS"]))
pathlib.Path(job["result"]).write_text(json.dumps(result))
"""


def labeled_faces(model, identities):
    """Drawn faces, with the labels that a model gives them as targets."""
    from fer_edge.train.synthetic import synthetic_faces

    images = synthetic_faces(identities).images
    return StoredFaces(images, classify_faces(Classifier(model), list(images)).argmax(axis=1))


def compiled_file(builtins=(), options=(), tail=b""):
    """A TFLite file with built-in operators, then one custom operator per options, then other bytes."""
    builder = flatbuffers.Builder(256)

    def table(slots, *fields):
        builder.StartObject(slots)
        for slot, prepend, value in fields:
            getattr(builder, prepend)(slot, value, 0)
        return builder.EndObject()

    def vector(offsets):
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    names = [builder.CreateString("npu") for _ in options]
    codes = [table(4, (3, "PrependInt32Slot", code)) for code in builtins]
    codes += [table(4, (1, "PrependUOffsetTRelativeSlot", name)) for name in names]
    arrays = [builder.CreateByteVector(bytes(content)) for content in options]
    operators = [table(9, (0, "PrependUint32Slot", number)) for number in range(len(builtins))]
    for number, array in enumerate(arrays):
        fields = (0, "PrependUint32Slot", len(builtins) + number), (5, "PrependUOffsetTRelativeSlot", array)
        operators.append(table(9, *fields))
    graph = table(5, (3, "PrependUOffsetTRelativeSlot", vector(operators)))
    codes, graphs = vector(codes), vector([graph])
    offsets = (1, "PrependUOffsetTRelativeSlot", codes), (2, "PrependUOffsetTRelativeSlot", graphs)
    builder.Finish(table(8, (0, "PrependUint32Slot", 3), *offsets), file_identifier=b"TFL3")
    return bytes(builder.Output()) + tail


def described(offset, size=10, name="part_0"):
    from flatbuffers import flexbuffers

    return bytes(flexbuffers.Dumps({"bytecode_offset": offset, "bytecode_size": size, "name": name}))


def whole_on_npu():
    length = len(compiled_file(options=[described(10_000)]))
    content = compiled_file(options=[described(length)], tail=b"the binary")
    assert len(content) == length + 10
    return content


FAKE_IMX500_PYTHON = f"""#!{sys.executable}
import json, os, pathlib, sys, zipfile
import numpy as np
assert sys.argv[1].endswith("imx500_worker.py") and "PYTHONPATH" not in os.environ
job = json.loads(pathlib.Path(sys.argv[2]).read_text())
mode, out = os.environ["FAKE_MODE"], pathlib.Path(job["out"]) / "compiled"
if mode == "crash":
    os.kill(os.getpid(), 11)
expected = np.load(job["expected"])
changed = int(os.environ["FAKE_DISAGREE"])
expected[:changed] = np.roll(expected[:changed], 1, axis=1)
np.save(job["outputs"], expected[:, :3] if mode == "shape" else expected)
result = {{"status": 0, "log": ""}}
if mode == "fail":
    result = {{"problem": "No module named 'model_compression_toolkit'"}}
elif mode == "compiler":
    result = {{"status": 1, "log": "INFO : start\\n2026 ERROR : Unsupported layer: Foo\\n"}}
else:
    out.mkdir()
    (out / "quantized_MemoryReport.json").write_text(os.environ["FAKE_REPORT"])
    with zipfile.ZipFile(out / "packerOut.zip", "w") as file:
        file.writestr("dnnParams.xml", "<dnnParams/>")
pathlib.Path(job["result"]).write_text(json.dumps(result))
"""


def memory_report(used="271.03KB", fits=True):
    """The part of the report of Sony's compiler that is read."""
    sizes = {"Runtime Memory Physical Size": "175.00KB", "Model Memory Physical Size": "95.03KB", "Reserved Memory": "1.00KB"}
    return {"Memory Report": {**sizes, "Memory Usage": used, "Total Memory Available On Chip": "8.00MB", "Fit In Chip": fits}}
