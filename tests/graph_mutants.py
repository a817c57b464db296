"""Kinds of changes to the object tree of a .tflite flatbuffer, see mutants.py."""

import functools
import math
import pickle

import numpy as np

WIDE_OPTIONS = ("stride", "dilation", "filter", "depth")  # numbers of 32 bits
SIZES = (2**31 - 1, 2**30, 2**20, 65537, 65536, 40000, 0, -1, -(2**31))


@functools.cache
def pickled_model(flatbuffer):
    """The object tree of a flatbuffer; copies of it are made four times as fast as new ones."""
    from ai_edge_litert import schema_py_generated as schema

    return pickle.dumps(schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0)))


def objects(change):
    """A kind that changes the object tree of the flatbuffer."""

    def mutate(original, rng):
        import flatbuffers
        from ai_edge_litert import schema_py_generated as schema

        model = pickle.loads(pickled_model(original.flatbuffer))
        change(model, rng, schema)
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output()) + original.tail

    return mutate


def a_tensor(model, rng):
    return rng.choice(model.subgraphs[0].tensors)


def an_operator(model, rng):
    return rng.choice(model.subgraphs[0].operators)


def tensor_field(field, *values):
    return objects(lambda model, rng, schema: setattr(a_tensor(model, rng), field, rng.choice(values)))


def graph_field(field, *values):
    return objects(lambda model, rng, schema: setattr(model.subgraphs[0], field, rng.choice(values)))


def operator_field(field, *values):
    return objects(lambda model, rng, schema: setattr(an_operator(model, rng), field, rng.choice(values)))


def code_field(field, values):
    def change(model, rng, schema):
        code, value = rng.choice(model.operatorCodes), rng.choice(values)
        setattr(code, field, value)
        if field == "builtinCode":
            code.deprecatedBuiltinCode = min(value, 127)

    return objects(change)


def huge_shape(model, rng, schema):
    tensor = a_tensor(model, rng)
    shape = [int(size) for size in tensor.shape] if tensor.shape is not None and len(tensor.shape) else [1]
    shape[rng.randrange(len(shape))] = rng.choice(SIZES)
    tensor.shape = shape


def input_shape(model, rng, schema):
    graph = model.subgraphs[0]
    shapes = [[1, 47, 48, 3], [2, 48, 48, 3], [1, 4000, 4000, 3], [1, 48, 48, 4], [1, 20000, 20000, 3], [1, 48, 48, 3, 1]]
    graph.tensors[int(graph.inputs[0])].shape = rng.choice(shapes)


def operator_tensors(field, values):
    def change(model, rng, schema):
        operator, count = an_operator(model, rng), len(model.subgraphs[0].tensors)
        indices = list(map(int, getattr(operator, field)))
        indices[rng.randrange(len(indices))] = rng.choice(
            [*values, count, count + 1, rng.randrange(count), rng.randrange(count)]
        )
        setattr(operator, field, indices)

    return objects(change)


def operator_count(model, rng, schema):
    operator = an_operator(model, rng)
    inputs = list(map(int, operator.inputs))
    operator.inputs = rng.choice([[], inputs[:1], inputs * 2, inputs * 100, None])


def swap_operators(model, rng, schema):
    operators = model.subgraphs[0].operators
    first, second = rng.randrange(len(operators)), rng.randrange(len(operators))
    operators[first], operators[second] = operators[second], operators[first]
    if rng.random() < 0.5:
        operators[first].inputs = [int(operators[first].outputs[0]), *map(int, operators[first].inputs[1:])]


def option(values, words=("",)):
    """Change a number in the options of an operator whose name has one of these words."""

    def change(model, rng, schema):
        operator = an_operator(model, rng)
        options = operator.builtinOptions
        names = [name for name, value in vars(options).items() if type(value) is int] if options else []
        names = [name for name in names if any(word in name for word in words)]
        if names:
            setattr(options, rng.choice(names), rng.choice(values))
        else:
            operator.builtinOptionsType = rng.randrange(30)

    return objects(change)


def no_options(model, rng, schema):
    operator = an_operator(model, rng)
    operator.builtinOptions, operator.builtinOptionsType = None, rng.choice([0, operator.builtinOptionsType])


def scales(model, rng, schema):
    quantization = a_tensor(model, rng).quantization
    if quantization is None or quantization.scale is None:
        return
    value = rng.choice([0.0, math.nan, math.inf, -1.0, 1e38, 1e-45, 1e-20, 2.0])
    quantization.scale = [value] * rng.choice([len(quantization.scale), 1, 2, 1000])


