import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from conftest import TOKEN
from live import labeled

from fer_edge import __version__
from fer_edge.artifacts.file_digest import file_digest
from fer_edge.edge_runtime import board
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.outputs import metrics as metrics_module
from fer_edge.edge_runtime.outputs.metrics import MetricsServer

pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'fer-edge[metrics]'")
parser = pytest.importorskip(
    "prometheus_client.parser", reason="prometheus-client is not installed: pip install 'fer-edge[metrics]'"
)

ROOT = Path(__file__).parent.parent
MONITORING = ROOT / "docs/monitoring"
SHOWN = {"model": "m_int8.tflite", "model_sha256": "ab" * 32, "detector": "haar", "board": "Raspberry Pi 5"}


@pytest.fixture
def serve():
    servers = []

    def start(stats=None, address="127.0.0.1:0", **options):
        servers.append(MetricsServer(address, stats or PipelineStats(), SHOWN, ("angry", "happy", "sad"), **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close(True)


def get(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def samples(server):
    """The samples as {(name, label values...): value}, as Prometheus reads them."""
    _, text, headers = get(server.url)
    assert headers["Content-Type"].startswith("text/plain; version=")
    families = parser.text_string_to_metric_families(text)
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def run_of_a_camera():
    """The counters of a camera that delivered 12 frames, was lost twice and is back once."""
    stats = PipelineStats()
    stats.captured, stats.dropped, stats.lost, stats.reopened = 12, 3, 2, 1
    for elapsed_ms in (0.4, 3.0, 3.0, 20_000.0):
        stats.histograms()["classify"].add(elapsed_ms)
    stats.count_frame(2, time.monotonic() - 0.04)
    return stats


def test_the_counters_of_the_pipeline_are_served(serve):
    values = samples(serve(run_of_a_camera()))
    assert {name: values[f"fer_edge_{name}",] for name in (
        "frames_captured_total", "frames_labeled_total", "frames_dropped_total", "camera_losses_total", "camera_up",
    )} == {
        "frames_captured_total": 12, "frames_labeled_total": 1, "frames_dropped_total": 3, "camera_losses_total": 2,
        "camera_up": 0,
    }  # fmt: skip
    assert values["process_resident_memory_bytes",] > 1e6


def test_a_camera_is_up_from_its_first_frame_until_it_is_lost(serve):
    stats = PipelineStats()
    server = serve(stats)
    up = [samples(server)["fer_edge_camera_up",]]
    for stats.captured, stats.lost, stats.reopened in ((1, 0, 0), (5, 1, 0), (6, 1, 1)):
        up.append(samples(server)["fer_edge_camera_up",])
    assert up == [0, 1, 0, 1]


def test_the_labels_of_faces_are_counted_from_zero(serve):
    server = serve()
    for number in range(3):
        server.write(labeled(number))  # one face, happy
    values = samples(server)
    assert [values["fer_edge_faces_total", label] for label in ("angry", "happy", "sad")] == [0, 3, 0]


def test_the_age_of_the_newest_frame_is_served_once_there_is_one(serve, monkeypatch):
    clock = metrics_module.time.monotonic
    server = serve()
    assert ("fer_edge_newest_frame_age_seconds",) not in samples(server)
    server.write(labeled(1))
    monkeypatch.setattr(server, "_newest_s", clock() - 60)
    assert samples(server)["fer_edge_newest_frame_age_seconds",] == pytest.approx(60, abs=5)


def test_stage_times_are_a_cumulative_histogram_in_seconds(serve):
    values = samples(serve(run_of_a_camera()))
    bounds = ("0.00025", "0.0005", "0.0025", "0.005", "10.0", "+Inf")
    assert [values["fer_edge_stage_seconds_bucket", bound, "classify"] for bound in bounds] == [0, 1, 1, 3, 3, 4]
    assert values["fer_edge_stage_seconds_count", "classify"] == 4
    assert values["fer_edge_stage_seconds_sum", "classify"] == pytest.approx(20.0064)
    assert values["fer_edge_stage_seconds_count", "detect"] == 0
    assert values["fer_edge_latency_seconds_count",] == 1
    assert 0.04 <= values["fer_edge_latency_seconds_sum",] < 5


def test_the_model_its_digest_and_the_board_are_named(serve, tmp_path):
    _, text, _ = get(serve().url)
    (info,) = (line for line in text.splitlines() if line.startswith("fer_edge_info{"))
    for name, value in {**SHOWN, "version": __version__}.items():
        assert f'{name}="{value}"' in info
    (tmp_path / "m.tflite").write_bytes(b"abc")
    assert file_digest(tmp_path / "m.tflite") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_state_of_the_board_is_served_in_words(serve, monkeypatch):
    monkeypatch.setattr(metrics_module, "temperature_c", lambda: 84.2)
    monkeypatch.setattr(metrics_module, "throttle_bits", lambda: 0x50004)  # throttled now; under-voltage before
    values = samples(serve())
    assert values["fer_edge_temperature_celsius",] == 84.2
    reasons = ("under_voltage", "frequency_capped", "throttled", "soft_temperature_limit")
    assert [values["fer_edge_throttled", reason] for reason in reasons] == [0, 0, 1, 0]
    assert [values["fer_edge_throttled_since_start", reason] for reason in reasons] == [1, 0, 1, 0]


def test_what_a_pc_cannot_read_is_left_out(serve, monkeypatch):
    monkeypatch.setattr(metrics_module, "temperature_c", lambda: None)
    monkeypatch.setattr(metrics_module, "throttle_bits", lambda: None)
    names = {name for name, *_ in samples(serve())}
    assert not {"fer_edge_temperature_celsius", "fer_edge_throttled"} & names


@pytest.mark.parametrize("folder", ["soc/soc:firmware", "soc@107c000000/soc@107c000000:firmware"])
def test_the_flags_of_the_firmware_are_read_on_both_kinds_of_board(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(board, "DEVICES", tmp_path)
    assert board.throttle_bits() is None
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "get_throttled").write_text("50005\n")
    assert board.throttle_bits() == 0x50005
    (tmp_path / folder / "get_throttled").write_text("\n")
    assert board.throttle_bits() is None


def test_a_website_cannot_read_the_metrics_through_a_local_browser(serve):
    assert get(serve().url, Host="evil.example")[0] == 403


def test_another_machine_needs_the_token(serve):
    server = serve(address="0.0.0.0:0", token=TOKEN)
    port = server.url.split(":")[2].partition("/")[0]
    url = f"http://127.0.0.1:{port}/metrics"
    assert server.url.endswith(f"/metrics?token={TOKEN}")
    assert [get(url)[0], get(url, Authorization="Bearer wrong")[0]] == [401, 401]
    assert get(url, Authorization=f"Bearer {TOKEN}")[0] == 200
    assert get(f"http://127.0.0.1:{port}/")[0] == 401


def test_a_port_in_use_is_named(serve):
    address = serve().url.split("/")[2]
    with pytest.raises(OSError, match=rf"cannot serve the metrics at {address}: .*in use.* another --metrics address"):
        serve(address=address)


def test_openmetrics_is_served_to_those_who_ask(serve):
    _, text, headers = get(serve().url, Accept="application/openmetrics-text; version=1.0.0")
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


def monitored_metrics():
    """The metrics of fer-edge that the dashboard and the alert rules read."""
    texts = ((MONITORING / name).read_text() for name in ("grafana-dashboard.json", "alerts.yml"))
    return {name for text in texts for name in re.findall(r"\b(?:fer_edge|process)_\w+", text)}


def test_dashboard_and_alerts_read_only_metrics_that_exist(serve, monkeypatch):
    monkeypatch.setattr(metrics_module, "temperature_c", lambda: 50.0)
    monkeypatch.setattr(metrics_module, "throttle_bits", lambda: 0)
    names = {name for name, *_ in samples(serve(run_of_a_camera()))}
    assert len(monitored_metrics()) > 10
    assert monitored_metrics() - names == set()


def test_each_panel_of_the_dashboard_has_a_query_and_a_place():
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) == 12
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert all(0 <= x < 24 for x, _ in cells)
    assert all(target["expr"] and target["refId"] for panel in panels for target in panel["targets"])


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed: apt-get install prometheus")
def test_each_alert_fires_for_its_cause_and_not_before():
    done = subprocess.run(
        ["promtool", "test", "rules", str(ROOT / "tests/alerts_test.yml")], capture_output=True, text=True, check=False
    )
    assert "SUCCESS" in done.stdout, done.stdout + done.stderr


PROMETHEUS = """
global: {{scrape_interval: 2s, scrape_timeout: 2s}}
scrape_configs:
  - job_name: fer-edge
    authorization: {{credentials_file: {token}}}
    static_configs: [{{targets: [{targets}]}}]
"""


@pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed: apt-get install prometheus")
def test_a_real_prometheus_scrapes_two_boards(serve, tmp_path):
    kitchen, hall = serve(run_of_a_camera(), token=TOKEN), serve(token=TOKEN)
    hall.write(labeled(1))
    targets = [server.url.split("/")[2] for server in (kitchen, hall)]
    (tmp_path / "token").write_text(TOKEN)
    config = tmp_path / "prometheus.yml"
    config.write_text(PROMETHEUS.format(token=tmp_path / "token", targets=", ".join(targets)))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = subprocess.Popen(
        ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address={address}"],
        stderr=subprocess.PIPE,
    )
    try:
        query = urllib.parse.quote('{__name__=~"up|fer_edge_frames_captured_total|fer_edge_faces_total"}')
        found, end = {}, time.monotonic() + 120
        while len(found) < 10:
            assert time.monotonic() < end, found
            time.sleep(0.2)
            with contextlib.suppress(OSError):
                status, text, _ = get(f"http://{address}/api/v1/query?query={query}")
                answer = json.loads(text)["data"]["result"] if status == 200 else []  # 503 while it starts
                results = [(result["metric"], float(result["value"][1])) for result in answer]
                found = {(name["instance"], name["__name__"], name.get("label")): value for name, value in results}
    finally:
        process.terminate()
        process.communicate()
    assert [found[target, "up", None] for target in targets] == [1, 1]
    assert [found[target, "fer_edge_frames_captured_total", None] for target in targets] == [12, 0]
    assert [found[target, "fer_edge_faces_total", "happy"] for target in targets] == [0, 1]
