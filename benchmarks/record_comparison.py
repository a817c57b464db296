"""Compare two latency records of the same files on the same board: ratio of medians, and accuracy face by face."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fer_edge.artifacts.latency_records import STAGES, TIMED, LatencyRecord, MeasuredAccuracy
from fer_edge.benchmarks.intervals import Ratio, ratio_of_medians, ratio_of_rounds

ALL_STAGES = (*TIMED, *STAGES)
SIGNIFICANT = 0.05
BLOCK = 5  # runs of two files in turn that form a round
ENOUGH_ROUNDS = 5  # fewer rounds do not show how much the machine changes from one measurement to the next


@dataclass(frozen=True)
class Setting:
    """What must be equal in two records that are compared.

    Attributes:
        file: Name of the file.
        num_threads: Threads of the interpreter.
        backend: Backend of the interpreter.
        board: Where it was measured.
    """

    file: str
    num_threads: int
    backend: str
    board: str


@dataclass(frozen=True)
class AllowedChange:
    """How much worse the new record may be.

    Attributes:
        latency: Fraction by which the median may grow, >= 0: 0.05 allows 5 %.
        accuracy: Fraction of the faces by which the accuracy may drop, >= 0: 0.01 allows one percentage point.
    """

    latency: float = 0.05
    accuracy: float = 0.0


@dataclass(frozen=True)
class AccuracyChange:
    """Accuracy of the old and the new file on the same faces.

    Attributes:
        old: Accuracy of the old file, 0..1.
        new: Accuracy of the new file, 0..1.
        faces: Number of faces.
        only_old: Faces that only the old file labels right.
        only_new: Faces that only the new file labels right.
        p_value: Probability of a difference at least this large if both are equally accurate; McNemar's exact test.
        worse: Whether the drop is significant and larger than allowed.
    """

    old: float
    new: float
    faces: int
    only_old: int
    only_new: int
    p_value: float
    worse: bool

    @property
    def significant(self) -> bool:
        """Whether the accuracies differ by more than chance."""
        return self.p_value < SIGNIFICANT


@dataclass(frozen=True)
class ComparedFile:
    """One file in both records. None marks values that could not be compared; the notes say why.

    Attributes:
        setting: File, threads, backend and board.
        rounds: Number of pairs of measurements.
        old_ms: Median latency of the old record, milliseconds; the median over the rounds.
        new_ms: That of the new record.
        ratio: The new median as a multiple of the old one.
        slower: Whether the whole interval of the ratio is above the allowed change.
        accuracy: The accuracies.
        old_bytes: Size of the old file, bytes.
        new_bytes: Size of the new file, bytes.
        notes: What limits the comparison.
    """

    setting: Setting
    rounds: int
    old_ms: float | None
    new_ms: float | None
    ratio: Ratio | None
    slower: bool
    accuracy: AccuracyChange | None
    old_bytes: int
    new_bytes: int
    notes: tuple[str, ...]

    @property
    def worse(self) -> bool:
        """Whether the new record is worse by more than allowed."""
        return self.slower or bool(self.accuracy and self.accuracy.worse)


@dataclass(frozen=True)
class RecordComparison:
    """All files of two records.

    Attributes:
        files: The files that are in both.
        only_old: Settings that only the old record has.
        only_new: Settings that only the new record has.
    """

    files: tuple[ComparedFile, ...]
    only_old: tuple[Setting, ...]
    only_new: tuple[Setting, ...]

    @property
    def worse(self) -> bool:
        """Whether a file is worse by more than allowed."""
        return any(file.worse for file in self.files)


def compare_records(
    old: Sequence[LatencyRecord],
    new: Sequence[LatencyRecord],
    allowed: AllowedChange | None = None,
    stage: str = "invoke",
) -> RecordComparison:
    """Compare two records. Several measurements of a file are rounds: the first of each side form a pair, and so on.

    Args:
        old: Records to compare with, in the order of measurement.
        new: Records to judge.
        allowed: How much worse they may be. Default: AllowedChange().
        stage: One of ALL_STAGES.

    Raises:
        ValueError: If the stage is unknown, or no file was measured in both on the same board with equal settings.
    """
    if stage not in ALL_STAGES:
        raise ValueError(f"unknown stage '{stage}'; choose one of: {', '.join(ALL_STAGES)}")
    before, after = _by_setting(old), _by_setting(new)
    common = [setting for setting in before if setting in after]
    if not common:
        raise ValueError(
            "nothing to compare: no file was measured in both records on the same board, with the same threads and backend. "
            f"OLD has {_titles(before)}; NEW has {_titles(after)}"
        )
    return RecordComparison(
        tuple(_compare(setting, before[setting], after[setting], allowed or AllowedChange(), stage) for setting in common),
        tuple(setting for setting in before if setting not in after),
        tuple(setting for setting in after if setting not in before),
    )


def mcnemar_p_value(only_old: int, only_new: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    Args:
        only_old: Faces that only the old file labels right.
        only_new: Faces that only the new file labels right.

    Source: McNemar, 1947, with the binomial distribution of the discordant pairs.
    """
    count = only_old + only_new
    tail = sum(math.comb(count, successes) for successes in range(min(only_old, only_new) + 1))
    return min(1.0, 2 * tail / 2**count)


