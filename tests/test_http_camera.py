"""MJPEG streams and snapshots over HTTP, from a real server on loopback."""

import base64
import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from live import InstantStop
from media import corner_image, corners, encode, rotate_mp4, textured_image, with_exif, write_video

from fer_edge.edge_runtime.cameras import http_camera, network, read_limit
from fer_edge.edge_runtime.cameras.camera import CameraError, frames_with_reconnect
from fer_edge.edge_runtime.cameras.http_camera import HttpCamera, network_camera
from fer_edge.edge_runtime.cameras.network import NetworkStream
from fer_edge.edge_runtime.cameras.read_limit import ReadLimit
from fer_edge.edge_runtime.cameras.source import open_source

UPRIGHT = encode(".jpg", corner_image())
TURNED = with_exif(".jpg", corner_image(), 6)
CUT_OFF = encode(".jpg", textured_image())[:2000]


def part(data, length=True, boundary=b"frame"):
    size = b"Content-Length: %d\r\n" % len(data) if length else b""
    return b"--" + boundary + b"\r\nContent-Type: image/jpeg\r\n" + size + b"\r\n" + data + b"\r\n"


class Handler(BaseHTTPRequestHandler):
    """Answers with pages[path]: (content type, list of pieces and pauses in seconds, further headers)."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.server.hits[path] = self.server.hits.get(path, 0) + 1
        if self.server.failures.get(path):
            self.server.failures[path] -= 1
            self.send_error(503)
            return
        if path not in self.server.pages:
            self.send_error(404)
            return
        content_type, pieces, headers = self.server.pages[path]
        wanted = headers.get("Login")
        if wanted and self.headers.get("Authorization") != "Basic " + base64.b64encode(wanted.encode()).decode():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
            return
        self.send_response(200)
        for name, value in {"Content-Type": content_type, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            for piece in pieces:
                if isinstance(piece, bytes):
                    self.wfile.write(piece)
                else:
                    self.server.ended.wait(piece)


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.pages, server.hits, server.failures, server.ended = {}, {}, {}, threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.ended.set()
        server.shutdown()


def mjpeg(server, *pieces, boundary="frame", path="/stream"):
    server.pages[path] = (f"multipart/x-mixed-replace; boundary={boundary}", pieces, {})
    return HttpCamera(server.url + path)


def read_all(camera, count):
    camera.open()
    with contextlib.closing(camera):
        return [camera.read() for _ in range(count)]


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize(("named", "sent"), [("frame", b"frame"), ("--frame", b"frame"), ('"my boundary"', b"my boundary")])
def test_frames_of_an_mjpeg_stream_are_turned_upright(server, length, named, sent):
    pieces = [part(TURNED, length, sent), part(UPRIGHT, length, sent), b"--" + sent + b"--\r\n"]
    camera = mjpeg(server, b"\r\n", *pieces, boundary=named)
    first, second, again = read_all(camera, 3)
    assert (first.shape, corners(first)) == ((60, 40, 3), (False, True, False, False))
    assert (second.shape, corners(second)) == ((40, 60, 3), (True, False, False, False))
    assert np.array_equal(again, first)  # the stream has ended and is opened again
    assert camera.reconnects


def test_a_damaged_frame_is_skipped_and_the_camera_is_not_lost(server):
    camera = mjpeg(server, part(UPRIGHT), part(CUT_OFF), part(b"nothing"), part(UPRIGHT))
    frames = read_all(camera, 2)
    assert [frame.shape for frame in frames] == [(40, 60, 3)] * 2


def test_a_camera_that_ends_each_stream_after_a_few_frames_is_not_reported_as_lost(server, monkeypatch):
    monkeypatch.setattr(http_camera, "MIN_POLL_S", 0.01)
    messages, frames = [], []
    for frame in frames_with_reconnect(mjpeg(server, part(UPRIGHT), part(UPRIGHT)), threading.Event(), messages.append):
        frames.append(frame)
        if len(frames) == 7:
            break
    assert (messages, server.hits["/stream"]) == ([], 4)


def test_an_mjpeg_stream_without_any_frame_is_lost(server):
    assert read_all(mjpeg(server, b"--frame--\r\n"), 1) == [None]


def test_a_snapshot_may_fail_now_and_then(server, monkeypatch):
    monkeypatch.setattr(http_camera, "MIN_POLL_S", 0.01)
    server.pages["/snapshot"] = ("image/jpeg", [UPRIGHT], {})
    camera = HttpCamera(f"{server.url}/snapshot", 100)
    camera.open()
    assert camera.read() is not None
    server.failures["/snapshot"] = 2
    assert camera.read() is not None
    server.failures["/snapshot"] = 3
    assert camera.read() is None


def test_a_frame_that_claims_gigabytes_is_not_awaited(server):
    camera = mjpeg(server, b"--frame\r\nContent-Length: 99999999999\r\n\r\n")
    assert read_all(camera, 1) == [None]


def test_a_snapshot_is_requested_again_for_each_frame_without_messages(server, monkeypatch):
    monkeypatch.setattr(http_camera, "MIN_POLL_S", 0.01)
    server.pages["/snapshot"] = ("image/jpeg", [TURNED], {})
    messages, stop = [], threading.Event()
    frames = []
    for frame in frames_with_reconnect(network_camera(f"{server.url}/snapshot?user=x", 100), stop, messages.append):
        frames.append(frame)
        if len(frames) == 8:
            break
    assert messages == []
    assert server.hits["/snapshot"] == 8
    assert frames[0].source == f"{server.url}/snapshot"
    assert corners(frames[7].image) == (False, True, False, False)


@pytest.mark.parametrize(
    ("path", "headers", "is_one_image"),
    [
        ("/photo.JPG", {}, True),
        ("/cam.jpg", {"Cache-Control": "no-cache, private"}, False),
        ("/cam.jpg", {"Pragma": "no-cache"}, False),
        ("/image", {}, False),
    ],
)
def test_an_image_that_may_be_cached_is_one_image(server, path, headers, is_one_image):
    server.pages[path] = ("image/jpeg", [UPRIGHT], headers)
    camera = HttpCamera(server.url + path)
    camera.open()
    assert camera.reconnects is not is_one_image
    if is_one_image:
        assert len(list(frames_with_reconnect(camera, InstantStop()))) == 1


def test_one_image_that_cannot_be_decoded_is_an_error(server):
    server.pages["/a.jpg"] = ("image/jpeg", [CUT_OFF], {})
    with pytest.raises(CameraError, match=r"the JPEG 'http://.*/a\.jpg' .* is damaged: it is cut off"):
        read_all(HttpCamera(f"{server.url}/a.jpg"), 1)


def test_a_video_over_http_is_turned_upright(server, tmp_path):
    write_video(tmp_path / "v.mp4", [corner_image(48, 64)] * 3)
    rotate_mp4(tmp_path / "v.mp4", 90)
    content = (tmp_path / "v.mp4").read_bytes()
    server.pages["/v.mp4"] = ("video/mp4", [content], {"Content-Length": str(len(content))})
    frames = list(open_source(f"{server.url}/v.mp4").frames(InstantStop()))
    assert [frame.pixels.shape for frame in frames] == [(64, 48, 3)] * 3
    assert corners(frames[0].image) == (False, True, False, False)


def test_errors_name_the_cause_and_hide_the_password(server):
    server.pages["/private"] = ("image/jpeg", [UPRIGHT], {"Login": "me:p@ss"})
    base = server.url.removeprefix("http://")
    assert read_all(HttpCamera(f"http://me:p%40ss@{base}/private"), 1)[0].shape == (40, 60, 3)
    for url, reason, message in (
        (f"http://me:wrong@{base}/private?key=secret", "denied", "status 401, the user or password is missing or wrong"),
        (f"http://{base}/none", "missing", "status 404, no such page"),
        ("http://127.0.0.1:9/x", "missing", "the server does not answer .*refused"),
    ):
        with pytest.raises(CameraError, match=message) as caught:
            HttpCamera(url).open()
        assert caught.value.reason == reason
        assert not any(word in str(caught.value) for word in ("secret", "wrong@", "me:"))


def test_a_stream_that_stops_is_lost_after_the_limit_of_its_rate(server, monkeypatch):
    monkeypatch.setattr(read_limit, "MIN_LIMIT_S", 0.3)
    camera = mjpeg(server, *[part(UPRIGHT)] * 3, 30.0)
    start = time.monotonic()
    assert [frame is None for frame in read_all(camera, 4)] == [False, False, False, True]
    assert 0.25 < time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("intervals_s", "limit_s"),
    [([], 30), ([0.04] * 5, 5), ([6.5], 26), ([0.2, 0.2, 8, 0.2], 32), ([100], 60), ([6.5, *[0.1] * 10], 5)],
)
def test_the_read_limit_grows_with_the_longest_of_the_newest_intervals(monkeypatch, intervals_s, limit_s):
    now_s = [100.0]
    monkeypatch.setattr(read_limit.time, "monotonic", lambda: now_s[0])
    limit = ReadLimit()
    limit.count_frame()
    for interval_s in intervals_s:
        now_s[0] += interval_s
        limit.count_frame()
    assert limit.seconds == pytest.approx(limit_s)
    limit.restart()
    now_s[0] += 1000
    limit.count_frame()
    assert limit.seconds == pytest.approx(limit_s)  # a gap in which the stream was closed does not count


def test_a_slow_stream_of_ffmpeg_is_opened_again_with_a_longer_limit_and_without_a_message(monkeypatch):
    """A fake capture that delivers a frame every 12 seconds of a fake clock."""
    now_s, limits_s = [0.0], []

    class SlowCapture:
        frames_per_second, frame_count, is_open = None, 0, True

        def __init__(self, url, options):
            limits_s.append(options[-1] / 1000)
            self.first = True

        def read(self):
            wait_s = 0 if self.first else 12
            self.first = False
            now_s[0] += min(wait_s, limits_s[-1])
            return corner_image() if wait_s <= limits_s[-1] else None

        def release(self):
            pass

    monkeypatch.setattr(network, "UprightCapture", SlowCapture)
    monkeypatch.setattr(network.time, "monotonic", lambda: now_s[0])
    stream = NetworkStream("rtsp://camera/slow")
    stream.open()
    assert all(stream.read() is not None for _ in range(10))
    assert limits_s == [5, 15]
