"""Quantizes and compiles a network for the IMX500: ``python imx500_worker.py JOB.json``, in the environment of Sony's tools.

That environment has another Python, numpy and TensorFlow than fer-edge, so this file imports nothing of fer-edge. A crash of
the tools ends this process only.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

PROGRAM = "imxconv-tf"
TARGET_CAPABILITIES = "4.0"  # of the tools' tables for the IMX500: 8 bits everywhere
BATCH = 32
MAX_SECONDS = 1700


def main(job_file: str) -> None:
    """Run the job and write its result, or its problem.

    Raises:
        OSError: If a file cannot be read or written.
    """
    job = json.loads(Path(job_file).read_text())
    try:
        result = compile_network(job)
    except Exception as error:  # the tools raise many types
        result = {"problem": (str(error).strip().splitlines() or [type(error).__name__])[0]}
    Path(job["result"]).write_text(json.dumps(result))


def compile_network(job: dict[str, Any]) -> dict[str, Any]:
    """Rebuild, quantize and compile a network.

    Args:
        job: ``layers`` (JSON) and ``weights`` (.npz) of LayerList; ``calibration`` and ``faces``, .npy files of uint8
            (n, size, size, 3); ``expected`` (.npy), the outputs of the source for the faces; ``min_agreement`` and
            ``max_difference`` of the outputs from them; ``outputs`` (.npy), where the outputs of the quantized network go;
            ``out``, folder for the compiler.

    Returns:
        ``float``, the comparison of compare; ``status``, that of the compiler; ``log``, its output.

    Raises:
        ValueError: If the rebuilt network gives other outputs than the source.
    """
    keras = importlib.import_module("tensorflow").keras
    with np.load(job["weights"]) as arrays:
        model = build(keras, json.loads(Path(job["layers"]).read_text()), dict(arrays))
    faces, calibration = np.load(job["faces"]), np.load(job["calibration"])
    found = compare(predict(model, faces), np.load(job["expected"]))
    if found["agreement"] < job["min_agreement"] or found["difference"] > job["max_difference"]:
        raise ValueError(
            f"the rebuilt network differs from the file: equal labels {100 * found['agreement']:.1f} % (minimum "
            f"{100 * job['min_agreement']:g} %), mean difference of a probability {found['difference']:.4f} (maximum "
            f"{job['max_difference']:g})"
        )
    quantized = quantize(model, calibration)
    np.save(job["outputs"], predict(quantized, faces))
    source = Path(job["out"]) / "quantized.keras"
    quantized.save(source)
    return {"float": found, **run_compiler(source, Path(job["out"]) / "compiled")}


def build(keras: Any, network: dict[str, Any], arrays: dict[str, Any]) -> Any:
    """Rebuild a network.

    Args:
        keras: Keras 2.
        network: LayerList.to_data().
        arrays: LayerList.arrays().
    """
    face = keras.Input(network["input_shape"], name="face")
    tensors = {network["input"]: face}
    built = []
    for number, layer in enumerate(network["layers"]):
        inputs = [tensors[index] for index in layer["inputs"]]
        made = getattr(keras.layers, layer["kind"])(name=f"{layer['kind'].lower()}_{number}", **layer["settings"])
        tensors[layer["output"]] = made(inputs if len(inputs) > 1 else inputs[0])
        built.append((number, made))
    model = keras.Model(face, tensors[network["output"]])
    for number, made in built:
        if made.weights:
            made.set_weights([arrays[f"{number}_{k}"] for k in range(len(made.weights))])
    return model


def predict(model: Any, faces: Any) -> Any:
    """Return the probabilities of faces.

    Args:
        model: A Keras model.
        faces: uint8 array (n, size, size, 3), RGB.
    """
    batches = [faces[start : start + BATCH].astype(np.float32) for start in range(0, len(faces), BATCH)]
    return np.concatenate([np.asarray(model(batch, training=False), np.float32) for batch in batches])


def compare(found: Any, expected: Any) -> dict[str, float]:
    """Compare two arrays of probabilities.

    Args:
        found: float32 array (n, classes), 0..1.
        expected: The same.

    Returns:
        ``agreement``, the fraction of equal labels, and ``difference``, the mean absolute difference.
    """
    equal = found.argmax(axis=1) == expected.argmax(axis=1)
    return {"agreement": float(equal.mean()), "difference": float(np.abs(found - expected).mean())}


def quantize(model: Any, calibration: Any) -> Any:
    """Quantize a network with Sony's quantizer, after training, to the 8 bits of the IMX500.

    Args:
        model: The Keras 2 model.
        calibration: uint8 array (n, size, size, 3), RGB.
    """
    toolkit, capabilities = importlib.import_module("model_compression_toolkit"), importlib.import_module("edgemdt_tpc")

    def batches() -> Any:
        for start in range(0, len(calibration), BATCH):
            yield [calibration[start : start + BATCH].astype(np.float32)]

    platform = capabilities.get_target_platform_capabilities(tpc_version=TARGET_CAPABILITIES, device_type="imx500")
    quantized, _ = toolkit.ptq.keras_post_training_quantization(model, batches, target_platform_capabilities=platform)
    return quantized


def run_compiler(source: Path, out: Path) -> dict[str, Any]:
    """Compile a quantized network.

    Args:
        source: The quantized Keras model.
        out: Folder for the files of the compiler.

    Returns:
        ``status`` and ``log``.
    """
    command = [str(Path(sys.executable).with_name(PROGRAM)), "-i", str(source), "-o", str(out), "--overwrite-output"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=MAX_SECONDS, check=False)
    return {"status": done.returncode, "log": done.stdout + done.stderr}


if __name__ == "__main__":
    main(sys.argv[1])
