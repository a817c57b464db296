import json
import subprocess
import sys
from configparser import ConfigParser
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from records import PC, STATE, latency

from fer_edge.artifacts.exported_faces import SPLITS, ExportedFaces
from fer_edge.artifacts.typed_json import append_json_lines, read_json_lines

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "benchmarks/peers"
compare = pytest.importorskip("fer_edge.benchmarks.peers.compare", reason="the wheel does not contain the peers")
catalog = pytest.importorskip("fer_edge.benchmarks.peers.catalog")
environments = pytest.importorskip("fer_edge.benchmarks.peers.environments")
records = pytest.importorskip("fer_edge.benchmarks.peers.peer_records")
tables = pytest.importorskip("fer_edge.benchmarks.peers.peer_tables")

FAKE_ADAPTER = """
LABELS = ("happy", "sad")
PACKAGES = ("numpy",)

class Fake:
    model_file = __file__

    def __init__(self, threshold):
        self.threshold = float(threshold)

    def classify(self, face):
        return [float(face.mean() > self.threshold), 0.5]

    def analyze(self, image):
        return [((0, 0, image.shape[1], image.shape[0]), self.classify(image))] if image.max() else []

load = Fake
"""


def test_the_wheel_contains_none_of_it():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    packages = config["options"]["packages"].split() + list(config["options.package_data"])
    assert not [package for package in packages if "peers" in package]


def test_adapters_are_short_and_every_one_is_in_the_catalog():
    adapters = [path for path in FOLDER.iterdir() if path.name.startswith("adapter_")]
    assert {path.name: len(path.read_text().splitlines()) for path in adapters if len(path.read_text().splitlines()) > 60} == {}
    assert {path.stem for path in adapters} == {peer.adapter for peer in catalog.PEERS.values() if peer.adapter}


