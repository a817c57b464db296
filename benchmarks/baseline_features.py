"""Features of the classical methods in baselines.py, and a hidden Markov model over pixel bands."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

GRID = 6  # cells per side: LBP histograms and Gabor magnitudes are pooled per cell
LBP_POINTS, LBP_RADIUS = 8, 1
GABOR_FREQUENCIES = (0.35, 0.25, 0.175, 0.125, 0.0884)  # cycles per pixel, about half an octave apart
GABOR_DIRECTIONS = 8
BAND_HEIGHT, BAND_STEP = 8, 4
BAND_COEFFICIENTS = (3, 8)  # of the discrete cosine transform of a band: rows, columns

Images = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


def standardized(images: Images) -> FloatArray:
    """Return the pixels of each face with mean 0 and deviation 1, float32 (n, pixels), of uint8 faces (n, size, size)."""
    pixels = images.reshape(len(images), -1).astype(np.float32)
    pixels -= pixels.mean(axis=1, keepdims=True)
    return np.asarray(pixels / np.maximum(pixels.std(axis=1, keepdims=True), 1e-3), np.float32)


def lbp_histograms(images: Images) -> FloatArray:
    """Return a histogram of uniform local binary patterns per cell, float32 (n, cells * patterns).

    Source: Shan et al., 2009, https://doi.org/10.1016/j.imavis.2008.08.005; Ojala et al., 2002.
    """
    from skimage.feature import local_binary_pattern

    patterns = LBP_POINTS * (LBP_POINTS - 1) + 3
    rows = []
    for image in images:
        codes = local_binary_pattern(image, LBP_POINTS, LBP_RADIUS, "nri_uniform").astype(np.intp)
        cells = [block for strip in np.array_split(codes, GRID) for block in np.array_split(strip, GRID, axis=1)]
        rows.append(np.concatenate([np.bincount(cell.ravel(), minlength=patterns) / cell.size for cell in cells]))
    return np.sqrt(np.array(rows, np.float32))  # the root makes distances those of Hellinger


def hog_cells(images: Images) -> FloatArray:
    """Return histograms of oriented gradients: cells of 8 pixels, blocks of 2 x 2 cells, float32 (n, dimensions).

    Source: Dalal and Triggs, 2005, https://doi.org/10.1109/CVPR.2005.177.
    """
    from skimage.feature import hog

    rows = [hog(image, orientations=9, pixels_per_cell=(8, 8), cells_per_block=(2, 2)) for image in images]
    return np.array(rows, np.float32)


def gabor(images: Images) -> FloatArray:
    """Return the mean magnitude of each Gabor filter per cell, float32 (n, filters * cells).

    Source: Bartlett et al., 2005, https://doi.org/10.1109/CVPR.2005.297: eight directions, frequencies half an octave apart.
    """
    from scipy.fft import fft2, ifft2

    size = images.shape[1]
    transfer, margin = _gabor_transfer(size), size // 4
    inside = slice(margin, margin + size)
    edges = np.linspace(0, size, GRID + 1).astype(int)[:-1]
    rows = []
    for face in standardized(images).reshape(images.shape):
        spectrum = fft2(np.pad(face, margin, "reflect"))
        magnitude = np.abs(ifft2(spectrum * transfer, overwrite_x=True)[:, inside, inside])
        rows.append(np.add.reduceat(np.add.reduceat(magnitude, edges, axis=1), edges, axis=2).ravel() / (size / GRID) ** 2)
    return np.array(rows, np.float32)


@cache
def _gabor_transfer(size: int) -> npt.NDArray[np.complex64]:
    """Return the spectrum of each filter, on faces padded by a quarter of their size. Larger filters are cut off."""
    from scipy.fft import fft2
    from skimage.filters import gabor_kernel

    side = size + 2 * (size // 4)
    spectra = []
    for frequency in GABOR_FREQUENCIES:
        for direction in range(GABOR_DIRECTIONS):
            kernel = gabor_kernel(frequency, theta=direction * np.pi / GABOR_DIRECTIONS, bandwidth=1)
            padded = np.zeros((side, side), np.complex128)
            rows, columns = (max(0, (length - side + 1) // 2) for length in kernel.shape)
            kernel = kernel[rows : rows + side, columns : columns + side]
            padded[: kernel.shape[0], : kernel.shape[1]] = kernel
            spectra.append(fft2(np.roll(padded, (-(kernel.shape[0] // 2), -(kernel.shape[1] // 2)), (0, 1))))
    return np.array(spectra, np.complex64)


def bands(pixels: FloatArray) -> FloatArray:
    """Return the low cosine coefficients of overlapping horizontal bands from top to bottom.

    Args:
        pixels: float32 array (n, size * size).

    Returns:
        float32 array (n, bands, coefficients).
    """
    from scipy.fft import dctn

    size = round(pixels.shape[1] ** 0.5)
    faces = pixels.reshape(-1, size, size)
    starts = range(0, size - BAND_HEIGHT + 1, BAND_STEP)
    stacked = np.stack([faces[:, start : start + BAND_HEIGHT] for start in starts], axis=1)
    rows, columns = BAND_COEFFICIENTS
    coefficients = dctn(stacked, axes=(2, 3), norm="ortho")[:, :, :rows, :columns]
    return np.asarray(coefficients.reshape(*coefficients.shape[:2], -1), np.float32)


class BandHMM:
    """One Gaussian hidden Markov model per class over the bands of a face; the most probable one decides.

    The states follow each other from top to bottom, as forehead, eyes, nose, mouth and chin do.

    Args:
        states: Number of states.
        iterations: Number of iterations of the fit.
        seed: Seed of the fit.

    Source: Samaria and Harter, 1994, https://doi.org/10.1109/ACV.1994.341300; Nefian and Hayes, 1998 for the coefficients.
    """

    def __init__(self, states: int = 5, iterations: int = 10, seed: int = 0) -> None:
        self.states = states
        self.iterations = iterations
        self.seed = seed
        self.classes: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self.models: list[Any] = []

    def fit(self, pixels: FloatArray, targets: npt.NDArray[np.int64]) -> "BandHMM":
        """Fit one model per class.

        Args:
            pixels: float32 array (n, pixels), see standardized.
            targets: int64 array (n,).
        """
        observed = bands(pixels)
        self.classes = np.unique(targets)
        self.models = [self._fit_class(observed[targets == k]) for k in self.classes]
        return self

    def _fit_class(self, observed: FloatArray) -> Any:
        from hmmlearn.hmm import GaussianHMM

        model = GaussianHMM(
            self.states, "diag", min_covar=1e-2, n_iter=self.iterations, random_state=self.seed, init_params="", params="stmc"
        )
        model.startprob_ = np.eye(self.states)[0]
        stay = np.eye(self.states) * 0.5
        model.transmat_ = stay + np.roll(stay, 1, axis=1)
        model.transmat_[-1] = np.eye(self.states)[-1]
        # Equal parts of the face start the states.
        parts = np.array_split(observed, self.states, axis=1)
        model.means_ = np.array([part.mean(axis=(0, 1)) for part in parts])
        model.covars_ = np.array([part.var(axis=(0, 1)) + 1e-2 for part in parts])
        return model.fit(*_sequences(observed))

    def predict(self, pixels: FloatArray) -> npt.NDArray[np.int64]:
        """Return the class whose model gives each face the highest likelihood, int64 array (n,)."""
        observed = bands(pixels)
        scores = [[model.score(face) for face in observed] for model in self.models]
        return np.asarray(self.classes[np.argmax(scores, axis=0)])


def _sequences(observed: FloatArray) -> tuple[FloatArray, Sequence[int]]:
    return observed.reshape(-1, observed.shape[2]), [observed.shape[1]] * len(observed)
