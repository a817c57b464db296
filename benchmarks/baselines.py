"""Classical methods next to the networks: eigenfaces, kernel PCA, LBP, HOG and Gabor features with an SVM, and an HMM.

``python -m fer_edge.benchmarks.baselines --data ck48.zip --protocol subject --record benchmarks/results/baselines.jsonl``
"""

import pickle
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.exported_faces import ExportedFaces, read_exported_faces
from fer_edge.artifacts.typed_json import append_json_lines, read_json_lines
from fer_edge.benchmarks.baseline_features import BandHMM, gabor, hog_cells, lbp_histograms, standardized
from fer_edge.benchmarks.baseline_tables import BaselineRecord, baselines_section, text_rows
from fer_edge.benchmarks.doc_section import replace_section
from fer_edge.benchmarks.environment import describe_environment, read_state
from fer_edge.benchmarks.timing import time_runs

SEEDS, FOLDS = 5, 10  # divisions of the protocols paper and subject
KERNEL_SVM_FACES = 3000  # more training faces get a linear SVM: the time of a kernel SVM grows with their square
SLOW_FEATURES_FACES, HMM_FACES = 8_000, 4_000  # training faces, chosen at random, where there are more
COMPONENTS = 100  # of PCA
TIMED_FACES = 20
PACKAGES = ("scikit-learn", "scikit-image", "hmmlearn", "numpy")

