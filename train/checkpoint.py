"""The checkpoint of a training: its state after the last complete epoch."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.atomic_write import atomic_path
from fer_edge.train.networks import TEACHER_LAYER

if TYPE_CHECKING:
    import keras

CHECKPOINT_FILE = "checkpoint.npz"

Weights = list[npt.NDArray[np.float32]]


class StoppedError(RuntimeError):
    """Training stopped at a checkpoint before its last epoch, because its time was up."""


class Checkpoint:
    """The state after the last complete epoch: weights, optimizer, random seeds, snapshots and history.

    keras.callbacks.BackupAndRestore would not resume exactly: Keras's weights files do not contain the states of random seeds.
    It also overwrites its files in place and has neither history nor snapshots.

    Attributes:
        trainer: The model that is trained.
        epoch: Number of complete epochs.
        earlier_seconds: Wall time of the training before it was resumed, seconds.
        history: Metrics per epoch.
        snapshots: Weights of the network at the end of each cycle.
    """

    def __init__(self, trainer: "keras.Model", network: "keras.Model", folder: Path) -> None:
        # They come from the data or from other models, not from training.
        constant = [*trainer.get_layer("faces").data]
        constant += [v for layer in trainer.layers if layer.name == TEACHER_LAYER for v in layer.variables]
        stored = {id(variable) for variable in constant}
        variables = [v for v in trainer.variables if id(v) not in stored] + trainer.optimizer.variables
        # Paths are not unique: each Dropout has a seed_generator/seed_generator_state.
        self._variables = {f"{index}/{variable.path}": variable for index, variable in enumerate(variables)}
        self.trainer = trainer
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

    def end_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Add an epoch to the history.

        Args:
            epoch: Number of complete epochs.
            metrics: Metrics of this epoch.
        """
        for name, value in metrics.items():
            self.history.setdefault(name, []).append(value)
        self.epoch = epoch

    def save(self, seconds: float) -> None:
        """Write the state, atomically.

        Args:
            seconds: Wall time since training started or resumed, seconds.
        """
        import keras

        state = {"epoch": self.epoch, "seconds": self.earlier_seconds + seconds, "history": self.history}
        arrays: dict[str, Any] = {name: keras.ops.convert_to_numpy(value) for name, value in self._variables.items()}
        arrays |= {
            f"snapshot/{number}/{index}": weights
            for number, snapshot in enumerate(self.snapshots)
            for index, weights in enumerate(snapshot)
        }
        with atomic_path(self._path) as temporary, temporary.open("wb") as file:
            np.savez(file, state=json.dumps(state), **arrays)

    def restore(self) -> None:
        """Restore the state, if there is a checkpoint.

        Raises:
            ValueError: If the checkpoint is damaged, or was written by a different version of fer-edge.
        """
        if not self._path.is_file():
            return
        try:
            with np.load(self._path) as content:
                arrays = dict(content)
            state = json.loads(str(arrays.pop("state")))
        except (ValueError, TypeError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"the checkpoint {self._path} cannot be read ({error}). Remove its folder and train again"
            ) from error
        self.snapshots = list(self._take_snapshots(arrays))
        shapes = {name: tuple(variable.shape) for name, variable in self._variables.items()}
        if {name: values.shape for name, values in arrays.items()} != shapes:
            raise ValueError(
                f"the checkpoint {self._path} was written by a different version of fer-edge. Remove its folder and train again"
            )
        for name, variable in self._variables.items():
            variable.assign(arrays[name])
        self.epoch, self.earlier_seconds, self.history = state["epoch"], state["seconds"], state["history"]

    def _take_snapshots(self, arrays: dict[str, Any]) -> Iterator[Weights]:
        """Remove the snapshots from the arrays and yield them."""
        number, count = 0, len(self._network.weights)
        while all(f"snapshot/{number}/{index}" in arrays for index in range(count)):
            yield [arrays.pop(f"snapshot/{number}/{index}") for index in range(count)]
            number += 1

    def delete(self) -> None:
        """Delete the file."""
        self._path.unlink(missing_ok=True)
