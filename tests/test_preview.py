import json
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import TOKEN
from live import labeled

from fer_edge.edge_runtime.cameras.source import open_source
from fer_edge.edge_runtime.images import import_cv2
from fer_edge.edge_runtime.live import stats as stats_module
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.outputs import http_server
from fer_edge.edge_runtime.outputs import preview as preview_module
from fer_edge.edge_runtime.outputs.http_server import is_loopback
from fer_edge.edge_runtime.outputs.preview import MAX_STREAMS, PreviewServer

pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'fer-edge[serve]'")


def get(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def feed(preview, stop, pause_s=0.02):
    number = 1
    while not stop.is_set():
        number += 1
        preview.write(labeled(number, value=number % 200))
        time.sleep(pause_s)


def test_only_loopback_addresses_need_no_token():
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "192.168.1.5", "pi.local")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    server = PreviewServer("0.0.0.0:0", PipelineStats())
    try:
        port = server.url.split(":")[2].split("/")[0]
        assert "?token=" in server.url
        assert get(f"http://127.0.0.1:{port}/")[0] == 401
        assert get(f"http://127.0.0.1:{port}/?{server.url.partition('?')[2]}")[0] == 200
    finally:
        server.close(True)


class Route:
    """A UDP socket of a board with the address 192.168.1.5, or without a network."""

    def __init__(self, connected):
        self.connected = connected

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def connect(self, address):
        if not self.connected:
            raise OSError("Network is unreachable")

    def getsockname(self):
        return "192.168.1.5", 1


@pytest.mark.parametrize(
    ("host", "connected", "expected"),
    [
        ("0.0.0.0", True, "192.168.1.5"),
        ("0.0.0.0", False, "raspberrypi"),
        ("::", True, "raspberrypi"),
        ("::1", True, "[::1]"),
        ("pi.local", True, "pi.local"),
    ],
)
def test_the_printed_host_is_one_that_other_machines_can_open(monkeypatch, host, connected, expected):
    monkeypatch.setattr(http_server.socket, "gethostname", lambda: "raspberrypi")
    monkeypatch.setattr(http_server.socket, "socket", lambda *kind: Route(connected))
    assert http_server.host_for_clients(host) == expected


def test_another_loopback_address_accepts_its_own_name():
    server = PreviewServer("127.0.0.2:0", PipelineStats())
    try:
        assert get(server.url)[0] == 200
        assert get(server.url, Host="evil.example")[0] == 403
    finally:
        server.close(True)


def test_the_page_and_the_state_are_served_and_not_cached(preview):
    status, body, headers = get(preview.url)
    assert status == 200
    assert b"<title>fer-edge preview</title>" in body
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    state = state_of(preview)
    assert state["faces"][0]["label"] == "happy"
    assert set(state["faces"][0]["probabilities"]) == {"angry", "happy", "sad"}


def state_of(server):
    return json.loads(get(server.url + "state.json")[1])