def compare_accuracy(old: MeasuredAccuracy, new: MeasuredAccuracy, allowed_drop: float = 0.0) -> AccuracyChange | None:
    """Compare two accuracies face by face.

    Args:
        old: Accuracy of one file.
        new: Accuracy of another file, or of another version of it.
        allowed_drop: Fraction of the faces by which the accuracy may drop, >= 0.

    Returns:
        The change; None if they were measured on different faces, or a record has no result per face.

    Raises:
        ValueError: If the numbers of faces differ although the faces are the same.
    """
    faces_of = [(one.data, one.protocol, one.split, one.faces_digest) for one in (old, new)]
    if not (old.correct and new.correct) or old.faces_digest is None or faces_of[0] != faces_of[1]:
        return None
    if len(old.correct) != len(new.correct):
        raise ValueError(
            f"a record is damaged: it has the results of other faces ({len(old.correct)} and {len(new.correct)} faces)"
        )
    pairs = list(zip(old.correct, new.correct, strict=True))
    only_old, only_new, faces = pairs.count(("1", "0")), pairs.count(("0", "1")), len(pairs)
    p_value = mcnemar_p_value(only_old, only_new)
    worse = p_value < SIGNIFICANT and (only_old - only_new) / faces > allowed_drop
    return AccuracyChange(
        old.correct.count("1") / faces, new.correct.count("1") / faces, faces, only_old, only_new, p_value, worse
    )


def _by_setting(records: Sequence[LatencyRecord]) -> dict[Setting, list[LatencyRecord]]:
    groups: dict[Setting, list[LatencyRecord]] = {}
    for record in records:
        setting = Setting(record.file, record.num_threads, record.backend, record.environment.title)
        groups.setdefault(setting, []).append(record)
    return groups


def _titles(settings: Iterable[Setting]) -> str:
    titles = [f"{one.file} (threads {one.num_threads}, {one.backend}) on {one.board}" for one in settings]
    return ", ".join(titles[:3]) + (f" and {len(titles) - 3} more" if len(titles) > 3 else "")


def _compare(
    setting: Setting, old: Sequence[LatencyRecord], new: Sequence[LatencyRecord], allowed: AllowedChange, stage: str
) -> ComparedFile:
    """Compare the rounds of one file."""
    old_rounds, new_rounds = (_rounds(side, stage) for side in (old, new))
    count = min(len(old_rounds), len(new_rounds))
    notes = tuple(_latency_notes(old, new, (len(old_rounds), len(new_rounds))))
    ratio = _ratio(new_rounds[:count], old_rounds[:count]) if count else None
    stopped = not new_rounds and bool(old_rounds) and any(record.problem for record in new)
    accuracy, reason = _accuracy(old, new, allowed.accuracy)
    return ComparedFile(
        setting=setting,
        rounds=count,
        old_ms=_median(old_rounds[:count]),
        new_ms=_median(new_rounds[:count]),
        ratio=ratio,
        slower=stopped or (ratio is not None and ratio.low > 1 + allowed.latency),
        accuracy=accuracy,
        old_bytes=old[-1].file_bytes,
        new_bytes=new[-1].file_bytes,
        notes=notes + reason,
    )


