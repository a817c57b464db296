"""Networks that are trained to teach the others: larger than a camera needs, and stronger on small gray faces."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

VGG19_BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # filters and convolutions of each block


def resnet18(gray: "keras.KerasTensor") -> "keras.KerasTensor":
    """ResNet-18 for small images: its first convolution is 3 x 3 at full resolution, without pooling.

    Args:
        gray: Tensor (batch, side, side, 1), 0..1.

    Returns:
        Tensor (batch, side / 8, side / 8, 512).
    """
    x = _relu(_normed(gray, 64, 1, "stem"), "stem")
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        for block in "ab":
            name = f"stage{stage}{block}"
            stride = 2 if stage > 1 and block == "a" else 1
            inner = _relu(_normed(x, filters, stride, f"{name}_1"), f"{name}_1")
            inner = _normed(inner, filters, 1, f"{name}_2")
            if stride > 1:
                x = _normed(x, filters, stride, f"{name}_shortcut", size=1)
            x = _relu(_add(x, inner, name), name)
    return x


def wide_resnet(gray: "keras.KerasTensor") -> "keras.KerasTensor":
    """WRN-28-4: 28 layers, four times as wide as the ResNet of CIFAR, normalized before each convolution.

    Args:
        gray: Tensor (batch, side, side, 1), 0..1.

    Returns:
        Tensor (batch, side / 4, side / 4, 256).
    """
    from keras import layers

    x = _convolution(gray, 16, 1, "stem")
    for stage, filters in enumerate((64, 128, 256), start=1):
        for block in "abcd":
            name = f"stage{stage}{block}"
            stride = 2 if stage > 1 and block == "a" else 1
            first = _relu(layers.BatchNormalization(name=f"{name}_bn")(x), f"{name}_0")
            inner = _relu(_normed(first, filters, stride, f"{name}_1"), f"{name}_1")
            inner = _convolution(inner, filters, 1, f"{name}_2")
            if block == "a":
                x = _convolution(first, filters, stride, f"{name}_shortcut", size=1)
            x = _add(x, inner, name)
    return _relu(layers.BatchNormalization(name="last_bn")(x), "last")


def vgg19(gray: "keras.KerasTensor") -> "keras.KerasTensor":
    """VGG19 with batch normalization and without its three fully connected layers.

    Args:
        gray: Tensor (batch, side, side, 1), 0..1.

    Returns:
        Tensor (batch, side / 32, side / 32, 512).
    """
    from keras import layers

    x = gray
    for block, (filters, count) in enumerate(VGG19_BLOCKS, start=1):
        for number in range(1, count + 1):
            name = f"block{block}_{number}"
            x = _relu(_normed(x, filters, 1, name), name)
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
    return x


def _convolution(x: "keras.KerasTensor", filters: int, stride: int, name: str, size: int = 3) -> "keras.KerasTensor":
    from keras import layers

    he = "he_normal"  # suits ReLU; Glorot's method is the default
    return layers.Conv2D(filters, size, stride, padding="same", use_bias=False, kernel_initializer=he, name=f"{name}_conv")(x)


def _normed(x: "keras.KerasTensor", filters: int, stride: int, name: str, size: int = 3) -> "keras.KerasTensor":
    from keras import layers

    return layers.BatchNormalization(name=f"{name}_bn")(_convolution(x, filters, stride, name, size))


def _relu(x: "keras.KerasTensor", name: str) -> "keras.KerasTensor":
    from keras import layers

    return layers.ReLU(name=f"{name}_relu")(x)


def _add(x: "keras.KerasTensor", other: "keras.KerasTensor", name: str) -> "keras.KerasTensor":
    from keras import layers

    return layers.Add(name=f"{name}_add")([x, other])