def test_the_state_has_the_latency_in_ms_and_the_frame_rate(monkeypatch):
    clock = SimpleNamespace(now_s=100.0)
    monkeypatch.setattr(stats_module, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    stats = PipelineStats()
    server = PreviewServer("127.0.0.1:0", stats)
    try:
        state = state_of(server)
        assert (state["latency_ms"], state["frames_per_second"], state["dropped"]) == (None, 0.0, 0)
        for number in range(1, 6):
            clock.now_s += 0.123
            stats.count_frame(1, capture_time_s=clock.now_s - 0.04246)
            assert stats.processed == number
            assert (stats.frames_per_second > 0) == (number > 1)
        stats.dropped = 7
        state = state_of(server)
        assert (state["latency_ms"], state["frames_per_second"], state["dropped"]) == (42.5, 8.1, 7)
        assert stats.as_dict()["latency_ms"] == pytest.approx(42.46)
        clock.now_s += 0.508
        stats.count_frame(1, capture_time_s=None)  # a file has no capture time
        state = state_of(server)
        assert (state["latency_ms"], state["frames_per_second"]) == (None, 5.0)
    finally:
        server.close(True)


def test_the_frame_rate_is_that_of_the_newest_100_frames(monkeypatch):
    clock = SimpleNamespace(now_s=0.0)
    monkeypatch.setattr(stats_module, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    stats = PipelineStats()
    for interval_s in [10.0] * 50 + [0.5] * 100:
        clock.now_s += interval_s
        stats.count_frame(1, None)
    assert stats.frames_per_second == pytest.approx(2.0)


def test_the_state_has_the_age_of_the_newest_frame_in_seconds(preview, monkeypatch):
    monkeypatch.setattr(preview_module, "time", SimpleNamespace(monotonic=lambda: preview._newest_s + 60.26))
    assert state_of(preview)["age_s"] == 60.3


def test_an_8k_frame_is_reduced_to_960_pixels(preview):
    preview.write(labeled(2, width=7680, height=4320))
    with urllib.request.urlopen(preview.url + "stream.mjpg", timeout=30) as answer:
        head = [answer.readline() for _ in range(4)]
        data = answer.read(int(head[2].split(b":")[1]))
    assert import_cv2().imdecode(np.frombuffer(data, np.uint8), 1).shape == (540, 960, 3)


def test_every_path_requires_the_right_token(guarded):
    bare = guarded.url.split("?")[0]
    for path in ("", "stream.mjpg", "events", "state.json", "nothing"):
        assert get(bare + path)[0] == 401
        assert get(bare + path + "?token=wrong")[0] == 401
        assert get(bare + path, Cookie="fer_edge_token=")[0] == 401
        assert get(bare + path, Authorization="Bearer wr\xf6ng")[0] == 401
    assert get(bare + "state.json", Authorization=f"Bearer {TOKEN}")[0] == 200
    status, _, headers = get(guarded.url)
    assert status == 200
    assert "HttpOnly" in headers["Set-Cookie"]
    assert "SameSite=Strict" in headers["Set-Cookie"]
    assert "Secure" not in headers["Set-Cookie"]
    through_proxy = {name: get(guarded.url, **{"X-Forwarded-Proto": name})[2]["Set-Cookie"] for name in ("https", "http")}
    assert ["Secure" in cookie for cookie in through_proxy.values()] == [True, False]
    assert get(bare + "state.json", Cookie=f"fer_edge_token={TOKEN}")[0] == 200


def test_requests_through_a_foreign_host_name_are_rejected(preview):
    for host in ("evil.example", "evil.example:8080", "localhost.evil.example", "[", ""):
        assert get(preview.url + "state.json", Host=host)[0] in (400, 403)
    for host in ("localhost", "localhost:9999", "[::1]:1", "127.0.0.1"):
        assert get(preview.url + "state.json", Host=host)[0] == 200


@pytest.mark.parametrize(
    "path", ["../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd", "//etc/passwd", "static"]
)
def test_path_traversal_finds_nothing(preview, path):
    status, body, _ = get(preview.url + path)
    assert status == 404
    assert b"root:" not in body


def test_a_header_of_1_mb_is_rejected_and_the_next_client_is_served(preview):
    assert get(preview.url, X="a" * (1 << 20))[0] == 400
    assert get(preview.url)[0] == 200


def test_the_error_for_a_port_in_use_names_the_option():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="Choose another --serve"):
            PreviewServer(f"127.0.0.1:{taken.getsockname()[1]}", PipelineStats())


def test_an_address_of_another_machine_is_named():
    with pytest.raises(OSError, match=r"at 203.0.113.9:80: Cannot assign requested address. Choose another --serve address"):
        PreviewServer("203.0.113.9:80", PipelineStats())


def open_stream(preview):
    host, port = preview.url.split("//")[1].strip("/").split(":")
    client = socket.create_connection((host, int(port)), timeout=10)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.sendall(f"GET /stream.mjpg HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return client


def state_frame(preview):
    time.sleep(0.05)  # the feeder and 20 clients share one core
    return state_of(preview)["frame"]


def test_20_clients_that_never_read_do_not_delay_others(preview):
    stop = threading.Event()
    feeder = threading.Thread(target=feed, args=(preview, stop, 0.001))
    feeder.start()
    slow = [open_stream(preview) for _ in range(20)]
    try:
        with urllib.request.urlopen(preview.url + "stream.mjpg", timeout=10) as stream:
            assert sum(stream.readline().startswith(b"--frame") for _ in range(400)) >= 3
        assert get(preview.url)[0] == 200
        first, *later = [state_frame(preview) for _ in range(20)]
        assert max(later) > first
    finally:
        stop.set()
        feeder.join()
        for client in slow:
            client.close()


def test_the_number_of_streams_is_limited_and_closed_ones_free_their_place(preview):
    clients = [open_stream(preview) for _ in range(MAX_STREAMS)]
    for client in clients:
        assert client.recv(12) == b"HTTP/1.1 200"
    status, text, _ = get(preview.url + "stream.mjpg")
    assert (status, text) == (503, b"All 64 streams are in use (two per page).\n")
    for client in clients:
        client.close()
    for _ in range(100):
        if preview._streams == 0:
            break
        preview.write(labeled(2))
        time.sleep(0.05)
    assert preview._streams == 0


def test_closing_leaves_no_thread_and_no_file_handle():
    threads, handles = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    server = PreviewServer("127.0.0.1:0", PipelineStats())
    server.write(labeled(1))
    client = open_stream(server)
    client.recv(1000)
    server.close(True)
    server.close(True)
    client.close()
    assert threading.active_count() == threads
    assert len(list(Path("/proc/self/fd").iterdir())) <= handles


def test_a_preview_is_a_source_for_another_board(preview):
    stop = threading.Event()
    feeder = threading.Thread(target=feed, args=(preview, stop))
    feeder.start()
    frames = open_source(preview.url + "stream.mjpg").frames(threading.Event())
    try:
        first = next(frames)
        assert (first.width, first.height) == (64, 64)
        assert first.time is not None
    finally:
        frames.close()
        stop.set()
        feeder.join()


def test_the_last_image_is_sent_exactly_twice(preview, monkeypatch):
    monkeypatch.setattr(preview_module, "RESEND_S", 0.1)
    received = b""
    with open_stream(preview) as client:
        client.settimeout(1)
        with pytest.raises(TimeoutError):
            while True:
                received += client.recv(1 << 16)
    assert received.count(b"--frame") == 2
