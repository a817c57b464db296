"""Check that the runtimes of apps take a converted model. Measured with MediaPipe Tasks 1.2 and LiteRT.js 2.5."""

from typing import Any

CHANNELS = 3


def check_portable(model: Any) -> None:
    """Check input and output of a converted model.

    Args:
        model: From read_flatbuffer (ModelT).

    Raises:
        ValueError: If MediaPipe or LiteRT.js would reject the model. The message has every reason.
    """
    problems = portability_problems(model)
    if problems:
        raise ValueError(
            f"the converted model is rejected: {'; '.join(problems)}. Convert the run again with --int8 or --float16"
        )


def portability_problems(model: Any) -> list[str]:
    """Return why MediaPipe or LiteRT.js would reject a model; empty if they take it.

    Args:
        model: From read_flatbuffer (ModelT).
    """
    from tensorflow.lite.python.schema_py_generated import TensorType

    names = {value: name.lower() for name, value in vars(TensorType).items() if isinstance(value, int)}
    graph = model.subgraphs[0]
    problems = []
    for end, indices in (("input", graph.inputs), ("output", graph.outputs)):
        if len(indices) != 1:
            problems.append(f"it has {len(indices)} {end}s, and apps expect one")
        for tensor in (graph.tensors[index] for index in indices):
            if tensor.type not in (TensorType.UINT8, TensorType.FLOAT32):
                problems.append(f"the {end} is {names[tensor.type]}, and MediaPipe and LiteRT.js take only uint8 and float32")
            signature = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
            shape = [int(size) for size in signature]
            if not shape or shape[0] != 1:
                problems.append(f"the {end} has the shape {shape}, and LiteRT.js takes only a fixed batch of 1")
            if end == "input" and (len(shape) != 4 or shape[3] != CHANNELS):
                problems.append(f"the input has the shape {shape}, and MediaPipe takes only images of {CHANNELS} channels")
    return problems
