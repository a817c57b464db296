"""The checkpoint of a training: its state after the last complete epoch."""

import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_path

if TYPE_CHECKING:
    import keras

CHECKPOINT_FILE = "checkpoint.npz"


class Checkpoint:
    """The state after the last complete epoch: model, optimizer, random seeds, snapshots and history.

    Attributes:
        epoch: Number of complete epochs.
        earlier_seconds: Wall time of the training before it was resumed, seconds.
        history: Metrics per epoch.
        snapshots: Weights of the network at the end of each cycle.
    """

    def __init__(self, trainer: "keras.Model", network: "keras.Model", folder: Path) -> None:
        trainer.optimizer.build(trainer.trainable_variables)
        dataset = trainer.get_layer("faces")
        stored = {id(dataset.images), id(dataset.labels)}  # they come from the data, not from training
        self._variables = [v for v in trainer.variables if id(v) not in stored] + trainer.optimizer.variables
        self._network = network
        self._path = folder / CHECKPOINT_FILE
        self.epoch = 0
        self.earlier_seconds = 0.0
        self.history: dict[str, list[float]] = {}
        self.snapshots: list[list[npt.NDArray[np.float32]]] = []

    def save_snapshot(self) -> None:
        """Keep a copy of the weights of the network."""
        self.snapshots.append(self._network.get_weights())

    def save(self, epoch: int, metrics: dict[str, float], seconds: float) -> None:
        """Write the state after an epoch, atomically.

        Args:
            epoch: Number of complete epochs.
            metrics: Metrics of this epoch.
            seconds: Wall time since training started or resumed, seconds.
        """
        import keras

        for name, value in metrics.items():
            self.history.setdefault(name, []).append(value)
        self.epoch = epoch
        state = {
            "epoch": epoch,
            "seconds": self.earlier_seconds + seconds,
            "history": self.history,
            "snapshots": len(self.snapshots),
        }
        arrays = [keras.ops.convert_to_numpy(variable) for variable in self._variables]
        arrays += [weights for snapshot in self.snapshots for weights in snapshot]
        with atomic_path(self._path) as temporary, temporary.open("wb") as file:
            np.savez(file, *arrays, np.array(json.dumps(state)))

    def restore(self) -> None:
        """Restore the state, if there is a checkpoint.

        Raises:
            ValueError: If the checkpoint is damaged, or was written by a different version of fer-edge.
        """
        if not self._path.is_file():
            return
        try:
            with np.load(self._path) as content:
                *arrays, text = [content[f"arr_{k}"] for k in range(len(content.files))]
            state = json.loads(str(text))
        except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"the checkpoint {self._path} cannot be read ({error}). Remove its folder and train again"
            ) from error
        count, each, snapshots = len(self._variables), len(self._network.weights), state["snapshots"]
        expected = [*self._variables, *self._network.weights * snapshots]
        if [value.shape for value in arrays] != [tuple(variable.shape) for variable in expected]:
            raise ValueError(
                f"the checkpoint {self._path} was written by a different version of fer-edge. Remove its folder and train again"
            )
        for variable, value in zip(self._variables, arrays[:count], strict=True):
            variable.assign(value)
        self.snapshots = [arrays[count + k * each : count + (k + 1) * each] for k in range(snapshots)]
        self.epoch, self.earlier_seconds, self.history = state["epoch"], state["seconds"], state["history"]

    def delete(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)
