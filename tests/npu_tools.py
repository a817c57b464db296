"""Stand-ins for the compilers of NPUs, and the files that they write."""

import pytest

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
