"""The .npz file of a dataset's faces, for programs that do not read datasets, such as benchmarks."""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_path

SPLITS = ("none", "train", "validation", "test")  # the values of ExportedFaces.divisions are indices into it


@dataclass(frozen=True)
class ExportedFaces:
    """Gray faces of one size, their labels, and how runs divide them.

    Attributes:
        data: Name of the dataset.
        fingerprint: Its fingerprint, see FaceDataset.
        labels: Label names; ``targets`` are indices into them.
        ids: One unique id per face.
        images: uint8 array (n, size, size), gray.
        targets: int64 array (n,).
        protocol: How the faces are divided; ``all`` if they are not.
        leaky: Whether the same image or person is in training and test of a run.
        runs: Title of each run, such as ``seed 0`` or ``fold 3/10``.
        divisions: int8 array (runs, n): split of each face in each run, an index into SPLITS.
        vote_shares: float32 array (n, labels), fraction of the annotators who chose each label, 0..1; None without votes.
        majority: bool array (n,), whether more than half of the annotators agree; None without votes.
    """

    data: str
    fingerprint: str
    labels: tuple[str, ...]
    ids: tuple[str, ...]
    images: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.int64]
    protocol: str
    leaky: bool
    runs: tuple[str, ...]
    divisions: npt.NDArray[np.int8]
    vote_shares: npt.NDArray[np.float32] | None = None
    majority: npt.NDArray[np.bool_] | None = None

    def in_split(self, run: int, *names: str) -> npt.NDArray[np.intp]:
        """Return the indices of the faces that a run has in any of the named splits.

        Args:
            run: Index of the run.
            *names: Names of SPLITS.
        """
        return np.flatnonzero(np.isin(self.divisions[run], [SPLITS.index(name) for name in names]))


def write_exported_faces(path: str | Path, faces: ExportedFaces) -> None:
    """Write the file as a whole or not at all.

    Args:
        path: The file, with the suffix .npz.
        faces: Its content.

    Raises:
        OSError: If it cannot be written.
        ValueError: If the suffix is not .npz.
    """
    if Path(path).suffix != ".npz":
        raise ValueError(f"the exported faces are an .npz file. Received: '{path}'")
    arrays = {name: value for name, value in vars(faces).items() if value is not None}
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays)


def read_exported_faces(path: str | Path) -> ExportedFaces:
    """Read the file.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a file of exported faces.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
        fields: dict[str, Any] = dict(arrays)
        fields |= {name: tuple(map(str, arrays[name])) for name in ("labels", "ids", "runs")}
        fields |= {name: arrays[name].item() for name in ("data", "fingerprint", "protocol", "leaky")}
        return ExportedFaces(**fields)
    except (zipfile.BadZipFile, EOFError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"'{path}' has no exported faces ({error}). Write it again: fer-edge dev export-faces") from error
