"""Frames of a network stream: RTSP, HTTP (MJPEG, HLS), RTMP, UDP."""

import re

from fer_edge.edge_runtime.cameras.camera import CameraError
from fer_edge.edge_runtime.cameras.capture import UprightCapture
from fer_edge.edge_runtime.images import Image, import_cv2

SCHEMES = ("rtsp://", "rtsps://", "http://", "https://", "rtmp://", "udp://", "tcp://")
TIMEOUT_MS = 5000
MAX_FILE_FRAMES = 1e8  # an endless stream reports 0, a negative number or an even larger one


class NetworkStream:
    """A network stream that FFmpeg inside OpenCV can read. Frames are BGR.

    Args:
        url: Its URL. The user, password and query never appear in output.
    """

    pixel_format = "bgr"

    def __init__(self, url: str) -> None:
        self._url = url
        self.name = re.sub(r"^(\w+://)[^/?#]*@", r"\1", url).partition("?")[0]
        self.frames_per_second: float | None = None
        self.reconnects = True
        self._capture: UprightCapture | None = None

    def open(self) -> None:
        """Connect.

        Raises:
            CameraError: If the server does not answer, or does not send a video.
        """
        cv2 = import_cv2()
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
        self._capture = UprightCapture(self._url, limits)
        if not self._capture.is_open:
            self.close()
            raise CameraError(
                "missing",
                f"no video from {self.name}: the server does not answer, the password is wrong, or the URL is not a video",
            )
        self.frames_per_second = self._capture.frames_per_second
        # A file has an end. If it were opened again, it would start over.
        self.reconnects = not 0 < self._capture.frame_count < MAX_FILE_FRAMES

    def read(self) -> Image | None:
        """Wait for the next frame (height, width, 3), BGR; None if the stream stops."""
        return self._capture.read() if self._capture is not None else None

    def close(self) -> None:
        """Disconnect."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None
