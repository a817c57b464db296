"""Read and change TFLite flatbuffers: signature, uint8 input and output, operator codes, operator counts.

Source of the layout: the TFLite schema, version 3.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from fer_edge.artifacts.contract import TFLITE_IDENTIFIER, OutputQuantization

SIGNATURE = "serving_default"
BUFFER_ALIGNMENT = 16  # bytes
INPUT_NAME, OUTPUT_NAME = "face", "probability"
MAX_DEPRECATED_CODE = 127  # the deprecated field is one signed byte
# Version of each operator that first takes int8; version 1 of the others does. ai-edge-quantizer leaves 1 everywhere.
# Source: tensorflow/lite/tools/versioning/op_version.cc.
INT8_VERSIONS = {
    "ADD": 2,
    "AVERAGE_POOL_2D": 2,
    "CONCATENATION": 2,
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "DEQUANTIZE": 2,
    "FULLY_CONNECTED": 4,
    "LOGISTIC": 2,
    "MAX_POOL_2D": 2,
    "MEAN": 2,
    "MUL": 2,
    "PAD": 2,
    "RESIZE_NEAREST_NEIGHBOR": 2,
    "SOFTMAX": 2,
    "SUB": 2,
}


def read_flatbuffer(content: bytes) -> Any:
    """Return the content of a .tflite file as the schema's object tree (ModelT)."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    for buffer in model.buffers:
        if buffer.offset > 1:  # ai-edge-quantizer stores weights after the flatbuffer; write_flatbuffer changes offsets
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def write_flatbuffer(model: Any) -> bytes:
    """Return an object tree (ModelT) as a flatbuffer. Changes the operator codes and versions of ``model``."""
    import flatbuffers

    written: dict[tuple[str, bytes], int] = {}

    class SharingBuilder(flatbuffers.Builder):
        """Aligns the weights, and writes equal arrays once, such as the zero points of int8 (16 bytes per channel)."""

        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803 - flatbuffers' names
            # The schema requires 16 bytes for weights; the package aligns bytes to 1.
            return super().StartVector(elemSize, numElems, BUFFER_ALIGNMENT if alignment == 1 else alignment)

        def CreateNumpyVector(self, x: Any) -> int:  # noqa: N802
            key = (x.dtype.str, x.tobytes())
            if key not in written:
                written[key] = super().CreateNumpyVector(x)
            return written[key]

    _correct_operator_codes(model)
    builder = SharingBuilder(1024)
    builder.Finish(model.Pack(builder), file_identifier=TFLITE_IDENTIFIER)
    return bytes(builder.Output())


def _correct_operator_codes(model: Any) -> None:
    """Set the deprecated code of each operator, and the version that its int8 tensors need."""
    from tensorflow.lite.python import schema_py_generated as schema

    for code in model.operatorCodes:
        # ai-edge-quantizer leaves 0 for QUANTIZE and DEQUANTIZE, which readers of the deprecated field take for ADD.
        code.deprecatedBuiltinCode = min(MAX_DEPRECATED_CODE, _builtin_code(code))
    names = _operator_names()
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            if graph.tensors[operator.inputs[0]].type == schema.TensorType.INT8:
                code.version = max(code.version, INT8_VERSIONS.get(names[_builtin_code(code)], 1))


