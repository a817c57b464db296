"""Simulated faults of a live run: lost cameras, a killed broker, a clock that jumps, viewers that do not read."""

import http.server
import itertools
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from fer_edge.edge_runtime.cameras import camera as camera_module
from fer_edge.edge_runtime.cameras.camera import CameraError, frames_with_reconnect
from fer_edge.edge_runtime.cameras.source import LiveSource
from fer_edge.edge_runtime.images import Image, import_cv2
from fer_edge.edge_runtime.outputs.preview import CLIENT_TIMEOUT_S, PreviewServer

FRAMES_PER_LOSS = 5000
FRAMES_PER_JUMP = 50
DAY_S = 86_400.0
RENEW_S = CLIENT_TIMEOUT_S + 5.0
REQUEST = "GET /stream.mjpg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class LoopedClip:
    """A camera that repeats a clip and is unplugged every FRAMES_PER_LOSS frames.

    Args:
        clip: A video file.
        frames: Total number of frames.
        rate: Frames per second; 0 for as fast as they are read.
    """

    name = "looped clip"
    pixel_format = "bgr"
    frames_per_second: float | None = 30.0

    def __init__(self, clip: Path, frames: int, rate: float = 0.0) -> None:
        self._images = _read_clip(clip)
        self._frames = frames
        self._rate = rate
        self._count = self.lost = 0
        self._failures = 0
        self._due_s = 0.0
        self.reconnects = True

    def open(self) -> None:
        """Open the camera.

        Raises:
            CameraError: Twice after each loss.
        """
        if self._failures:
            self._failures -= 1
            raise CameraError("missing", "unplugged")

    def read(self) -> Image | None:
        """Return a copy of the next frame, as a camera's driver fills a new buffer; None when the camera is lost."""
        if self._count >= self._frames:
            self.reconnects = False
            return None
        self._count += 1
        if self._count % FRAMES_PER_LOSS == 0:
            self.lost += 1
            self._failures = 2
            return None
        if self._rate:
            self._due_s = max(self._due_s + 1 / self._rate, time.monotonic())
            time.sleep(max(0.0, self._due_s - time.monotonic()))
        return self._images[self._count % len(self._images)].copy()

    def close(self) -> None:
        """Do nothing: no resource is open."""


def _read_clip(clip: Path) -> list[Image]:
    """Return the frames of a video file, BGR."""
    capture = import_cv2().VideoCapture(str(clip))
    images: list[Image] = []
    while True:
        success, image = capture.read()
        if not success:
            break
        images.append(np.asarray(image, np.uint8))
    capture.release()
    return images


class ClipServer:
    """A network camera: repeats a clip as MJPEG over HTTP, as fast as it is read, and is lost every FRAMES_PER_LOSS frames.

    Args:
        clip: A video file.

    Attributes:
        url: URL of the stream.
        lost: Number of losses. After each, the first attempt to connect fails.
    """

    def __init__(self, clip: Path) -> None:
        cv2 = import_cv2()
        jpegs = [cv2.imencode(".jpg", image)[1].tobytes() for image in _read_clip(clip)]
        head = b"--f\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
        self._parts = [head % len(jpeg) + jpeg + b"\r\n" for jpeg in jpegs]
        self.lost = 0
        self._refused = 0
        camera = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *arguments: Any) -> None:
                pass

            def do_GET(self) -> None:
                camera._serve(self)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> "ClipServer":
        """Start to serve."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop to serve."""
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, request: http.server.BaseHTTPRequestHandler) -> None:
        if self._refused < self.lost:
            self._refused += 1
            request.send_error(503)
            return
        request.send_response(200)
        request.send_header("Content-Type", "multipart/x-mixed-replace; boundary=f")
        request.end_headers()
        try:
            for part in itertools.islice(itertools.cycle(self._parts), FRAMES_PER_LOSS):
                request.wfile.write(part)
        except OSError:  # the reader has ended
            return
        self.lost += 1


