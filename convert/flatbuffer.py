"""Read and change TFLite flatbuffers: the signature, the uint8 interface, what operators a file has.

Source of the layout: the TFLite schema, version 3.
"""

from collections import Counter
from typing import Any

import numpy as np

from fer_edge.artifacts.contract import TFLITE_IDENTIFIER

SIGNATURE = "serving_default"
BUFFER_ALIGNMENT = 16  # bytes
INPUT_NAME, OUTPUT_NAME = "face", "probability"


def read_flatbuffer(content: bytes) -> Any:
    """Return the content of a .tflite file as the schema's object tree (ModelT)."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for buffer in model.buffers:
        if (
            buffer.offset > 1
        ):  # ai-edge-quantizer keeps the weights behind the flatbuffer, and offsets change when it is written
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def write_flatbuffer(model: Any) -> bytes:
    """Return an object tree (ModelT) as a flatbuffer."""
    import flatbuffers

    written: dict[tuple[str, bytes], int] = {}

    class SharingBuilder(flatbuffers.Builder):
        """Aligns the weights, and writes equal arrays once, as the zero points of int8: all zero, 16 bytes a channel."""

        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803 - the names are flatbuffers'
            # The schema asks for 16 bytes where the weights lie; the package aligns bytes to 1.
            return super().StartVector(elemSize, numElems, BUFFER_ALIGNMENT if alignment == 1 else alignment)

        def CreateNumpyVector(self, x: Any) -> int:  # noqa: N802
            key = (x.dtype.str, x.tobytes())
            if key not in written:
                written[key] = super().CreateNumpyVector(x)
            return written[key]

    builder = SharingBuilder(1024)
    builder.Finish(model.Pack(builder), file_identifier=TFLITE_IDENTIFIER)
    return bytes(builder.Output())


def sign(model: Any) -> None:
    """Give a model the signature ``serving_default``: ``face`` in, ``probability`` out. Changes ``model``."""
    from tensorflow.lite.python import schema_py_generated as schema

    def named(name: str, tensor: int) -> Any:
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, int(tensor)
        return entry

    graph = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
    signature.inputs, signature.outputs = [named(INPUT_NAME, graph.inputs[0])], [named(OUTPUT_NAME, graph.outputs[0])]
    model.signatureDefs = [signature]


def make_uint8_interface(model: Any) -> None:
    """Let a model with int8 or float32 input and output take and give uint8. Changes ``model``.

    One operator at each end: of int8 the same real values and the same scale, 128 added; of a float input each byte as it is,
    of a float output steps of 1/256.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    graph = model.subgraphs[0]

    def uint8_twin(index: int, scale: float) -> int:
        inner = graph.tensors[index]
        twin = schema.TensorT()
        twin.name, twin.shape, twin.type = inner.name + b"_uint8", inner.shape, schema.TensorType.UINT8
        twin.buffer, twin.quantization = 0, schema.QuantizationParametersT()
        if inner.type == schema.TensorType.FLOAT32:
            twin.quantization.scale, twin.quantization.zeroPoint = np.array([scale], np.float32), np.array([0], np.int64)
        else:
            twin.quantization.scale = inner.quantization.scale
            twin.quantization.zeroPoint = np.asarray(inner.quantization.zeroPoint) + 128
        graph.tensors.append(twin)
        return len(graph.tensors) - 1

    def convert(source: int, target: int) -> Any:
        operator = schema.OperatorT()
        kind = "Dequantize" if graph.tensors[target].type == schema.TensorType.FLOAT32 else "Quantize"
        operator.opcodeIndex = _operator_code(model, getattr(schema.BuiltinOperator, kind.upper()))
        operator.inputs, operator.outputs = [source], [target]
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{kind}Options")
        operator.builtinOptions = getattr(schema, f"{kind}OptionsT")()
        return operator

    face, probability = int(graph.inputs[0]), int(graph.outputs[0])
    graph.inputs, graph.outputs = [uint8_twin(face, 1.0)], [uint8_twin(probability, 1 / 256)]
    first, last = convert(graph.inputs[0], face), convert(probability, graph.outputs[0])
    graph.operators = [first, *graph.operators, last]
    sign(model)


def _operator_code(model: Any, builtin: int) -> int:
    from tensorflow.lite.python import schema_py_generated as schema

    for index, known in enumerate(model.operatorCodes):
        if max(known.builtinCode, known.deprecatedBuiltinCode) == builtin:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 2  # the first one that goes between uint8 and int8
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def operators(model: Any) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Count the operators of a model.

    Returns:
        Operators by name; those of them that compute with floats; those that are no built-ins (custom and Flex).
    """
    from tensorflow.lite.python import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    every: Counter[str] = Counter()
    floats: Counter[str] = Counter()
    custom: Counter[str] = Counter()
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            own = code.customCode
            builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
            name = own.decode() if own else names[builtin]
            every[name] += 1
            if own:
                custom[name] += 1
            if any(graph.tensors[t].type == schema.TensorType.FLOAT32 for t in (*operator.inputs, *operator.outputs) if t >= 0):
                floats[name] += 1
    return every, floats, custom
