"""Mixed precision where it is faster: on GPUs, and for some networks on CPUs with bfloat16 instructions."""

from pathlib import Path

# Measured with TensorFlow: with mixed_bfloat16, VGG16 trains twice as fast and MobileNetV2 half as fast on a CPU with AMX; cnn
# and cnn_nano train 1.14 times as fast on a CPU with AVX-512 and bfloat16.
FASTER_ON_CPU = ("vgg16", "cnn", "cnn_nano")
BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16"}


PRECISIONS = ("auto", "float32", "mixed_bfloat16")


def check_precision(precision: str) -> None:
    """Check the name of a precision.

    Raises:
        ValueError: If it is not one of PRECISIONS.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision '{precision}'; choose one of: {', '.join(PRECISIONS)}")


def choose_precision(network: str, precision: str) -> str:
    """Return the Keras dtype policy for training.

    Args:
        network: Name of the network.
        precision: ``auto``, ``float32`` or ``mixed_bfloat16``.

    Raises:
        ValueError: If ``precision`` is another word.
    """
    check_precision(precision)
    if precision != "auto":
        return precision
    if _has_gpu() or (network in FASTER_ON_CPU and _cpu_has_bfloat16()):
        return "mixed_bfloat16"
    return "float32"


def _has_gpu() -> bool:
    import keras

    if keras.backend.backend() == "torch":  # Keras lists no devices for it
        import torch

        return bool(torch.cuda.is_available())
    # list_devices("gpu") would raise under JAX without a GPU. A TPU counts too.
    return any(not name.lower().startswith("cpu") for name in keras.distribution.list_devices())


def _cpu_has_bfloat16() -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return False
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    return bool(BFLOAT16_FLAGS & set(flags.split()))