def _rounds(records: Sequence[LatencyRecord], stage: str) -> list[tuple[float, ...]]:
    """Return the samples of the records that have some."""
    rounds = []
    for record in records:
        timed = {record.latency_protocol.stage: record.samples_ms} | (record.stages.samples_ms if record.stages else {})
        if timed.get(stage):
            rounds.append(timed[stage])
    return rounds


def _ratio(new_rounds: Sequence[tuple[float, ...]], old_rounds: Sequence[tuple[float, ...]]) -> Ratio:
    if len(new_rounds) < ENOUGH_ROUNDS:
        return ratio_of_medians(np.concatenate(new_rounds).tolist(), np.concatenate(old_rounds).tolist())
    return ratio_of_rounds(new_rounds, old_rounds)


def _median(rounds: Sequence[Sequence[float]]) -> float | None:
    return float(np.median([np.median(samples) for samples in rounds])) if rounds else None


def compare_in_turn(
    setting: Setting,
    samples_ms: tuple[Sequence[float], Sequence[float]],
    file_bytes: tuple[int, int],
    accuracies: tuple[MeasuredAccuracy | None, MeasuredAccuracy | None],
    allowed: AllowedChange,
) -> ComparedFile:
    """Compare two files that were run in turn, run by run: what slows the machine down slows both.

    Args:
        setting: The new file, and how both were run.
        samples_ms: Each run of the old and of the new file, milliseconds.
        file_bytes: Sizes of the old and the new file, bytes.
        accuracies: Accuracies of the old and the new file; None where they were not measured.
        allowed: How much worse the new file may be.
    """
    old, new = ([samples[start : start + BLOCK] for start in range(0, len(samples), BLOCK)] for samples in samples_ms)
    ratio = ratio_of_rounds(new, old)
    before, after = accuracies
    change = compare_accuracy(before, after, allowed.accuracy) if before and after else None
    unknown = () if change or not (before and after) else ("accuracy: the files were measured on different faces",)
    return ComparedFile(
        setting=setting,
        rounds=len(new),
        old_ms=float(np.median(samples_ms[0])),
        new_ms=float(np.median(samples_ms[1])),
        ratio=ratio,
        slower=ratio.low > 1 + allowed.latency,
        accuracy=change,
        old_bytes=file_bytes[0],
        new_bytes=file_bytes[1],
        notes=unknown,
    )


def _latency_notes(old: Sequence[LatencyRecord], new: Sequence[LatencyRecord], counts: tuple[int, int]) -> Iterator[str]:
    """Say what limits the comparison of latencies."""
    for name, records, count in (("OLD", old, counts[0]), ("NEW", new, counts[1])):
        problems = [record.problem for record in records if record.problem]
        if problems:
            yield f"{name} could not run: {problems[-1]}"
        elif not count and any(record.environment.emulator for record in records):
            yield f"{name} is of an emulated board, so it has no times"
        elif not count:
            yield f"{name} has no samples of this stage"
        busy = [record.busy for record in records if record.busy]
        if busy:
            yield f"{name} was measured on a busy machine ({'; '.join(busy[-1])})"
    if min(counts) and counts[0] != counts[1]:
        yield f"rounds: {counts[0]} in OLD, {counts[1]} in NEW; the additional ones are not compared"
    if 0 < min(counts) < ENOUGH_ROUNDS:
        yield (
            "the interval covers the noise within the measurements only, so the result may be chance (rounds: "
            f"{min(counts)}). Measure OLD and NEW in turn, {ENOUGH_ROUNDS} times or more"
        )


def _accuracy(
    old: Sequence[LatencyRecord], new: Sequence[LatencyRecord], allowed_drop: float
) -> tuple[AccuracyChange | None, tuple[str, ...]]:
    """Compare the accuracies measured last; say why if they cannot be compared."""
    before, after = (
        next((record.measured_accuracy for record in reversed(side) if record.measured_accuracy), None) for side in (old, new)
    )
    if before is None or after is None:
        return None, () if before is after else ("accuracy: only one of the records has it",)
    change = compare_accuracy(before, after, allowed_drop)
    if change is None:
        reason = "were measured on different faces" if before.correct and after.correct else "have no result per face"
        return None, (f"accuracy: the records {reason}",)
    return change, ()
