import json
import math
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from live import labeled

from fer_edge.benchmarks.synthetic_scenes import read_face, write_clip
from fer_edge.edge_runtime import stream
from fer_edge.edge_runtime.cameras.source import open_source
from fer_edge.edge_runtime.images import import_cv2, write_image
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.outputs import preview as preview_module
from fer_edge.edge_runtime.outputs.preview import MAX_CONNECTIONS, PreviewServer, is_loopback
from fer_edge.train.synthetic import synthetic_image

pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'fer-edge[serve]'")


@pytest.fixture
def preview():
    made = PreviewServer("127.0.0.1:0", PipelineStats())
    made.write(labeled(1))
    yield made
    made.close(True)


@pytest.fixture
def guarded():
    made = PreviewServer("127.0.0.1:0", PipelineStats(), token="right")
    made.write(labeled(1))
    yield made
    made.close(True)


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
    made = PreviewServer("0.0.0.0:0", PipelineStats())
    try:
        port = made.url.split(":")[2].split("/")[0]
        assert "?token=" in made.url
        assert get(f"http://127.0.0.1:{port}/")[0] == 401
        assert get(f"http://127.0.0.1:{port}/?{made.url.partition('?')[2]}")[0] == 200
    finally:
        made.close(True)


class Route:
    """A UDP socket of a board that is at 192.168.1.5, or on no network at all."""

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
    ("host", "connected", "shown"),
    [
        ("0.0.0.0", True, "192.168.1.5"),
        ("0.0.0.0", False, "raspberrypi"),
        ("::", True, "raspberrypi"),
        ("::1", True, "[::1]"),
        ("pi.local", True, "pi.local"),
    ],
)
def test_the_address_that_is_shown_is_one_that_a_browser_can_open(monkeypatch, host, connected, shown):
    monkeypatch.setattr(preview_module.socket, "gethostname", lambda: "raspberrypi")
    monkeypatch.setattr(preview_module.socket, "socket", lambda *kind: Route(connected))
    assert preview_module._host_for_browsers(host) == shown


def test_another_loopback_address_answers_to_its_own_name():
    made = PreviewServer("127.0.0.2:0", PipelineStats())
    try:
        assert get(made.url)[0] == 200
        assert get(made.url, Host="evil.example")[0] == 403
    finally:
        made.close(True)


def test_the_page_and_the_state_are_served_and_kept_by_nobody(preview):
    status, body, headers = get(preview.url)
    assert status == 200
    assert b"<title>fer-edge preview</title>" in body
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    state = json.loads(get(preview.url + "state.json")[1])
    assert state["faces"][0]["label"] == "happy"
    assert set(state["faces"][0]["probabilities"]) == {"angry", "happy", "sad"}


def test_a_frame_of_8k_is_shown_in_the_page_s_size(preview):
    preview.write(labeled(2, width=7680, height=4320))
    with urllib.request.urlopen(preview.url + "stream.mjpg", timeout=30) as answer:
        head = [answer.readline() for _ in range(4)]
        data = answer.read(int(head[2].split(b":")[1]))
    assert import_cv2().imdecode(np.frombuffer(data, np.uint8), 1).shape == (540, 960, 3)


def test_a_token_that_is_missing_or_wrong_opens_nothing(guarded):
    bare = guarded.url.split("?")[0]
    for path in ("", "stream.mjpg", "events", "state.json", "nothing"):
        assert get(bare + path)[0] == 401
        assert get(bare + path + "?token=wrong")[0] == 401
        assert get(bare + path, Cookie="fer_edge_token=")[0] == 401
        assert get(bare + path, Authorization="Bearer wr\xf6ng")[0] == 401
    assert get(bare + "state.json", Authorization="Bearer right")[0] == 200
    status, _, headers = get(guarded.url)
    assert status == 200
    assert "HttpOnly" in headers["Set-Cookie"]
    assert "SameSite=Strict" in headers["Set-Cookie"]
    assert get(bare + "state.json", Cookie="fer_edge_token=right")[0] == 200


def test_a_site_that_points_its_name_at_this_machine_is_refused(preview):
    for host in ("evil.example", "evil.example:8080", "localhost.evil.example", "[", ""):
        assert get(preview.url + "state.json", Host=host)[0] in (400, 403)
    for host in ("localhost", "localhost:9999", "[::1]:1", "127.0.0.1"):
        assert get(preview.url + "state.json", Host=host)[0] == 200


@pytest.mark.parametrize(
    "path", ["../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd", "//etc/passwd", "static"]
)
def test_a_path_that_climbs_out_finds_nothing(preview, path):
    status, body, _ = get(preview.url + path)
    assert status == 404
    assert b"root:" not in body


def test_a_header_of_a_megabyte_is_refused_and_the_next_client_is_served(preview):
    assert get(preview.url, X="a" * (1 << 20))[0] == 400
    assert get(preview.url)[0] == 200


def test_a_port_that_is_taken_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match="Choose another --serve"):
            PreviewServer(f"127.0.0.1:{taken.getsockname()[1]}", PipelineStats())