def zero_points(model, rng, schema):
    quantization = a_tensor(model, rng).quantization
    if quantization is not None and quantization.scale is not None:
        quantization.zeroPoint = [rng.choice([-129, 256, 2**62, -(2**62), 127, -128])] * len(quantization.scale)


def axis(model, rng, schema):
    quantization = a_tensor(model, rng).quantization
    if quantization is not None:
        quantization.quantizedDimension = rng.choice([-1, 1, 2, 4, 100, 2**31 - 1])


def output_scale(model, rng, schema):
    graph = model.subgraphs[0]
    quantization = graph.tensors[int(graph.outputs[0])].quantization
    quantization.scale = [rng.choice([0.0, math.nan, math.inf, -1 / 256, 1.0, 0.5, 1e-3, 2e-5, 1e30])]
    quantization.zeroPoint = [rng.choice([0, 0, 128, 255])]


def constant(change_bytes):
    def change(model, rng, schema):
        buffer = model.buffers[a_tensor(model, rng).buffer]
        if buffer.data is not None and len(buffer.data):
            buffer.data = change_bytes(np.array(buffer.data, np.uint8), rng)

    return objects(change)


def random_bytes(data, rng):
    return rng.choice([np.full_like(data, rng.choice([0, 127, 255])), np.frombuffer(rng.randbytes(len(data)), np.uint8)])


def subgraphs(model, rng, schema):
    graph = model.subgraphs[0]
    model.subgraphs = rng.choice([[], None, [graph, graph]])


def signature(model, rng, schema):
    for entry in model.signatureDefs:
        entry.subgraphIndex = rng.choice([0, 1, 2**31])
        for tensor in [*entry.inputs, *entry.outputs]:
            tensor.tensorIndex = rng.choice([0, 10**6, 2**32 - 1])


def sparsity(model, rng, schema):
    parameters = schema.SparsityParametersT()
    parameters.traversalOrder, parameters.blockMap, parameters.dimMetadata = rng.choice([[0, 1, 2, 3], [100], []]), [], []
    a_tensor(model, rng).sparsity = parameters


def large_buffer(model, rng, schema):
    buffer = model.buffers[a_tensor(model, rng).buffer]
    buffer.offset, buffer.size = rng.choice([1, 2, 100, 2**40, 2**64 - 1]), rng.choice([1, 1000, 2**40, 2**64 - 1])
    if rng.random() < 0.7:
        buffer.data = None


def control_flow(model, rng, schema):
    code = rng.choice(model.operatorCodes)
    names = ("WHILE", "IF", "CALL_ONCE", "CUSTOM")
    code.builtinCode = getattr(schema.BuiltinOperator, rng.choice(names))
    code.deprecatedBuiltinCode, code.customCode = min(code.builtinCode, 127), rng.choice(["FlexAdd", "", None])


GRAPH_KINDS = {
    "huge_shape": objects(huge_shape),
    "shape_rank": tensor_field("shape", [], [1], [1] * 9, [1, 48, 48], [48, 48, 3, 1], [0], None),
    "input_shape": objects(input_shape),
    "type": tensor_field("type", *range(19), 100, 127),
    "buffer_index": tensor_field("buffer", 0, 1, 2, 3, 10**6, 2**32 - 1),
    "variable": tensor_field("isVariable", True),
    "operator_input": operator_tensors("inputs", [-1, -2, 2**31 - 1, -(2**31)]),
    "operator_output": operator_tensors("outputs", [-1, 0]),
    "operator_count": objects(operator_count),
    "swap_operators": objects(swap_operators),
    "operator_version": code_field("version", [0, 1, 2, 3, 5, 9, 100, -1, 2**31 - 1]),
    "operator_code": code_field("builtinCode", range(210)),
    "operator_index": operator_field("opcodeIndex", 0, 1, 2, 3, 100, 10**6, 2**32 - 1),
    "option": option([0, 1, 2, 3, 7, 100, 127]),
    "option_big": option([0, -1, 2**16, 10**6, 2**31 - 1], WIDE_OPTIONS),
    "no_options": objects(no_options),
    "scales": objects(scales),
    "zero_points": objects(zero_points),
    "axis": objects(axis),
    "output_scale": objects(output_scale),
    "short_constant": constant(lambda data, rng: data[: rng.choice([0, 1, len(data) // 2, len(data) - 1])]),
    "constant_values": constant(random_bytes),
    "graph_input": graph_field("inputs", [], [10**6], [-1], [0, 1], [5], None),
    "graph_output": graph_field("outputs", [], [10**6], [-1], [0], [5], None),
    "subgraphs": objects(subgraphs),
    "signature": objects(signature),
    "sparsity": objects(sparsity),
    "large_buffer": objects(large_buffer),
    "control_flow": objects(control_flow),
}