def _operator_names() -> dict[int, str]:
    from tensorflow.lite.python import schema_py_generated as schema

    return {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


def output_quantization(model: Any) -> OutputQuantization | None:
    """Return scale and zero point of the output of a model (ModelT); None for a float output."""
    graph = model.subgraphs[0]
    quantization = graph.tensors[graph.outputs[0]].quantization
    if quantization is None or quantization.scale is None or not len(quantization.scale):
        return None
    return OutputQuantization(float(quantization.scale[0]), int(quantization.zeroPoint[0]))


def add_signature(model: Any, input_name: str = INPUT_NAME, output_names: Sequence[str] = (OUTPUT_NAME,)) -> None:
    """Add the signature ``serving_default``. Changes ``model``.

    Args:
        model: From read_flatbuffer.
        input_name: Name of the input.
        output_names: Name of each output.
    """
    from tensorflow.lite.python import schema_py_generated as schema

    def entry(name: str, tensor: int) -> Any:
        result = schema.TensorMapT()
        result.name, result.tensorIndex = name, int(tensor)
        return result

    graph = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
    signature.inputs = [entry(input_name, graph.inputs[0])]
    signature.outputs = [entry(name, tensor) for name, tensor in zip(output_names, graph.outputs, strict=True)]
    model.signatureDefs = [signature]


def make_uint8_interface(model: Any) -> None:
    """Give a model with int8 or float32 input and output uint8 ones. Changes ``model``.

    This adds one operator at each end. An int8 tensor keeps its scale, with 128 added to the zero point. A float input takes
    each byte as its value, and a float output has steps of 1/256.
    """
    make_uint8_input(model)
    graph = model.subgraphs[0]
    probability = int(graph.outputs[0])
    graph.outputs = [_uint8_tensor(graph, probability, 1 / 256)]
    graph.operators = [*graph.operators, _conversion(model, probability, graph.outputs[0])]
    add_signature(model)


def make_uint8_input(model: Any) -> None:
    """Give a model with an int8 or float32 input a uint8 one, see make_uint8_interface. Changes ``model``."""
    graph = model.subgraphs[0]
    inner = int(graph.inputs[0])
    graph.inputs = [_uint8_tensor(graph, inner, 1.0)]
    graph.operators = [_conversion(model, graph.inputs[0], inner), *graph.operators]


def _uint8_tensor(graph: Any, index: int, scale: float) -> int:
    """Add a uint8 tensor that stands for another one to a graph, and return its index."""
    from tensorflow.lite.python import schema_py_generated as schema

    inner = graph.tensors[index]
    outer = schema.TensorT()
    outer.name, outer.shape, outer.type = inner.name + b"_uint8", inner.shape, schema.TensorType.UINT8
    outer.buffer, outer.quantization = 0, schema.QuantizationParametersT()
    if inner.type == schema.TensorType.FLOAT32:
        outer.quantization.scale, outer.quantization.zeroPoint = np.array([scale], np.float32), np.array([0], np.int64)
    else:
        outer.quantization.scale = inner.quantization.scale
        outer.quantization.zeroPoint = np.asarray(inner.quantization.zeroPoint) + 128
    graph.tensors.append(outer)
    return len(graph.tensors) - 1


def _conversion(model: Any, source: int, target: int) -> Any:
    """Return the operator that converts a tensor to the type of another one."""
    from tensorflow.lite.python import schema_py_generated as schema

    operator = schema.OperatorT()
    to_float = model.subgraphs[0].tensors[target].type == schema.TensorType.FLOAT32
    kind = "Dequantize" if to_float else "Quantize"
    operator.opcodeIndex = _operator_code(model, getattr(schema.BuiltinOperator, kind.upper()))
    operator.inputs, operator.outputs = [source], [target]
    operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{kind}Options")
    operator.builtinOptions = getattr(schema, f"{kind}OptionsT")()
    return operator


def _operator_code(model: Any, builtin: int) -> int:
    """Return the index of an operator code. It is added if the model lacks it."""
    from tensorflow.lite.python import schema_py_generated as schema

    for index, code in enumerate(model.operatorCodes):
        if _builtin_code(code) == builtin:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode, code.version = builtin, 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _builtin_code(code: Any) -> int:
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))


def operators(model: Any) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Count the operators of a model.

    Args:
        model: From read_flatbuffer.

    Returns:
        All operators by name; those that compute in float; those that are not built-ins (custom and Flex).
    """
    from tensorflow.lite.python import schema_py_generated as schema

    names = _operator_names()
    all_operators: Counter[str] = Counter()
    float_operators: Counter[str] = Counter()
    custom_operators: Counter[str] = Counter()
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            name = code.customCode.decode() if code.customCode else names[_builtin_code(code)]
            all_operators[name] += 1
            if code.customCode:
                custom_operators[name] += 1
            if any(graph.tensors[t].type == schema.TensorType.FLOAT32 for t in (*operator.inputs, *operator.outputs) if t >= 0):
                float_operators[name] += 1
    return all_operators, float_operators, custom_operators
