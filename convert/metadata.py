"""Attach standard TFLite metadata, the labels and the contract to a .tflite file.

No light package contains generated code for the metadata schema (tflite-support does, with a C++ library), so the tables that
are used are declared here. Source: the TFLite metadata schema 1.5 (file identifier M001).
"""

import hashlib
import io
import zipfile
from dataclasses import dataclass, replace
from typing import Any

from fer_edge.artifacts.contract import CONTRACT_FILE, LABELS_FILE, Contract
from fer_edge.convert.flatbuffer import add_signature, output_quantization, read_flatbuffer, write_flatbuffer
from fer_edge.convert.portability import check_portable

METADATA_NAME = "TFLITE_METADATA"
METADATA_IDENTIFIER = b"M001"
MIN_PARSER_VERSION = "1.0.0"
ARCHIVE_DATE = (1980, 1, 1, 0, 0, 0)  # constant, so that the same model gives the same file

# The first fields of each table, in the order of the schema: the index of a field is its slot.
TABLES = {
    "ModelMetadata": "name description version subgraph_metadata author license associated_files min_parser_version",
    "SubGraphMetadata": "name description input_tensor_metadata output_tensor_metadata",
    "TensorMetadata": "name description dimension_names content process_units stats associated_files",
    "AssociatedFile": "name description type",
    "Content": "content_properties_type content_properties",
    "FeatureProperties": "",
    "ImageProperties": "color_space default_size",
    "ImageSize": "width height",
    "ProcessUnit": "options_type options",
    "NormalizationOptions": "mean std",
    "Stats": "max min",
}
SCALARS = {  # type by field name
    "type": "Int8",
    "color_space": "Int8",
    "content_properties_type": "Uint8",
    "options_type": "Uint8",
    "width": "Uint32",
    "height": "Uint32",
}
# Enumerators and union tags of the schema.
DESCRIPTIONS, TENSOR_AXIS_LABELS = 1, 2  # AssociatedFileType
RGB, GRAYSCALE = 1, 2  # ColorSpaceType
FEATURE_PROPERTIES, IMAGE_PROPERTIES = 1, 2  # ContentProperties
NORMALIZATION_OPTIONS = 1  # ProcessUnitOptions


@dataclass(frozen=True)
class Table:
    """A table of the metadata schema.

    Attributes:
        kind: Name of the table, one of TABLES.
        fields: By field name: a number, a string, a table, or a list of floats or tables.
    """

    kind: str
    fields: dict[str, Any]


def attach(flatbuffer: bytes, contract: Contract) -> bytes:
    """Return a complete .tflite file: the flatbuffer with metadata, then a zip archive with labels and contract.

    Args:
        flatbuffer: The converted model.
        contract: The contract. Its output and digest are those of the flatbuffer in the result.

    Returns:
        The content of the file. TFLite interpreters read it, and so do zip readers.

    Raises:
        ValueError: If a runtime of apps would reject the model.
    """
    model = with_metadata(flatbuffer, pack(model_metadata(contract)))
    check_portable(model)
    content = write_flatbuffer(model)
    return append_contract(content, replace(contract, output=output_quantization(model)))


def append_contract(flatbuffer: bytes, contract: Contract) -> bytes:
    """Return a flatbuffer followed by a zip archive with labels and contract.

    Args:
        flatbuffer: The model. It stays as it is.
        contract: The contract. Its digest is that of the flatbuffer in the result.
    """
    contract = replace(contract, flatbuffer_sha256=hashlib.sha256(flatbuffer).hexdigest())
    return with_archive(flatbuffer, {LABELS_FILE: "\n".join(contract.labels) + "\n", CONTRACT_FILE: contract.to_json()})


def with_archive(flatbuffer: bytes, files: dict[str, str]) -> bytes:
    """Append a zip archive. Its offsets count from the start of the file: zip readers in JavaScript need that.

    Args:
        flatbuffer: The flatbuffer.
        files: Text of each file by name.
    """
    content = io.BytesIO(flatbuffer)
    with zipfile.ZipFile(content, "a") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, ARCHIVE_DATE), text)
    return content.getvalue()


