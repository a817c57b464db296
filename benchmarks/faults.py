"""Simulated faults of a live run: a camera that is unplugged, a broker that is killed, viewers that do not read."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge.edge_runtime.cameras.camera import CameraError, frames_with_reconnect
from fer_edge.edge_runtime.cameras.source import LiveSource
from fer_edge.edge_runtime.images import Image, import_cv2
from fer_edge.edge_runtime.outputs.preview import PreviewServer

FRAMES_PER_LOSS = 5000


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
        cv2 = import_cv2()
        capture = cv2.VideoCapture(str(clip))
        self._images: list[Image] = []
        while True:
            success, image = capture.read()
            if not success:
                break
            self._images.append(np.asarray(image, np.uint8))
        capture.release()
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
        client.sendall(f"GET /stream.mjpg HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        client.settimeout(0.2)
        clients.append(client)

    def read() -> None:
        while not stop.is_set():
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
