"""The first convolution over scaled RGB as one over gray: the input scaling of published weights becomes part of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ImageNetScaling:
    """Input scaling of a keras.applications network in its ImageNet training: (channel - mean) / std.

    Attributes:
        mean: Per channel, in the order R, G, B, in 0..255.
        std: Per channel, R, G, B, in 0..255.
        bgr: Whether the first convolution expects B, G, R.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool = False


MINUS_ONE_TO_ONE = ImageNetScaling(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
CAFFE = ImageNetScaling(mean=(123.68, 116.779, 103.939), std=(1.0, 1.0, 1.0), bgr=True)
TORCH = ImageNetScaling(mean=(0.485 * 255, 0.456 * 255, 0.406 * 255), std=(0.229 * 255, 0.224 * 255, 0.225 * 255))


def gray_stem_weights(
    kernel: npt.NDArray[np.float32], scaling: ImageNetScaling
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Convert a first convolution over scaled RGB to one over gray 0..1.

    For a gray image g in 0..1 each channel is (255 g - mean) / std. So the kernel is a weighted sum over channels, and the
    rest is an offset, which is exact everywhere except at the zero-padded border.

    Args:
        kernel: float32 array (height, width, 3, filters).
        scaling: ImageNet scaling of the network.

    Returns:
        The kernel (height, width, 1, filters) and the offset (filters,) to add to its result.
    """
    rgb = kernel[:, :, ::-1] if scaling.bgr else kernel
    factor = 255.0 / np.array(scaling.std)
    shift = -np.array(scaling.mean) / np.array(scaling.std)
    gray = np.einsum("hwcf,c->hwf", rgb, factor)[:, :, None]
    offset = np.einsum("hwcf,c->f", rgb, shift)
    return gray.astype(np.float32), offset.astype(np.float32)
