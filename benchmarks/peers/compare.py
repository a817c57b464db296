"""Compare fer-edge with other packages, each in its own environment: ``make peers FER2013=... CK48=... PORTRAITS=...``."""

import json
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from fer_edge.artifacts.exported_faces import ExportedFaces
from fer_edge.artifacts.latency_records import read_latency_records
from fer_edge.artifacts.typed_json import append_json_lines, read_json_lines
from fer_edge.benchmarks.baselines import read_divided_faces
from fer_edge.benchmarks.doc_section import replace_section
from fer_edge.benchmarks.environment import describe_environment, read_state
from fer_edge.benchmarks.peers.catalog import PEERS, Peer
from fer_edge.benchmarks.peers.environments import PeerError, command, install
from fer_edge.benchmarks.peers.peer_records import FacesResult, PeerRecord, PortraitsResult
from fer_edge.benchmarks.peers.peer_tables import peers_section, report_table, text_rows
from fer_edge.benchmarks.portraits import is_head, read_portraits
from fer_edge.benchmarks.record_rows import record_rows
from fer_edge.benchmarks.report_page import write_report

SEED = 0  # of the faces and portraits for slow packages
RUN_SECONDS = 7200
RECORDS, FOLDER = Path("benchmarks/results/peers.jsonl"), Path("build/peers")


@dataclass(frozen=True)
class Faces:
    """The face crops of one dataset.

    Attributes:
        images: uint8 array (n, size, size), gray.
        labels: Label of each face.
        votes: Per face, the fraction of annotators per label, 0..1; None without votes, or where the face has none.
        majority: Label on which more than half of the annotators agree; None likewise.
    """

    images: npt.NDArray[np.uint8]
    labels: tuple[str, ...]
    votes: tuple[Mapping[str, float] | None, ...] | None = None
    majority: tuple[str | None, ...] | None = None

    def subset(self, count: int) -> "Faces":
        """Return ``count`` faces chosen at random with a fixed seed; all faces if there are not more."""
        if count >= len(self.labels):
            return self
        chosen = sorted(np.random.default_rng(SEED).choice(len(self.labels), count, replace=False))
        votes = None if self.votes is None else tuple(self.votes[i] for i in chosen)
        majority = None if self.majority is None else tuple(self.majority[i] for i in chosen)
        return Faces(self.images[chosen], tuple(self.labels[i] for i in chosen), votes, majority)


def from_exported(exported: ExportedFaces, voted: ExportedFaces | None = None) -> Faces:
    """Return the test faces of an exported dataset.

    Args:
        exported: The dataset.
        voted: The same dataset with the votes of FER+, which leaves out some faces.
    """
    test = exported.in_split(0, "test")
    labels = tuple(exported.labels[target] for target in exported.targets[test])
    if voted is None or voted.vote_shares is None or voted.majority is None:
        return Faces(exported.images[test], labels)
    rows = {name: row for row, name in enumerate(voted.ids)}
    found = [rows.get(exported.ids[i]) for i in test]
    votes = [None if row is None else dict(zip(voted.labels, map(float, voted.vote_shares[row]), strict=True)) for row in found]
    agreed = [None if row is None or not voted.majority[row] else voted.labels[voted.targets[row]] for row in found]
    return Faces(exported.images[test], labels, tuple(votes), tuple(agreed))


def measure_peer(peer: Peer, folder: Path, datasets: Mapping[str, Faces], portraits: Faces | None, uv: str) -> dict[str, Any]:
    """Install a package, run it on all images and return the fields of its record.

    Args:
        peer: The package.
        folder: Folder of its environment.
        datasets: Face crops by name of the dataset.
        portraits: Images of one whole head each, and their labels.
        uv: The command uv.

    Raises:
        PeerError: If the package cannot be installed or fails.
    """
    if peer.adapter is None:
        raise PeerError(peer.reason)
    installation = install(peer, folder, uv)
    files = {name: _write(folder / f"{name}.npy", dataset.images) for name, dataset in datasets.items()}
    job = {
        "adapter": peer.adapter,
        "arguments": peer.arguments,
        "environment": str(folder),
        "faces": files,
        "images": {"portraits": _write(folder / "portraits.npy", portraits.images)} if portraits else {},
        "results": str(folder / "results.json"),
    }
    job_file = folder / "job.json"
    job_file.write_text(json.dumps(job))
    results = _run(command(peer, folder, job_file), folder)
    labels = results["labels"]
    measured = {name: faces_result(results["faces"][name], labels, dataset) for name, dataset in datasets.items()}
    for name, dataset in datasets.items():
        if dataset.majority:
            measured[f"{name} majority"] = majority_result(results["faces"][name], labels, dataset)
    return {
        "versions": results["versions"],
        "installed_bytes": installation.installed_bytes,
        "model_bytes": results["model_bytes"],
        "import_s": round(results["import_s"], 3),
        "load_s": round(results["load_s"], 3),
        "faces": measured,
        "portraits": portraits_result(results["images"]["portraits"], labels, portraits) if portraits else None,
    }