Images = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.intp]
Features = Callable[[Images], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Baseline:
    """One classical method.

    Attributes:
        title: Name for tables.
        features: From uint8 faces (n, size, size) to float32 (n, dimensions).
        build: From the number of training faces and the seed to an unfitted classifier of scikit-learn.
        note: From the number of training faces to the settings, for tables.
        max_faces: Maximum number of training faces; None for all.
    """

    title: str
    features: Features
    build: Callable[[int, int], Any]
    note: Callable[[int], str]
    max_faces: int | None = None


def _pca(count: int, seed: int) -> Any:
    from sklearn.decomposition import PCA

    return PCA(min(COMPONENTS, count - 1), whiten=True, svd_solver="randomized", random_state=seed)


def _eigenfaces(count: int, seed: int) -> Any:
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline

    neighbors = 1 if count <= KERNEL_SVM_FACES else 15
    return make_pipeline(_pca(count, seed), KNeighborsClassifier(neighbors, metric="cosine"))


def _kernel_pca(count: int, seed: int) -> Any:
    from sklearn.kernel_approximation import Nystroem
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline

    # Faces are standardized, so their squared distance is at most 4 per pixel. With all faces as landmarks it is exact.
    kernel = Nystroem(kernel="rbf", gamma=1 / 2304, n_components=min(count, 1000), random_state=seed)
    neighbors = 1 if count <= KERNEL_SVM_FACES else 15
    return make_pipeline(kernel, _pca(count, seed), KNeighborsClassifier(neighbors, metric="cosine"))


def _svm(count: int, seed: int) -> Any:
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    if count <= KERNEL_SVM_FACES:
        return make_pipeline(StandardScaler(), SVC(C=10, gamma="scale"))
    return make_pipeline(StandardScaler(), SGDClassifier(alpha=1e-3, average=True, max_iter=20, tol=1e-3, random_state=seed))


def _pca_note(count: int) -> str:
    neighbors = "nearest neighbor" if count <= KERNEL_SVM_FACES else "15 nearest neighbors"
    return f"{min(COMPONENTS, count - 1)} components, {neighbors}"


def _svm_note(count: int) -> str:
    return "RBF kernel, C = 10" if count <= KERNEL_SVM_FACES else "linear, by stochastic gradient descent"


def _kernel_note(count: int) -> str:
    landmarks = "" if count <= 1000 else ", Nystroem with 1000 faces"
    return f"RBF kernel{landmarks}, {_pca_note(count)}"


BASELINES: dict[str, Baseline] = {
    "eigenfaces": Baseline("PCA + kNN (eigenfaces)", standardized, _eigenfaces, _pca_note),
    "kernel_pca": Baseline("Kernel PCA + kNN", standardized, _kernel_pca, _kernel_note),
    "lbp_svm": Baseline("LBP + SVM", lbp_histograms, _svm, _svm_note, SLOW_FEATURES_FACES),
    "hog_svm": Baseline("HOG + SVM", hog_cells, _svm, _svm_note),
    "gabor_svm": Baseline("Gabor + SVM", gabor, _svm, _svm_note, SLOW_FEATURES_FACES),
    "band_hmm": Baseline(
        "HMM over pixel bands", standardized, lambda n, seed: BandHMM(seed=seed), lambda n: "5 states, 11 bands", HMM_FACES
    ),
}


def measure_baseline(name: str, faces: ExportedFaces, clock_ns: Callable[[], int] = time.process_time_ns) -> BaselineRecord:
    """Fit one method on every division of the faces and measure it on the test split, with one thread.

    Args:
        name: A key of BASELINES.
        faces: The faces. A method fits on the training and validation faces: its settings are fixed, so it needs no
            validation.
        clock_ns: The CPU time of this process, nanoseconds. Unlike the elapsed time it does not depend on other programs.

    Raises:
        ValueError: If the name is unknown, or a division has no training or test faces.
    """
    from threadpoolctl import threadpool_limits

    if name not in BASELINES:
        raise ValueError(f"unknown baseline '{name}'; choose one of: {', '.join(BASELINES)}")
    baseline, before = BASELINES[name], read_state()
    divisions = [_division(faces, run, baseline.max_faces) for run in range(len(faces.runs))]
    used = np.unique(np.concatenate([index for division in divisions for index in division]))
    with threadpool_limits(1):
        start_ns = clock_ns()
        features = baseline.features(faces.images[used])
        rows = {int(index): row for row, index in enumerate(used)}
        right = []
        for run, (train, test) in enumerate(divisions):
            of_train, of_test = (np.array([rows[int(index)] for index in indices]) for indices in (train, test))
            model = baseline.build(len(train), run).fit(features[of_train], faces.targets[train])
            right.append(model.predict(features[of_test]) == faces.targets[test])
        cpu_s = (clock_ns() - start_ns) / 1e9
        timed = [faces.images[index : index + 1] for index in test[:TIMED_FACES]]
        samples = [time_runs(partial(_predict, baseline, model, image), 1, 1, 0, clock_ns)[0] for image in timed]
    tested = np.concatenate([test for _, test in divisions])
    return BaselineRecord(
        baseline=name,
        title=baseline.title,
        settings=baseline.note(len(train)),
        data=faces.data,
        fingerprint=faces.fingerprint,
        protocol=faces.protocol,
        leaky=faces.leaky,
        runs=faces.runs,
        train_faces=tuple(len(train) for train, _ in divisions),
        test_faces=tuple(len(test) for _, test in divisions),
        accuracies=tuple(float(row.mean()) for row in right),
        recall=_recall(faces.labels, faces.targets[tested], np.concatenate(right)),
        model_bytes=len(pickle.dumps(model)),
        cpu_s=round(cpu_s, 2),
        samples_ms=tuple(round(sample, 3) for sample in samples),
        versions={"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        environment=describe_environment(),
        before=before,
        after=read_state(),
    )


def _division(faces: ExportedFaces, run: int, max_faces: int | None) -> tuple[Indices, Indices]:
    """Return the indices of the training and the test faces of a run; of at most ``max_faces`` training faces, at random."""
    train, test = faces.in_split(run, "train", "validation"), faces.in_split(run, "test")
    if not len(train) or not len(test):
        raise ValueError(
            f"{faces.data} has {len(train)} training and {len(test)} test faces in the division '{faces.runs[run]}'. "
            "Choose a protocol that has both"
        )
    return np.sort(np.random.default_rng(run).permutation(train)[:max_faces]), test


def _predict(baseline: Baseline, model: Any, image: Images) -> object:
    return model.predict(baseline.features(image))


def _recall(labels: Sequence[str], targets: npt.NDArray[np.int64], right: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return the recall per label that occurs, 0..1."""
    return {label: float(right[targets == k].mean()) for k, label in enumerate(labels) if np.any(targets == k)}


def read_divided_faces(
    data: Path, protocol: str, seeds: int | None = None, folds: int | None = None, ferplus: Path | None = None
) -> ExportedFaces:
    """Read a dataset and divide it, in another process: this package does not import the stage that reads datasets.

    Args:
        data: Folder, zip or csv of labeled faces, or an .npz file of ``fer-edge dev export-faces``.
        protocol: ``paper``, ``subject`` or ``official``; ``all`` for no division.
        seeds: Number of divisions of the protocol ``paper``. Default: SEEDS.
        folds: Number of folds of the protocol ``subject``. Default: FOLDS.
        ferplus: FER+ table, for the votes of FER2013's faces.

    Raises:
        ValueError: If the data cannot be read or divided in this way.
    """
    if data.suffix == ".npz":
        return read_exported_faces(data)
    options: list[object] = []
    if protocol in ("paper", "subject"):
        options = ["--seeds", seeds or SEEDS] if protocol == "paper" else ["--folds", folds or FOLDS]
    options += ["--ferplus", ferplus] if ferplus else []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "faces.npz"
        words = ["dev", "export-faces", data, out, "--protocol", protocol, *options]
        command = [sys.executable, "-c", "from fer_edge.main import main; main()", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError((done.stderr.strip().splitlines() or ["the faces could not be read"])[-1].removeprefix("Error: "))
        return read_exported_faces(out)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder, zip or csv of labeled faces.")
@click.option("--protocol", type=click.Choice(["paper", "subject", "official"]), required=True, help="How to divide the data.")
@click.option("--baseline", "names", multiple=True, help="A method; may be repeated.  [default: all]")
@click.option("--seeds", type=click.IntRange(1), help=f"Divisions of the protocol paper.  [default: {SEEDS}]")
@click.option("--folds", type=click.IntRange(2), help=f"Folds of the protocol subject.  [default: {FOLDS}]")
@click.option("--record", type=click.Path(path_type=Path), help="Append the results to this JSON-lines file.")
@click.option("--page", type=click.Path(path_type=Path), help="Write all results of --record into this documentation page.")
def main(
    data: Path,
    protocol: str,
    names: Sequence[str],
    seeds: int | None,
    folds: int | None,
    record: Path | None,
    page: Path | None,
) -> None:
    """Measure classical methods on labeled faces: accuracy, size, time per face."""
    if page and not record:
        raise click.UsageError("--page needs --record: it has the results of all methods and datasets")
    try:
        if unknown := [name for name in names if name not in BASELINES]:
            raise ValueError(f"unknown baseline '{unknown[0]}'; choose one of: {', '.join(BASELINES)}")
        faces = read_divided_faces(data, protocol, seeds, folds)
        records = []
        for name in names or BASELINES:
            click.echo(f"{name} ...", err=True)
            records.append(measure_baseline(name, faces))
            if record:
                append_json_lines(record, records[-1:])
        if page and record:
            replace_section(page, "baselines", baselines_section(read_json_lines(BaselineRecord, record)))
    except (ValueError, OSError, ImportError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(text_rows(records))


if __name__ == "__main__":
    main()
