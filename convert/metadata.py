"""Put standard TFLite metadata, the labels and the contract inside a .tflite file.

Source of the layout: the TFLite metadata schema 1.5 (file identifier M001). Only the slots that are used are named.
"""

import io
import zipfile
from typing import Any

from fer_edge.artifacts.contract import CONTRACT_FILE, LABELS_FILE, Contract
from fer_edge.convert.flatbuffer import add_signature, read_flatbuffer, write_flatbuffer

METADATA_NAME = "TFLITE_METADATA"
METADATA_IDENTIFIER = b"M001"
MIN_PARSER_VERSION = "1.0.0"
# Enumerators and union tags of the schema.
TENSOR_AXIS_LABELS = 2
DESCRIPTIONS = 1
COLOR_SPACE_RGB = 1
CONTENT_FEATURE, CONTENT_IMAGE = 1, 2
OPTIONS_NORMALIZATION = 1


def attach(flatbuffer: bytes, contract: Contract) -> bytes:
    """Return the whole .tflite file: the flatbuffer with metadata, and a zip with labels and contract behind it.

    Args:
        flatbuffer: What the converter made.
        contract: The contract to carry.

    Returns:
        The content of the file. Any TFLite interpreter reads it, and so does any zip reader.
    """
    return _with_buffer(flatbuffer, METADATA_NAME, _metadata(contract)) + _archive(
        {LABELS_FILE: "\n".join(contract.labels) + "\n", CONTRACT_FILE: contract.to_json()}
    )


def _archive(files: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            # A fixed date: the same model gives the same file.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)
    return content.getvalue()


def _with_buffer(flatbuffer: bytes, name: str, content: bytes) -> bytes:
    """Add a named metadata buffer to a TFLite flatbuffer, and the signature where it has none."""
    import numpy as np
    from tensorflow.lite.python import schema_py_generated as schema

    model = read_flatbuffer(flatbuffer)
    if not model.signatureDefs:
        add_signature(model)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(content, np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = name, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return write_flatbuffer(model)


def _metadata(contract: Contract) -> bytes:
    import flatbuffers

    write = _Writer(flatbuffers.Builder(1024))
    size = contract.image_size
    image = write.table({0: ("int8", COLOR_SPACE_RGB), 1: write.table({0: ("uint32", size), 1: ("uint32", size)})})
    face = write.table(
        {
            0: write.text("face"),
            1: write.text(f"A face, {size} x {size} pixels, RGB, bytes 0..255."),
            3: write.table({0: ("uint8", CONTENT_IMAGE), 1: image}),
            4: write.tables(
                [
                    write.table(
                        {
                            0: ("uint8", OPTIONS_NORMALIZATION),
                            1: write.table({0: write.floats([0.0]), 1: write.floats([1.0])}),
                        }
                    )
                ]
            ),
            5: write.table({0: write.floats([255.0]), 1: write.floats([0.0])}),
        }
    )
    labels = _file(write, LABELS_FILE, "Label names in output order.", TENSOR_AXIS_LABELS)
    probabilities = write.table(
        {
            0: write.text("probability"),
            1: write.text("Probability of each expression, softmax."),
            3: write.table({0: ("uint8", CONTENT_FEATURE), 1: write.table({})}),
            5: write.table({0: write.floats([1.0]), 1: write.floats([0.0])}),
            6: write.tables([labels]),
        }
    )
    subgraph = write.table({2: write.tables([face]), 3: write.tables([probabilities])})
    root = write.table(
        {
            0: write.text(f"{contract.architecture} facial expression classifier"),
            1: write.text(f"Expression of one face: {', '.join(contract.labels)}. Trained on {contract.data}."),
            2: write.text(contract.versions.get("fer-edge", "")),
            3: write.tables([subgraph]),
            4: write.text("fer-edge"),
            6: write.tables([_file(write, CONTRACT_FILE, "The fer-edge contract of this model.", DESCRIPTIONS)]),
            7: write.text(MIN_PARSER_VERSION),
        }
    )
    write.builder.Finish(root, file_identifier=METADATA_IDENTIFIER)
    return bytes(write.builder.Output())


def _file(write: "_Writer", name: str, description: str, kind: int) -> int:
    return write.table({0: write.text(name), 1: write.text(description), 2: ("int8", kind)})


class _Writer:
    """Writes flatbuffer tables bottom-up: children first, then the table that holds their offsets."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def text(self, value: str) -> int:
        return int(self.builder.CreateString(value))

    def floats(self, values: list[float]) -> int:
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.builder.PrependFloat32(value)
        return int(self.builder.EndVector())

    def tables(self, offsets: list[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def table(self, slots: dict[int, int | tuple[str, int]]) -> int:
        """Write a table; a slot is the offset of a child, or (type, value) of a scalar."""
        scalars = {
            "int8": self.builder.PrependInt8Slot,
            "uint8": self.builder.PrependUint8Slot,
            "uint32": self.builder.PrependUint32Slot,
        }
        self.builder.StartObject(max(slots, default=-1) + 1)
        for slot, value in slots.items():
            if isinstance(value, tuple):
                scalars[value[0]](slot, value[1], 0)
            else:
                self.builder.PrependUOffsetTRelativeSlot(slot, value, 0)
        return int(self.builder.EndObject())