def _write(path: Path, images: npt.NDArray[np.uint8]) -> str:
    np.save(path, np.ascontiguousarray(images))
    return str(path)


def _run(words: Sequence[str], folder: Path) -> dict[str, Any]:
    """Run a worker with one thread and return its results."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": ""}
    results = folder / "results.json"
    results.unlink(missing_ok=True)
    try:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise PeerError(f"it took more than {RUN_SECONDS} s") from error
    if done.returncode or not results.is_file():
        lines = [line.strip() for line in done.stderr.splitlines() if "Error" in line]
        raise PeerError(f"it failed: {lines[-1] if lines else f'exit status {done.returncode}'}")
    content: dict[str, Any] = json.loads(results.read_text())
    return content


def _predicted(outputs: Sequence[Sequence[float]], labels: Sequence[str]) -> list[str]:
    return [labels[int(np.argmax(scores))] for scores in outputs]


def faces_result(timed: Mapping[str, Any], labels: Sequence[str], faces: Faces) -> FacesResult:
    """Return the accuracy against the labels of the dataset, and the times.

    Args:
        timed: What a worker measured, see worker.timed.
        labels: Labels of the package, in the order of its scores.
        faces: The faces.
    """
    right = [name == label for name, label in zip(_predicted(timed["outputs"], labels), faces.labels, strict=True)]
    p50, p90 = np.percentile(timed["cpu_ms"], (50, 90))
    elapsed = float(np.median(timed["elapsed_ms"]))
    return FacesResult(len(right), float(np.mean(right)), round(float(p50), 4), round(float(p90), 4), round(elapsed, 4))


def majority_result(timed: Mapping[str, Any], labels: Sequence[str], faces: Faces) -> FacesResult:
    """Return the accuracy on the faces on which the annotators agree, and the agreement with all annotators.

    Args:
        timed: What a worker measured, see worker.timed.
        labels: Labels of the package, in the order of its scores.
        faces: The faces, with votes.
    """
    predicted = _predicted(timed["outputs"], labels)
    right = [name == label for name, label in zip(predicted, faces.majority or (), strict=True) if label is not None]
    shares = [votes.get(name, 0.0) for name, votes in zip(predicted, faces.votes or (), strict=True) if votes is not None]
    times = faces_result(timed, labels, faces)
    return FacesResult(
        len(right), float(np.mean(right)), times.p50_ms, times.p90_ms, times.p50_elapsed_ms, float(np.mean(shares))
    )


def portraits_result(timed: Mapping[str, Any], labels: Sequence[str], portraits: Faces) -> PortraitsResult:
    """Return how many heads a package found and labeled correctly.

    Args:
        timed: What a worker measured, see worker.timed.
        labels: Labels of the package, in the order of its scores.
        portraits: The images and their labels.
    """
    height, width = portraits.images.shape[1:]
    heads = [next((scores for box, scores in found if is_head(tuple(box), width, height)), None) for found in timed["outputs"]]
    right = [
        scores is not None and labels[int(np.argmax(scores))] == label
        for scores, label in zip(heads, portraits.labels, strict=True)
    ]
    return PortraitsResult(
        images=len(heads),
        found=float(np.mean([scores is not None for scores in heads])),
        correct=float(np.mean(right)),
        p50_ms=round(float(np.median(timed["cpu_ms"])), 3),
        p50_elapsed_ms=round(float(np.median(timed["elapsed_ms"])), 3),
    )


def read_gray_portraits(data: Path) -> Faces:
    """Read images of one whole head each, all of one size.

    Args:
        data: Zip or folder of class folders.

    Raises:
        FileNotFoundError: If there is no such zip or folder.
        ValueError: If it has no images, or images of several sizes.
    """
    portraits = read_portraits(data)
    images = [portrait.read()[:, :, 1] for portrait in portraits]
    if len({image.shape for image in images}) > 1:
        raise ValueError(f"the portraits in '{data}' have several sizes. Resize them to one")
    return Faces(np.stack(images), tuple(portrait.label for portrait in portraits))


def read_datasets(fer2013: Path | None, ferplus: Path | None, ck48: Path | None) -> dict[str, Faces]:
    """Read the face crops.

    Args:
        fer2013: FER2013; its official test split is used.
        ferplus: Table of the votes of FER+ for these faces.
        ck48: CK+48; all faces are used.

    Raises:
        ValueError: If a dataset cannot be read.
    """
    datasets = {}
    if fer2013:
        voted = read_divided_faces(fer2013, "official", ferplus=ferplus) if ferplus else None
        datasets["fer2013"] = from_exported(read_divided_faces(fer2013, "official"), voted)
    if ck48:
        datasets["ck48"] = from_exported(read_divided_faces(ck48, "all"))
    return datasets


@click.command()
@click.option("--fer2013", type=click.Path(path_type=Path), help="FER2013: zip, folder or csv.")
@click.option("--ferplus", type=click.Path(path_type=Path), help="FER+ table of these faces.")
@click.option("--ck48", type=click.Path(path_type=Path), help="CK+48: zip or folder.")
@click.option("--portraits", type=click.Path(path_type=Path), help="Zip or folder of class folders of portraits.")
@click.option("--peer", "names", multiple=True, help="A package; may be repeated.  [default: all]")
@click.option("--folder", type=click.Path(path_type=Path), default=FOLDER, help="Folder of the environments.")
@click.option("--uv", default="uv", show_default=True, help="The command uv, which installs the Python packages.")
@click.option("--record", type=click.Path(path_type=Path), default=RECORDS, help="JSON-lines file of all results.")
@click.option("--page", type=click.Path(path_type=Path), help="Write the tables of all records into this documentation page.")
@click.option(
    "--slow-faces", type=click.IntRange(1), default=1000, show_default=True, help="Faces per dataset for slow packages."
)
@click.option("--slow-portraits", type=click.IntRange(1), default=200, show_default=True, help="Portraits for slow packages.")
@click.option("--report", type=click.Path(path_type=Path), help="Write a report of all packages and the records of --from.")
@click.option(
    "--from", "stored", multiple=True, type=click.Path(path_type=Path), help="Records of fer-edge bench for --report."
)
@click.option("--only-tables", is_flag=True, help="Measure nothing; print the tables of the records.")
def main(
    fer2013: Path | None,
    ferplus: Path | None,
    ck48: Path | None,
    portraits: Path | None,
    names: tuple[str, ...],
    folder: Path,
    uv: str,
    record: Path,
    page: Path | None,
    slow_faces: int,
    slow_portraits: int,
    report: Path | None,
    stored: tuple[Path, ...],
    only_tables: bool,
) -> None:
    """Measure fer-edge and other packages: accuracy, time, size. A package that cannot run gets a row with the reason."""
    try:
        if unknown := [name for name in names if name not in PEERS]:
            raise ValueError(f"unknown package '{unknown[0]}'; choose one of: {', '.join(PEERS)}")
        if not only_tables:
            datasets = read_datasets(fer2013, ferplus, ck48)
            whole = read_gray_portraits(portraits) if portraits else None
            if not datasets and not whole:
                raise ValueError("nothing to measure on: give --fer2013, --ck48 or --portraits")
            part = {name: dataset.subset(slow_faces) for name, dataset in datasets.items()}
            for name in names or PEERS:
                click.echo(f"{name} ...", err=True)
                images = (part, whole and whole.subset(slow_portraits)) if PEERS[name].slow else (datasets, whole)
                append_json_lines(record, [record_peer(name, folder.resolve(), *images, uv)])
        records = read_json_lines(PeerRecord, record)
        if page:
            replace_section(page, "peers", peers_section(records))
        if report:
            pairs = record_rows({str(path): read_latency_records(path) for path in stored})
            write_report(pairs, report, report_table(records))
        click.echo(text_rows(records))
    except (ValueError, OSError, ImportError) as error:
        raise click.ClickException(str(error)) from error


def record_peer(name: str, folder: Path, datasets: Mapping[str, Faces], portraits: Faces | None, uv: str) -> PeerRecord:
    """Measure one package. If that fails, the record has the reason.

    Args:
        name: A key of PEERS.
        folder: Folder of all environments.
        datasets: Face crops by name of the dataset.
        portraits: Images of one whole head each.
        uv: The command uv.
    """
    fields: dict[str, Any] = {"peer": name, "date": time.strftime("%Y-%m-%d")}
    fields |= {"environment": describe_environment(), "before": read_state()}
    peer = PEERS[name]
    own = folder / re.findall(r"[\w-]+", peer.requirements[0].rpartition("/")[2])[0]
    try:
        return PeerRecord(**fields, **measure_peer(peer, own, datasets, portraits, uv))
    except PeerError as error:
        return PeerRecord(**fields, reason=str(error))


if __name__ == "__main__":
    main()
