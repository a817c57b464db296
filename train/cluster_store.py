"""What the workers of a cluster send while they train, until the driver takes it. It runs as an actor on the head node."""

from dataclasses import dataclass, field

from fer_edge.artifacts.epoch_log import EpochRecord

CONTINUE, STOP, SUPERSEDED = "continue", "stop", "superseded"


@dataclass
class Update:
    """What has arrived since the driver asked last.

    Attributes:
        epochs: Trained epochs, in the order of their arrival.
        checkpoints: The newest checkpoint file per run, its bytes.
        notes: Notes and warnings of runs, as (run, kind, text).
    """

    epochs: list[EpochRecord] = field(default_factory=list)
    checkpoints: dict[str, bytes] = field(default_factory=dict)
    notes: list[tuple[str, str, str]] = field(default_factory=list)


class EpochStore:
    """Takes epochs, checkpoints and notes of the current attempt of each run, and refuses those of earlier attempts.

    A worker whose node seemed lost can still be alive. It must not go on when another worker has taken over its run.
    """

    def __init__(self) -> None:
        self._attempts: dict[str, int] = {}
        self._update = Update()
        self._stopping = False

    def start(self, run: str, attempt: int) -> None:
        """Make an attempt the current one of a run.

        Args:
            run: Name of the run.
            attempt: Its number, from 1.
        """
        self._attempts[run] = attempt

    def begin(self, run: str, attempt: int) -> str:
        """Return whether a worker may start: CONTINUE, STOP or SUPERSEDED.

        Args:
            run: Name of the run.
            attempt: Its number.
        """
        if self._attempts.get(run) != attempt:
            return SUPERSEDED
        return STOP if self._stopping else CONTINUE

    def save(self, record: EpochRecord, checkpoint: bytes | None) -> str:
        """Take a trained epoch.

        Args:
            record: The epoch.
            checkpoint: The checkpoint after it; None if it is not sent this time.

        Returns:
            What the worker does next: CONTINUE, STOP, or SUPERSEDED if another worker has taken over the run.
        """
        if self._attempts.get(record.run) != record.attempt:
            return SUPERSEDED
        self._update.epochs.append(record)
        if checkpoint is not None:
            self._update.checkpoints[record.run] = checkpoint
        return STOP if self._stopping and record.epoch < record.epochs else CONTINUE

    def note(self, run: str, attempt: int, kind: str, text: str) -> None:
        """Take a note or a warning of a run.

        Args:
            run: Name of the run.
            attempt: Its number.
            kind: ``note`` or ``warn``.
            text: The line.
        """
        if self._attempts.get(run) == attempt:
            self._update.notes.append((run, kind, text))

    def stop(self) -> None:
        """Stop every run after its current epoch, and start no other."""
        self._stopping = True

    def take(self) -> Update:
        """Return what has arrived since the last call."""
        update, self._update = self._update, Update()
        return update
