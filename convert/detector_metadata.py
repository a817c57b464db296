"""Attach standard TFLite metadata and the contract to the .tflite file of a face detector."""

import hashlib
from dataclasses import replace

from fer_edge.artifacts.contract import CONTRACT_FILE
from fer_edge.artifacts.detector_contract import DetectorContract
from fer_edge.convert.flatbuffer import write_flatbuffer
from fer_edge.convert.metadata import (
    GRAYSCALE,
    IMAGE_PROPERTIES,
    MIN_PARSER_VERSION,
    NORMALIZATION_OPTIONS,
    Table,
    contract_entry,
    pack,
    with_archive,
    with_metadata,
)


def output_names(count: int) -> list[str]:
    """Return the names of the outputs of a detector: heat maps, then geometry maps."""
    half = count // 2
    return [f"heat_{index}" for index in range(half)] + [f"geometry_{index}" for index in range(half)]


def attach_detector(flatbuffer: bytes, contract: DetectorContract) -> bytes:
    """Return a complete detector file: the flatbuffer with standard metadata, then a zip archive with the contract.

    Args:
        flatbuffer: From quantize_detector.
        contract: The contract. Its digest is that of the flatbuffer in the result.
    """
    content = write_flatbuffer(with_metadata(flatbuffer, pack(_metadata(contract))))
    contract = replace(contract, flatbuffer_sha256=hashlib.sha256(content).hexdigest())
    return with_archive(content, {CONTRACT_FILE: contract.to_json()})


def _metadata(contract: DetectorContract) -> Table:
    size = Table("ImageSize", {"width": contract.width, "height": contract.height})
    content = {
        "content_properties_type": IMAGE_PROPERTIES,
        "content_properties": Table("ImageProperties", {"color_space": GRAYSCALE, "default_size": size}),
    }
    unchanged = Table("NormalizationOptions", {"mean": [0.0], "std": [1.0]})
    image = Table(
        "TensorMetadata",
        {
            "name": "image",
            "description": f"An image, {contract.width} x {contract.height} pixels, gray, bytes 0..255.",
            "content": Table("Content", content),
            "process_units": [Table("ProcessUnit", {"options_type": NORMALIZATION_OPTIONS, "options": unchanged})],
            "stats": Table("Stats", {"max": [255.0], "min": [0.0]}),
        },
    )
    outputs = [
        Table("TensorMetadata", {"name": name, "description": "See the contract in fer_edge.json."})
        for name in output_names(2 * len(contract.strides))
    ]
    return Table(
        "ModelMetadata",
        {
            "name": f"{contract.name} face detector",
            "description": "Faces with their eyes: a heat map and a geometry map per stride.",
            "version": contract.versions.get("fer-edge", ""),
            "subgraph_metadata": [
                Table("SubGraphMetadata", {"input_tensor_metadata": [image], "output_tensor_metadata": outputs})
            ],
            "author": "fer-edge",
            "associated_files": [contract_entry()],
            "min_parser_version": MIN_PARSER_VERSION,
        },
    )