def open_stream(preview):
    host, port = preview.url.split("//")[1].strip("/").split(":")
    client = socket.create_connection((host, int(port)), timeout=10)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.sendall(f"GET /stream.mjpg HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return client


def state_frame(preview):
    time.sleep(0.05)  # the feeder and 20 clients share a core
    return json.loads(get(preview.url + "state.json")[1])["frame"]


def test_twenty_clients_that_never_read_keep_nobody_waiting(preview):
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


def test_there_is_a_most_of_connections_and_those_who_leave_make_room(preview):
    clients = [open_stream(preview) for _ in range(MAX_CONNECTIONS)]
    for client in clients:
        assert client.recv(12) == b"HTTP/1.1 200"
    status, text, _ = get(preview.url + "stream.mjpg")
    assert (status, text) == (503, b"All 64 connections are in use (two per page).\n")
    for client in clients:
        client.close()
    for _ in range(100):
        if preview._connections == 0:
            break
        preview.write(labeled(2))
        time.sleep(0.05)
    assert preview._connections == 0


def test_closing_leaves_no_thread_and_no_file_handle():
    threads, handles = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    made = PreviewServer("127.0.0.1:0", PipelineStats())
    made.write(labeled(1))
    client = open_stream(made)
    client.recv(1000)
    made.close(True)
    made.close(True)
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


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        pytest.skip("no Chromium on this machine: sudo apt install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(chromium, url, width=1280, height=800):
    """Open the page; what it complains about is kept in ``page.problems``."""
    page = chromium.new_page(viewport={"width": width, "height": height})
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(url, wait_until="commit")
    return page


def wait_for(page, condition, seconds=20):
    # wait_for_function would need eval() in the page, which its security policy forbids.
    for _ in range(seconds * 10):
        if condition():
            return
        page.wait_for_timeout(100)
    pytest.fail(f"it did not happen in time; the page says: {page.inner_text('body')}")


def shown(page):
    """Return what the page shows of its only face: label, and percent of each label."""
    names, shares = page.locator("section dt").all_inner_texts(), page.locator("section dd.percent").all_inner_texts()
    return page.inner_text("section h2 .label"), dict(zip(names, shares, strict=True))


def percents(face):
    return {label: f"{math.floor(share * 100 + 0.5)} %" for label, share in face.probabilities.items()}


def test_the_last_picture_comes_twice_so_that_it_shows_and_no_more_so_that_the_loss_is_noticed(preview, monkeypatch):
    monkeypatch.setattr(preview_module, "RESEND_S", 0.1)
    received = b""
    with open_stream(preview) as client:
        client.settimeout(1)
        with pytest.raises(TimeoutError):
            while True:
                received += client.recv(1 << 16)
    assert received.count(b"--frame") == 2


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_page_in_chromium_shows_the_clip_s_label_and_its_probabilities(chromium, models, tmp_path, width, height):
    write_clip(tmp_path / "clip.mp4", read_face_of(tmp_path), 45)
    pipeline = stream(tmp_path / "clip.mp4", models["int8"], detector="haar", threads=1)
    preview = PreviewServer("127.0.0.1:0", pipeline.stats)
    try:
        page = open_page(chromium, preview.url, width, height)
        for labeled_frame in pipeline:
            preview.write(labeled_frame)
            page.wait_for_timeout(20)
        (face,) = labeled_frame.faces
        wait_for(page, lambda: page.locator("section[data-label]").count() and shown(page) == (face.label, percents(face)))
        wait_for(page, lambda: page.evaluate("document.getElementById('image').naturalWidth") == 640)
        assert page.evaluate("document.documentElement.scrollWidth") <= width  # nothing sticks out at the side
        box = page.locator("#faces").bounding_box()
        picture = page.locator("#image").bounding_box()
        assert (box["x"] >= picture["x"] + picture["width"]) == (width > 720)
        assert page.problems == []
        page.close()
    finally:
        pipeline.close()
        preview.close(True)


def read_face_of(folder):
    write_image(folder / "face.png", synthetic_image("happy", seed=0))
    return read_face(folder / "face.png")


def test_the_page_says_since_when_there_is_no_picture_and_comes_back(chromium, preview):
    page = open_page(chromium, preview.url)
    wait_for(page, lambda: page.locator("section[data-label=happy]").count())
    assert "frames/s" in page.inner_text("#status")
    preview._newest_s -= 60  # nothing came for a minute
    wait_for(page, lambda: "no image for 6" in page.inner_text("#status"))
    assert page.inner_text("#faces") == "no image from the camera"
    assert page.get_attribute("#image", "class") == "stale"
    preview.write(labeled(2))
    wait_for(page, lambda: page.locator("section[data-label=happy]").count())
    assert page.get_attribute("#image", "class") == ""
    page.close()


def test_a_page_that_was_refused_says_why_and_goes_on_when_it_is_let_in(chromium, guarded, monkeypatch):
    monkeypatch.setattr(preview_module, "MAX_CONNECTIONS", 0)
    page = open_page(chromium, guarded.url)
    wait_for(page, lambda: page.inner_text("#status") == "too many viewers, retrying")
    monkeypatch.setattr(preview_module, "MAX_CONNECTIONS", 2)
    guarded.write(labeled(2))
    wait_for(page, lambda: page.locator("section[data-label]").count() or "no image" in page.inner_text("#status"))
    wait_for(page, lambda: page.evaluate("document.getElementById('image').naturalWidth") == 64)
    page.close()


def test_a_page_whose_token_is_no_longer_right_says_so(chromium, guarded, monkeypatch):
    monkeypatch.setattr(preview_module, "MAX_CONNECTIONS", 0)
    page = open_page(chromium, guarded.url)
    guarded._token = "another"
    wait_for(page, lambda: "the token is no longer valid" in page.inner_text("#status"))
    page.close()
