"""The checkpoint of a training: its state after the last complete epoch."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_path

if TYPE_CHECKING:
    import keras

CHECKPOINT_FILE = "checkpoint.weights.h5"

Weights = list[npt.NDArray[np.float32]]


class Checkpoint:
    """The state after the last complete epoch: weights, optimizer, random seeds, snapshots and history.

    Keras writes and reads the state of the model, as for keras.callbacks.BackupAndRestore. That callback has neither history
    nor snapshots, overwrites its files in place, and deletes them before the final model is written.

    Attributes:
        epoch: Number of complete epochs.
        earlier_seconds: Wall time of the training before it was resumed, seconds.
        history: Metrics per epoch.
        snapshots: Weights of the network at the end of each cycle.
    """

    def __init__(self, trainer: "keras.Model", network: "keras.Model", folder: Path) -> None:
        trainer.optimizer.build(trainer.trainable_variables)
        self._trainer = trainer
        self._network = network
        self._path = folder / CHECKPOINT_FILE
        self.epoch = 0
        self.earlier_seconds = 0.0
        self.history: dict[str, list[float]] = {}
        self.snapshots: list[Weights] = []

    def save_snapshot(self) -> None:
        """Keep a copy of the weights of the network."""
        self.snapshots.append(self._network.get_weights())

    def final_weights(self) -> list[Weights]:
        """Return the snapshots; without cycles the current weights of the network."""
        return self.snapshots or [self._network.get_weights()]

    def save(self, epoch: int, metrics: dict[str, float], seconds: float) -> None:
        """Write the state after an epoch, atomically.

        Args:
            epoch: Number of complete epochs.
            metrics: Metrics of this epoch.
            seconds: Wall time since training started or resumed, seconds.
        """
        import h5py

        for name, value in metrics.items():
            self.history.setdefault(name, []).append(value)
        self.epoch = epoch
        state = {"epoch": epoch, "seconds": self.earlier_seconds + seconds, "history": self.history}
        with atomic_path(self._path) as temporary:
            self._trainer.save_weights(temporary)
            with h5py.File(temporary, "a") as file:
                file["training_state"] = json.dumps(state)
                for snapshot, weights in enumerate(self.snapshots):
                    for index, values in enumerate(weights):
                        file[f"snapshots/{snapshot}/{index}"] = values

    def restore(self) -> None:
        """Restore the state, if there is a checkpoint.

        Raises:
            ValueError: If the checkpoint is damaged, or was written by a different version of fer-edge.
        """
        import h5py

        if not self._path.is_file():
            return
        try:
            self._trainer.load_weights(self._path)
            with h5py.File(self._path) as file:
                state: dict[str, Any] = json.loads(file["training_state"].asstr()[()])
                stored = file.get("snapshots", {})
                self.snapshots = [[np.array(stored[k][i]) for i in sorted(stored[k], key=int)] for k in sorted(stored, key=int)]
        except (ValueError, OSError, KeyError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"the checkpoint {self._path} is damaged or was written by a different version of fer-edge ({reason}). "
                "Remove its folder and train again"
            ) from error
        self.epoch, self.earlier_seconds, self.history = state["epoch"], state["seconds"], state["history"]

    def delete(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)