def with_metadata(flatbuffer: bytes, metadata: bytes) -> Any:
    """Return a TFLite flatbuffer as an object tree (ModelT), with the metadata buffer, and a signature if it had none.

    Args:
        flatbuffer: The flatbuffer.
        metadata: From pack.
    """
    import numpy as np
    from tensorflow.lite.python import schema_py_generated as schema

    model = read_flatbuffer(flatbuffer)
    if not model.signatureDefs:
        add_signature(model)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(metadata, np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return model


def model_metadata(contract: Contract) -> Table:
    """Return the standard metadata of a model: an RGB image in bytes 0..255, probabilities, and the attached files."""
    size = contract.image_size
    image = Table("ImageProperties", {"color_space": RGB, "default_size": Table("ImageSize", {"width": size, "height": size})})
    unchanged = Table("NormalizationOptions", {"mean": [0.0], "std": [1.0]})
    face = Table(
        "TensorMetadata",
        {
            "name": "face",
            "description": f"A face, {size} x {size} pixels, RGB, bytes 0..255.",
            "content": Table("Content", {"content_properties_type": IMAGE_PROPERTIES, "content_properties": image}),
            "process_units": [Table("ProcessUnit", {"options_type": NORMALIZATION_OPTIONS, "options": unchanged})],
            "stats": Table("Stats", {"max": [255.0], "min": [0.0]}),
        },
    )
    feature = Table("FeatureProperties", {})
    probability = Table(
        "TensorMetadata",
        {
            "name": "probability",
            "description": "Probability of each expression, softmax.",
            "content": Table("Content", {"content_properties_type": FEATURE_PROPERTIES, "content_properties": feature}),
            "stats": Table("Stats", {"max": [1.0], "min": [0.0]}),
            "associated_files": [_file(LABELS_FILE, "Label names in output order.", TENSOR_AXIS_LABELS)],
        },
    )
    subgraph = Table("SubGraphMetadata", {"input_tensor_metadata": [face], "output_tensor_metadata": [probability]})
    return Table(
        "ModelMetadata",
        {
            "name": f"{contract.architecture} facial expression classifier",
            "description": f"Expression of one face: {', '.join(contract.labels)}. Trained on {contract.data}.",
            "version": contract.versions.get("fer-edge", ""),
            "subgraph_metadata": [subgraph],
            "author": "fer-edge",
            "associated_files": [contract_entry()],
            "min_parser_version": MIN_PARSER_VERSION,
        },
    )


def contract_entry() -> Table:
    """Return the metadata of the attached contract."""
    return _file(CONTRACT_FILE, "The fer-edge contract of this model.", DESCRIPTIONS)


def _file(name: str, description: str, kind: int) -> Table:
    return Table("AssociatedFile", {"name": name, "description": description, "type": kind})


def pack(root: Table) -> bytes:
    """Return a metadata table as a flatbuffer with the identifier of the schema."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(_pack(builder, root), file_identifier=METADATA_IDENTIFIER)
    return bytes(builder.Output())


def _pack(builder: Any, value: Any) -> int:
    """Write a value and return its offset. Flatbuffers are written bottom-up: children first."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, list):
        floats = [entry for entry in value if isinstance(entry, float)]
        offsets = [_pack(builder, entry) for entry in value if isinstance(entry, Table)]
        builder.StartVector(4, len(value), 4)
        for number in reversed(floats):
            builder.PrependFloat32(number)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())
    children = {name: _pack(builder, child) for name, child in value.fields.items() if name not in SCALARS}
    slots = TABLES[value.kind].split()
    builder.StartObject(len(slots))
    for name, field in value.fields.items():
        if name in SCALARS:
            getattr(builder, f"Prepend{SCALARS[name]}Slot")(slots.index(name), field, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slots.index(name), children[name], 0)
    return int(builder.EndObject())
