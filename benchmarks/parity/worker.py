"""Runs .tflite files in one Python runtime, in an environment that may lack fer-edge: ``python worker.py JOB.json``.

The job names the adapter and module of the runtime, a file of results, and the models with their inputs and where their outputs
go (.npy). The file of results gets a JSON line per model when it is finished, so that a crash shows which model caused it.
"""

import importlib
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(job_file: str) -> None:
    """Run the job.

    Raises:
        OSError: If a file cannot be read or written.
    """
    job = json.loads(Path(job_file).read_text())
    adapter = ADAPTERS[job["adapter"]]
    with Path(job["results"]).open("a") as results:
        for model in job["models"]:
            result: dict[str, Any] = {"model": model["path"], "version": _version(job["package"])}
            try:
                outputs, names = adapter(job["module"], model, np.load(model["inputs"]))
                np.save(model["outputs"], outputs)
                result["labels"] = names
            except Exception as error:  # each runtime raises other types
                result["problem"] = f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}"
            results.write(json.dumps(result) + "\n")
            results.flush()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def run_interpreter(module: str, model: dict[str, Any], faces: Any) -> tuple[Any, None]:
    """Run a model in the Interpreter of LiteRT or tflite-runtime.

    Args:
        module: The module that has the class.
        model: Its entry in the job.
        faces: uint8 array (n, size, size, 3), RGB.

    Returns:
        The outputs, array (n, classes), and None: an interpreter does not read the labels.
    """
    return _interpret(importlib.import_module(module).Interpreter, model, faces)


def run_tensorflow(module: str, model: dict[str, Any], faces: Any) -> tuple[Any, None]:
    """Run a model in TensorFlow's interpreter.

    Args:
        module: ``tensorflow``.
        model: Its entry in the job.
        faces: uint8 array (n, size, size, 3), RGB.
    """
    return _interpret(importlib.import_module(module).lite.Interpreter, model, faces)


def _interpret(interpreter_class: Any, model: dict[str, Any], faces: Any) -> tuple[Any, None]:
    interpreter = interpreter_class(model_path=model["path"], num_threads=1)
    interpreter.allocate_tensors()
    (face,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    results = []
    for image in faces:
        interpreter.set_tensor(face["index"], image[None].astype(face["dtype"]))
        interpreter.invoke()
        results.append(interpreter.get_tensor(output["index"])[0].copy())
    return np.stack(results), None


def run_compiled_model(module: str, model: dict[str, Any], faces: Any) -> tuple[Any, None]:
    """Run a model in LiteRT's CompiledModel on the CPU.

    Args:
        module: The module that has the class.
        model: Its entry in the job.
        faces: uint8 array (n, size, size, 3), RGB.
    """
    api = importlib.import_module(module)
    compiled = api.CompiledModel.from_file(model["path"], hardware_accel=api.HardwareAccelerator.CPU)
    inputs, outputs = compiled.create_input_buffers(0), compiled.create_output_buffers(0)
    dtype = np.uint8 if model["scale"] else np.float32
    results = []
    for image in faces:
        inputs[0].write(np.ascontiguousarray(image, dtype))
        compiled.run_by_index(0, inputs, outputs)
        results.append(np.array(outputs[0].read(model["classes"], dtype)).copy())
    return np.stack(results), None


def run_mediapipe(module: str, model: dict[str, Any], faces: Any) -> tuple[Any, list[str]]:
    """Run a model in MediaPipe's ImageClassifier, which reads labels and normalization from the file.

    Args:
        module: ``mediapipe``.
        model: Its entry in the job.
        faces: uint8 array (n, size, size, 3), RGB.

    Returns:
        The outputs, array (n, classes), and the labels that MediaPipe read, in output order.
    """
    mediapipe = importlib.import_module(module)
    tasks = importlib.import_module(f"{module}.tasks.python")
    options = tasks.vision.ImageClassifierOptions(tasks.BaseOptions(model_asset_path=model["path"]), max_results=-1)
    scores = np.zeros((len(faces), model["classes"]), np.float32)
    names = [""] * model["classes"]
    with tasks.vision.ImageClassifier.create_from_options(options) as classifier:
        for number, image in enumerate(faces):
            frame = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(image))
            for category in classifier.classify(frame).classifications[0].categories:
                scores[number, category.index] = category.score
                names[category.index] = category.category_name
    return quantized(scores, model["scale"], model["zero_point"]), names


def quantized(scores: Any, scale: float | None, zero_point: int) -> Any:
    """Return scores as the bytes that the model output; scores of a float model stay as they are.

    Args:
        scores: float array, probabilities.
        scale: Scale of the output; None for a float output.
        zero_point: Its zero point.
    """
    return np.rint(scores / np.float32(scale) + zero_point).astype(np.uint8) if scale else scores


ADAPTERS = {
    "interpreter": run_interpreter,
    "tensorflow": run_tensorflow,
    "compiled_model": run_compiled_model,
    "mediapipe": run_mediapipe,
}

if __name__ == "__main__":
    main(sys.argv[1])
