"""Random numbers of the augmentation: new ones in every step, or always the same ones for one view of one face."""

import math
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import keras

GOLDEN_RATIO = -0x61C88647  # 2**32 divided by the golden ratio, as a signed number: spreads consecutive integers
FLOAT_BITS = 24  # of a hash, which a float32 in 0..1 can represent


class Draws(Protocol):
    """A source of random numbers, one or several for each face of a batch."""

    def uniform(self, shape: tuple[Any, ...], low: float = 0.0, high: float = 1.0, axis: int = 0) -> Any:
        """Return uniform numbers.

        Args:
            shape: Shape of the result. All sizes but that of ``axis`` are known when the graph is built.
            low: Lower bound.
            high: Upper bound, exclusive.
            axis: The axis of the faces.
        """

    def normal(self, shape: tuple[Any, ...], axis: int = 0) -> Any:
        """Return normal numbers with mean 0 and standard deviation 1.

        Args:
            shape: As for uniform.
            axis: The axis of the faces.
        """


class StepDraws:
    """New numbers in every step, from a generator of Keras."""

    def __init__(self, seed: "keras.random.SeedGenerator") -> None:
        """Keep the generator.

        Args:
            seed: The generator. Its state is part of a checkpoint.
        """
        self._seed = seed

    def uniform(self, shape: tuple[Any, ...], low: float = 0.0, high: float = 1.0, axis: int = 0) -> Any:
        """Return uniform numbers.

        Args:
            shape: See Draws.
            low: See Draws.
            high: See Draws.
            axis: See Draws.
        """
        import keras

        del axis
        return keras.random.uniform(shape, low, high, seed=self._seed)

    def normal(self, shape: tuple[Any, ...], axis: int = 0) -> Any:
        """Return normal numbers.

        Args:
            shape: See Draws.
            axis: See Draws.
        """
        import keras

        del axis
        return keras.random.normal(shape, seed=self._seed)


class ViewDraws:
    """Numbers that depend on the face and on the number of its view only, whatever else is in the batch.

    They are hashes in integer arithmetic, so they are the same on every backend and device: a view whose teachers' outputs were
    computed on a GPU has the same pixels in a training on a CPU.
    """

    def __init__(self, faces: Any, views: Any) -> None:
        """Start the numbers of a batch.

        Args:
            faces: int32 tensor (batch,), numbers of the faces.
            views: int32 tensor (batch,), numbers of their views.
        """
        self._key = _hash(_hash(views) + faces * GOLDEN_RATIO)
        self._drawn = 0  # numbers per face so far

    def uniform(self, shape: tuple[Any, ...], low: float = 0.0, high: float = 1.0, axis: int = 0) -> Any:
        """Return uniform numbers.

        Args:
            shape: See Draws.
            low: See Draws.
            high: See Draws.
            axis: See Draws.
        """
        from keras import ops

        sizes = [size for place, size in enumerate(shape) if place != axis]
        count = math.prod(sizes)
        numbers = ops.arange(self._drawn + 1, self._drawn + count + 1, dtype="int32") * GOLDEN_RATIO
        self._drawn += count
        bits = _shift_right(_hash(self._key[:, None] + numbers[None]), 32 - FLOAT_BITS)
        fractions = ops.reshape(ops.cast(bits, "float32") * 2.0**-FLOAT_BITS, (-1, *sizes))
        return low + (high - low) * ops.moveaxis(fractions, 0, axis)

    def normal(self, shape: tuple[Any, ...], axis: int = 0) -> Any:
        """Return normal numbers, by the method of Box and Muller.

        Args:
            shape: See Draws.
            axis: See Draws.
        """
        from keras import ops

        length = ops.sqrt(-2.0 * ops.log(1.0 - self.uniform(shape, axis=axis)))
        return length * ops.cos(2.0 * math.pi * self.uniform(shape, axis=axis))


def _hash(values: Any) -> Any:
    """Return the finalizer of MurmurHash3, int32; the arithmetic wraps around.

    Source: Austin Appleby, public domain, https://github.com/aappleby/smhasher.
    """
    from keras import ops

    values = ops.bitwise_xor(values, _shift_right(values, 16)) * -0x7A143595
    values = ops.bitwise_xor(values, _shift_right(values, 13)) * -0x3D4D51CB
    return ops.bitwise_xor(values, _shift_right(values, 16))


def _shift_right(values: Any, bits: int) -> Any:
    """Return int32 values shifted to the right, filled with zeros. Keras repeats the sign instead."""
    from keras import ops

    return ops.bitwise_and(ops.right_shift(values, bits), (1 << (32 - bits)) - 1)