class QuickSource(LiveSource):
    """A live source that reconnects after hundredths of a second, not seconds."""

    def frames(self, stop: threading.Event, on_message: Any = None) -> Any:
        """Yield the camera's frames.

        Args:
            stop: Ends the iteration when set.
            on_message: Called with each message.
        """
        return frames_with_reconnect(self.camera, stop, on_message, delays_s=(0.01, 0.02))


class Broker:
    """A mosquitto process that can be killed and started again.

    Args:
        program: Path of mosquitto.
    """

    def __init__(self, program: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._program = program
        self.restarts = 0
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen([self._program, "-p", str(self.port)], stderr=subprocess.DEVNULL)

    def restart(self) -> None:
        """Kill the process and start another one."""
        self.stop()
        self.restarts += 1
        self._start()

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()


class MessageCounter:
    """Counts the messages of an MQTT topic. It connects again when the broker is restarted.

    Args:
        port: Port of the broker on this machine.
        topic: The topic.

    Attributes:
        messages: Number of messages so far.
    """

    def __init__(self, port: int, topic: str) -> None:
        import paho.mqtt.client as paho

        self.messages = 0
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(min_delay=1, max_delay=1)
        self._client.on_connect = lambda client, *rest: client.subscribe(topic)
        self._client.on_message = self._count
        self._client.connect_async("127.0.0.1", port)

    def __enter__(self) -> "MessageCounter":
        """Connect."""
        self._client.loop_start()
        return self

    def __exit__(self, *error: object) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _count(self, client: Any, data: Any, message: Any) -> None:
        self.messages += 1


class Viewer:
    """A viewer of the preview's image stream, in a thread.

    Args:
        port: Port of the preview on this machine.
        reads: Whether it reads. Otherwise, it opens another connection every RENEW_S, after the server has given up the one
            before, and keeps all of them open.

    Attributes:
        images: Number of images received.
        connections: Number of connections.
    """

    def __init__(self, port: int, reads: bool) -> None:
        self._port = port
        self._reads = reads
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.images = self.connections = 0

    def __enter__(self) -> "Viewer":
        """Start to watch."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stop to watch."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        with ExitStack() as stack:
            while not self._stop.is_set():
                try:
                    client = stack.enter_context(socket.create_connection(("127.0.0.1", self._port), timeout=1))
                    client.sendall(REQUEST.encode())
                    self.connections += 1
                    if self._reads:
                        self._read(client)
                    else:
                        self._stop.wait(RENEW_S)
                except OSError:  # the server has ended
                    self._stop.wait(0.2)

    def _read(self, client: socket.socket) -> None:
        while not self._stop.is_set():
            received = client.recv(1 << 16)
            if not received:
                return
            self.images += received.count(b"--frame")


@contextmanager
def clock_jumps() -> Iterator[None]:
    """Let the wall clock of the cameras jump by a day, forward and back, every FRAMES_PER_JUMP frames while the block runs."""
    calls = itertools.count(1)

    def jumping_time() -> float:
        return time.time() + DAY_S * (next(calls) // FRAMES_PER_JUMP % 2)

    with mock.patch.object(camera_module, "time", SimpleNamespace(monotonic=time.monotonic, time=jumping_time)):
        yield


@contextmanager
def viewers(preview: PreviewServer, count: int) -> Iterator[None]:
    """Connect viewers to the preview while the block runs. Every other viewer never reads.

    Args:
        preview: The server.
        count: Number of viewers.
    """
    host, _, port = preview.url.split("//")[1].split("/")[0].rpartition(":")
    stop = threading.Event()
    clients = []
    for _ in range(count):
        client = socket.create_connection((host, int(port)), timeout=10)
        client.sendall(REQUEST.encode())
        client.settimeout(0.2)
        clients.append(client)

    def read() -> None:
        while clients and not stop.is_set():
            for client in clients[::2]:
                try:
                    client.recv(1 << 16)
                except OSError:
                    continue

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        stop.set()
        reader.join()
        for client in clients:
            client.close()