def test_a_package_has_either_an_adapter_or_a_reason_and_a_fixed_version():
    for peer in catalog.PEERS.values():
        assert (peer.adapter is None) == bool(peer.reason)
        assert peer.registry == "fer-edge" or ("==" in peer.requirements[0] or "@" in peer.requirements[0][1:])


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A package whose environment is this Python, with a network that calls bright faces happy."""
    (tmp_path / "adapter_fake.py").write_text(FAKE_ADAPTER)
    (tmp_path / "worker.py").write_text((FOLDER / "worker.py").read_text())
    monkeypatch.setattr(compare, "command", lambda peer, folder, job: [sys.executable, str(tmp_path / "worker.py"), str(job)])
    monkeypatch.setattr(compare, "install", lambda peer, folder, uv: records.Installation(peer.requirements, 5_000_000))
    peer = catalog.Peer("PyPI", ("fake==1",), "adapter_fake", arguments=("100",))
    monkeypatch.setitem(catalog.PEERS, "fake", peer)
    (tmp_path / "fake").mkdir()
    return peer


def bright(*values, size=8):
    return np.stack([np.full((size, size), value, np.uint8) for value in values])


def test_a_worker_measures_a_package_in_another_process(fake, tmp_path):
    faces = compare.Faces(
        bright(200, 50, 60, 210),
        ("happy", "sad", "happy", "fear"),
        votes=({"happy": 0.8, "sad": 0.2}, {"sad": 0.6}, {"happy": 0.3, "sad": 0.3}, None),
        majority=("happy", "sad", None, None),
    )
    portraits = compare.Faces(bright(200, 0, 50, size=40), ("happy", "happy", "happy"))
    record = compare.record_peer("fake", tmp_path, {"fer2013": faces}, portraits, "uv")
    assert record.reason is None
    assert record.faces["fer2013"].accuracy == 0.5
    majority = record.faces["fer2013 majority"]
    assert (majority.faces, majority.accuracy, round(majority.agreement, 4)) == (2, 1.0, 0.5667)
    assert (record.portraits.found, record.portraits.correct) == (2 / 3, 1 / 3)
    assert (record.installed_bytes, record.model_bytes) == (5_000_000, len(FAKE_ADAPTER))
    assert record.versions == {"numpy": np.__version__}
    assert record.faces["fer2013"].p50_ms >= 0


def test_a_package_that_fails_is_a_row_with_the_reason(fake, tmp_path, monkeypatch):
    monkeypatch.setitem(catalog.PEERS, "fake", replace(fake, arguments=("no number",)))
    record = compare.record_peer("fake", tmp_path, {"ck48": compare.Faces(bright(1), ("sad",))}, None, "uv")
    assert record.reason == "it failed: ValueError: could not convert string to float: 'no number'"
    assert tables.text_rows([record]).endswith(f"fake: not measured: {record.reason}")


def test_a_package_without_weights_is_a_row_with_the_reason(tmp_path):
    record = compare.record_peer("deepface", tmp_path, {}, None, "uv")
    assert record.reason == "weights are not in the package: it downloads them at the first use"


@pytest.mark.parametrize(
    ("registry", "found", "reason"),
    [
        ("npm", None, "Node.js and npm are not installed"),
        ("PyPI", "/no/such/uv", "the command /no/such/uv is not installed"),
    ],
)
def test_a_missing_installer_is_named(tmp_path, monkeypatch, registry, found, reason):
    monkeypatch.setattr(environments.shutil, "which", lambda name: None)
    monkeypatch.setattr(environments.sys, "executable", "/bin/true")  # creates no environment
    with pytest.raises(environments.PeerError, match=f"^{reason}$"):
        environments.install(catalog.Peer(registry, ("fake@1",), "adapter_fake"), tmp_path / "fake", found or "uv")


def test_a_failed_installation_has_the_error_of_the_installer_and_is_not_complete(tmp_path, monkeypatch):
    installer = tmp_path / "uv"
    installer.write_text("#!/bin/sh\necho Resolving >&2; echo '  Failed: no such version' >&2; echo hint: wait >&2\nexit 1\n")
    installer.chmod(0o755)
    monkeypatch.setattr(environments.sys, "executable", "/bin/true")
    with pytest.raises(environments.PeerError, match=r"^the installation failed: Failed: no such version$"):
        environments.install(catalog.Peer("PyPI", ("fake==1",), "adapter_fake"), tmp_path / "fake", str(installer))
    assert not (tmp_path / "fake" / environments.DONE).exists()


def test_a_complete_environment_is_used_again_until_its_requirements_change(tmp_path, monkeypatch):
    peer = catalog.Peer("PyPI", ("fake==1",), "adapter_fake")
    (tmp_path / "package.py").write_bytes(b"x" * 100)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "package.pyc").write_bytes(b"x" * 1000)
    assert environments.mark_complete(peer, tmp_path, 40).installed_bytes == 60
    assert environments.install(peer, tmp_path, "/no/such/uv").installed_bytes == 60
    monkeypatch.setattr(environments.sys, "executable", "/bin/true")
    with pytest.raises(environments.PeerError, match="uv is not installed"):
        environments.install(replace(peer, requirements=("fake==2",)), tmp_path, "/no/such/uv")


def test_votes_are_matched_by_id_because_ferplus_leaves_out_faces():
    images, targets = bright(1, 2, 3), np.array([0, 1, 1])
    divisions = np.array([[SPLITS.index(name) for name in ("train", "test", "test")]], np.int8)
    plain = ExportedFaces(
        "fer2013", "f", ("happy", "sad"), ("a", "b", "c"), images, targets, "official", False, ("0",), divisions
    )
    voted = replace(
        plain, ids=("c",), labels=("happy", "neutral", "sad"), images=images[2:], targets=np.array([1]),
        divisions=divisions[:, 2:], vote_shares=np.array([[0.25, 0.75, 0]], np.float32), majority=np.array([True]),
    )  # fmt: skip
    faces = compare.from_exported(plain, voted)
    assert faces.images[:, 0, 0].tolist() == [2, 3]
    assert (faces.labels, faces.majority) == (("sad", "sad"), (None, "neutral"))
    assert faces.votes == (None, {"happy": 0.25, "neutral": 0.75, "sad": 0.0})


def test_a_part_is_the_same_in_every_run():
    faces = compare.Faces(bright(*range(100)), tuple(map(str, range(100))), majority=tuple(map(str, range(100))))
    part = faces.subset(10)
    assert part.labels == part.majority == faces.subset(10).labels
    assert part.images[:, 0, 0].tolist() == [int(label) for label in part.labels]
    assert faces.subset(100) is faces


def measured(peer, **changes):
    faces = {
        "fer2013": records.FacesResult(100, 0.65, 0.38, 0.5, 0.6),
        "fer2013 majority": records.FacesResult(90, 0.8, 0.38, 0.5, 0.6, 0.7),
    }
    fields = {
        "versions": {peer: "1.2"},
        "installed_bytes": 7_600_000_000,
        "model_bytes": 93_160,
        "import_s": 4.5,
        "load_s": 0.1,
    }
    return records.PeerRecord(peer, "2026-11-27", PC, STATE, faces=faces, **{**fields, **changes})


def test_the_tables_have_the_last_record_of_each_package_next_to_its_claims():
    old, new = measured("fer", model_bytes=1), measured("fer")
    section = tables.peers_section([old, new, records.PeerRecord("facex", "2026-11-27", PC, STATE, reason="no network")])
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| fer ")
    ]
    accuracy, cost, claim = lines
    assert accuracy[:4] == ["fer", "0.650 (0.553 to 0.736, n = 100)", "0.800 (0.706 to 0.870, n = 90)", "0.700"]
    assert accuracy[4:] == ["not measured"] * 3
    assert cost == ["fer", "1.2", "93", "7,600", "4.50", "0.38", "not measured"]
    assert claim[1:] == ["the TFLite file is 7 times faster than the Keras file", "docstring of FER in fer 25.10.3"]
    assert section.endswith("### Not measured\n\n- facex: no network.")
    assert section.startswith("Measured 2026-11-27 on a PC; load of the machine 0 to 0.")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--peer", "libreface"], "unknown package 'libreface'; choose one of: fer-edge cnn_nano_ferplus, "),
        ([], "nothing to measure on: give --fer2013, --ck48 or --portraits"),
        (["--portraits", "nowhere.zip"], "no portraits at 'nowhere.zip'"),
        (["--ck48", "nowhere.npz"], "nowhere.npz"),
        (["--only-tables", "--page", "nowhere.md"], "nowhere.md"),
    ],
)
def test_wrong_arguments_are_named(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(compare.main, words)
    assert result.exit_code == 1
    assert message in result.output


def test_the_command_prints_one_table_and_appends_the_records(fake, tmp_path, monkeypatch):
    (tmp_path / "portraits").mkdir()
    monkeypatch.setattr(compare, "read_gray_portraits", lambda path: compare.Faces(bright(200, size=40), ("happy",)))
    words = ["--portraits", "x", "--peer", "fake", "--folder", str(tmp_path), "--record", str(tmp_path / "peers.jsonl")]
    result = CliRunner().invoke(compare.main, words)
    assert result.exit_code == 0, result.output
    (record,) = read_json_lines(records.PeerRecord, tmp_path / "peers.jsonl")
    assert record.portraits.correct == 1.0
    assert "fake" in result.output.splitlines()[-1]


def test_the_report_has_the_packages_next_to_the_files(tmp_path, monkeypatch):
    pytest.importorskip("bokeh", reason="bokeh is not installed: pip install 'fer-edge[bench]'")
    path, report = tmp_path / "peers.jsonl", tmp_path / "report.html"
    append_json_lines(path, [measured("fer"), records.PeerRecord("facex", "2026-11-27", PC, STATE, reason="no network")])
    append_json_lines(tmp_path / "bench.jsonl", [latency()])
    words = ["--only-tables", "--record", str(path), "--from", str(tmp_path / "bench.jsonl"), "--report", str(report)]
    result = CliRunner().invoke(compare.main, words)
    assert result.exit_code == 0, result.output
    page = report.read_text()
    assert 'data-key="0.65" title="55.3 to 73.6 %, 100 images">65.0 %<' in page.replace("\n", "")
    assert 'data-key="7600.0"' in page
    assert "1 model file on 1 board" in page
    assert "facex" not in page


def test_the_documentation_has_the_tables_of_the_records():
    measured = read_json_lines(records.PeerRecord, ROOT / "benchmarks/results/peers.jsonl")
    assert tables.peers_section(measured) in (ROOT / "docs/peers.md").read_text()


@pytest.mark.skipif(not environments.shutil.which("node"), reason="Node.js is not installed")
def test_the_worker_of_nodejs_reads_the_same_files_and_writes_the_same_results(tmp_path):
    (tmp_path / "worker.mjs").write_text((FOLDER / "worker.mjs").read_text())
    (tmp_path / "node_modules/fake").mkdir(parents=True)
    (tmp_path / "node_modules/fake/package.json").write_text('{"version": "1.0"}')
    (tmp_path / "adapter_fake.mjs").write_text(
        "export const LABELS = ['happy']; export const PACKAGES = ['fake'];\n"
        "export const importPackages = () => ({});\n"
        "export const load = (modules, folder) => ({ modelFile: `${folder}/fake/package.json`,\n"
        "  classify: ({ gray, height, width }) => [gray[0], gray[gray.length - 1], height, width], analyze: () => [] });\n"
    )
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    np.save(tmp_path / "faces.npy", images)
    job = {
        "adapter": "adapter_fake",
        "arguments": [],
        "environment": str(tmp_path),
        "faces": {"ck48": str(tmp_path / "faces.npy")},
    }
    job |= {"images": {"portraits": str(tmp_path / "faces.npy")}, "results": str(tmp_path / "results.json")}
    (tmp_path / "job.json").write_text(json.dumps(job))
    subprocess.run(["node", tmp_path / "worker.mjs", tmp_path / "job.json"], check=True, capture_output=True)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["faces"]["ck48"]["outputs"] == [[0, 11, 3, 4], [12, 23, 3, 4]]
    assert results["images"]["portraits"]["outputs"] == [[], []]
    assert (results["versions"], results["model_bytes"]) == ({"fake": "1.0"}, 18)
