"""Records and tables of the classical methods, next to the figures that the published comparison lists."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fer_edge.artifacts.latency_records import Environment, MachineState
from fer_edge.artifacts.mean_ci import mean_ci
from fer_edge.benchmarks.intervals import accuracy_interval
from fer_edge.benchmarks.tables import NOT_MEASURED, markdown_table, text_table

SVM = "0.706, 0.847"  # the features are not named; the first on CK+, the second on CK
PUBLISHED = {
    "eigenfaces": "0.723",
    "kernel_pca": "0.765",
    "lbp_svm": SVM,
    "hog_svm": SVM,
    "gabor_svm": SVM,
    "band_hmm": "0.652",
}
PROTOCOLS = (("ck48", "paper"), ("ck48", "subject"), ("fer2013", "official"))


@dataclass(frozen=True)
class BaselineRecord:
    """One classical method on one dataset and protocol: every division, and the cost of the model of the last one.

    Attributes:
        baseline: Name of the method, a key of BASELINES.
        title: Its title.
        settings: Its settings.
        data: Name of the dataset.
        fingerprint: Its fingerprint.
        protocol: How the dataset was divided.
        leaky: Whether the same image or person is in training and test.
        runs: Title of each division.
        train_faces: Number of training faces per division. The validation faces belong to them.
        test_faces: Number of test faces per division.
        accuracies: Accuracy per division, 0..1.
        recall: Recall per label over all divisions, 0..1.
        model_bytes: Size of the fitted model, pickled, bytes.
        cpu_s: CPU time of the features, fits and predictions of all divisions, seconds.
        samples_ms: CPU time per face, features and classification, milliseconds.
        versions: Versions of the packages.
        environment: Where it was measured.
        before: State of the machine before.
        after: State of the machine after.
    """

    baseline: str
    title: str
    settings: str
    data: str
    fingerprint: str
    protocol: str
    leaky: bool
    runs: tuple[str, ...]
    train_faces: tuple[int, ...]
    test_faces: tuple[int, ...]
    accuracies: tuple[float, ...]
    recall: dict[str, float]
    model_bytes: int
    cpu_s: float
    samples_ms: tuple[float, ...]
    versions: dict[str, str]
    environment: Environment
    before: MachineState
    after: MachineState

    @property
    def accuracy(self) -> str:
        """Mean accuracy with its 95 % interval: over the divisions, or that of the number of faces of a single one."""
        mean = mean_ci(self.accuracies)
        low, high = (mean.low, mean.high) if mean.runs > 1 else accuracy_interval(mean.mean, self.test_faces[0])
        return f"{mean.mean:.3f} ({low:.3f} to {high:.3f})"

    @property
    def p50_ms(self) -> float:
        """Median CPU time per face, milliseconds."""
        return float(np.median(self.samples_ms))


def text_rows(records: Sequence[BaselineRecord]) -> str:
    """Return the records as a table for terminals."""
    header = ("method", "data", "protocol", "accuracy", "MB", "ms", "settings")
    rows = [
        (r.title, r.data, r.protocol + " (leaky)" * r.leaky, r.accuracy, _megabytes(r), f"{r.p50_ms:.1f}", r.settings)
        for r in records
    ]
    return text_table(header, rows)


def baselines_section(records: Sequence[BaselineRecord]) -> str:
    """Return the table of all methods for the documentation, with their settings below. Later records replace earlier ones.

    Raises:
        ValueError: If there are no records of the datasets and protocols of the table.
    """
    last = {(record.baseline, record.data, record.protocol): record for record in records}
    measured = {record.baseline for record in records if (record.data, record.protocol) in PROTOCOLS}
    names = [name for name in PUBLISHED if name in measured]
    header = ("method", "table 8", "CK+48, published protocol", "CK+48, new faces", "FER2013", "MB", "ms")
    rows, settings = [], []
    for name in names:
        found = [last.get((name, data, protocol)) for data, protocol in PROTOCOLS]
        known = [record for record in found if record]
        accuracies = [record.accuracy if record else NOT_MEASURED for record in found]
        sizes = ", ".join(dict.fromkeys(_megabytes(record) for record in known[1:] or known))
        times = ", ".join(dict.fromkeys(f"{record.p50_ms:.1f}" for record in known[1:] or known))
        rows.append((known[0].title, PUBLISHED.get(name, "-"), *accuracies, sizes, times))
        parts = {record.data: f"{record.settings}, {max(record.train_faces)} training faces" for record in known}
        settings.append(f"- {known[0].title}: " + "; ".join(f"{data}: {text}" for data, text in parts.items()) + ".")
    if not rows:
        kinds = " or ".join(" ".join(pair) for pair in PROTOCOLS)
        raise ValueError(f"no records of {kinds} for the table. Measure these first")
    environment, versions = records[-1].environment, records[-1].versions
    made = ", ".join(f"{name} {number}" for name, number in versions.items())
    return "\n\n".join([markdown_table(header, rows), "\n".join(settings), f"Measured on {environment.title} with {made}."])


def _megabytes(record: BaselineRecord) -> str:
    return f"{record.model_bytes / 1e6:.2f}"
