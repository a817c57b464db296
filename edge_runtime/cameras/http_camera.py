"""Cameras that send images over HTTP: MJPEG streams and snapshots. FFmpeg cannot turn their frames upright."""

import http.client
import ssl
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from fer_edge.edge_runtime.cameras.camera import Camera, CameraError
from fer_edge.edge_runtime.cameras.network import NetworkStream, public_name
from fer_edge.edge_runtime.cameras.read_limit import ReadLimit
from fer_edge.edge_runtime.file_types import IMAGE_SUFFIXES
from fer_edge.edge_runtime.images import Image, decode_image

HTTP = ("http://", "https://")
MIN_POLL_S = 0.2  # between two snapshots
MAX_IMAGE_BYTES = 64 << 20
MAX_LINE_BYTES = 1 << 16
MAX_HEADER_LINES = 50
MAX_FAILED_SNAPSHOTS = 3  # in a row; then the camera counts as lost
MAX_DAMAGED_IMAGES = 30  # in a row; then the camera counts as lost
NOT_CACHED = ("no-cache", "no-store", "must-revalidate", "max-age=0")


def network_camera(url: str, fps: float = 30.0) -> Camera:
    """Return the camera of a URL, not open yet.

    Args:
        url: A URL with one of network.SCHEMES.
        fps: Number of snapshots to request per second, > 0.
    """
    return HttpCamera(url, fps) if url.lower().startswith(HTTP) else NetworkStream(url)


class HttpCamera:
    """An MJPEG stream, a snapshot that is requested again for each frame, one image, or a video that FFmpeg reads.

    The content type of the answer decides. A URL that ends like an image file and may be cached is one image.

    Args:
        url: Its URL. The user, password and query never appear in output.
        fps: Number of snapshots to request per second, > 0; at most 5 are.
    """

    def __init__(self, url: str, fps: float = 30.0) -> None:
        self._url = url
        self.name = public_name(url)
        self.pixel_format = "rgb"
        self.frames_per_second: float | None = None
        self.reconnects = True
        self._poll_s = max(1 / fps, MIN_POLL_S)
        self._polled_s = float("-inf")
        self._response: Any = None
        self._parts: _Multipart | None = None
        self._video: NetworkStream | None = None
        self._limit = ReadLimit()
        self._images = 0  # since the stream was opened

    def open(self) -> None:
        """Connect.

        Raises:
            CameraError: If the server does not answer, or sends neither images nor a video.
        """
        self.close()
        self._limit.restart()
        self._images = 0
        try:
            self._response = _request(self._url, self._limit.seconds)
        except urllib.error.HTTPError as error:
            raise CameraError("denied" if error.code in (401, 403) else "missing", self._no_video(_reason(error))) from error
        except (urllib.error.URLError, OSError) as error:
            if not isinstance(getattr(error, "reason", error), ssl.SSLError):
                raise CameraError("missing", self._no_video(f"the server does not answer ({_reason(error)})")) from error
        except (http.client.HTTPException, ValueError):
            pass  # FFmpeg tolerates answers and URLs that Python does not, and cameras with certificates of their own
        content_type = self._response.headers.get_content_type() if self._response else ""
        if content_type.startswith("multipart/"):
            self._parts = _Multipart(self._response)
        elif content_type.startswith("image/"):
            self.reconnects = not _is_one_image(self._url, self._response.headers)
        else:
            self._open_video()

    def read(self) -> Image | None:
        """Wait for the next frame (height, width, 3), RGB, or BGR from FFmpeg; None if the camera is lost.

        Raises:
            CameraError: If the URL is one image that cannot be decoded.
        """
        if self._video is not None:
            return self._video.read()
        for _ in range(MAX_DAMAGED_IMAGES):
            data = self._next_part() if self._parts is not None else self._next_snapshot()
            if data is None:
                return None
            self._limit.count_frame()
            try:
                return decode_image(data, self.name)
            except ValueError as error:  # one damaged frame is not a lost camera
                if not self.reconnects:
                    raise CameraError("failed", str(error)) from error
        return None

    def close(self) -> None:
        """Disconnect."""
        if self._video is not None:
            self._video.close()
        if self._response is not None:
            self._response.close()
        self._response = self._parts = self._video = None

    def _next_part(self) -> bytes | None:
        """Return the next image of an MJPEG stream; None if it is lost. A stream that ends in good order is opened again."""
        for _ in range(2):
            try:
                _set_timeout(self._response, self._limit.seconds)
                data = self._parts.next_part() if self._parts is not None else None
            except (OSError, http.client.HTTPException, ValueError):
                return None
            if data is not None or not self._images:
                self._images += 1
                return data
            time.sleep(MIN_POLL_S)
            try:
                self.open()
            except CameraError:
                return None
        return None

    def _next_snapshot(self) -> bytes | None:
        """Return the next snapshot; None if some requests in a row fail, or after the only image."""
        for _ in range(MAX_FAILED_SNAPSHOTS):
            if self._response is None and not self.reconnects:
                return None
            try:
                if self._response is None:
                    time.sleep(max(self._polled_s + self._poll_s - time.monotonic(), 0))
                    self._response = _request(self._url, self._limit.seconds)
                with self._response as response:
                    return bytes(response.read(MAX_IMAGE_BYTES))
            except (OSError, http.client.HTTPException, ValueError):
                continue
            finally:
                self._response = None
                self._polled_s = time.monotonic()
        return None

    def _open_video(self) -> None:
        self.close()
        self._video = NetworkStream(self._url)
        self._video.open()
        self.pixel_format, self.frames_per_second = self._video.pixel_format, self._video.frames_per_second
        self.reconnects = self._video.reconnects

    def _no_video(self, reason: str) -> str:
        return f"no video from {self.name}: {reason}"


class _Multipart:
    """Reads the parts of a multipart/x-mixed-replace answer."""

    def __init__(self, response: Any) -> None:
        self._response = response
        # Some cameras write the dashes that precede a boundary into the header too.
        self._boundary = str(response.headers.get_param("boundary") or "").strip('"').lstrip("-").encode()
        self._at_boundary = False

    def next_part(self) -> bytes | None:
        """Return the content of the next part; None at the end."""
        while not self._at_boundary:
            line = self._line()
            if not line:
                return None
            self._at_boundary = self._is_boundary(line)
        self._at_boundary = False
        length = None
        for _ in range(MAX_HEADER_LINES):
            line = self._line()
            if not line:
                return None
            name, _, value = line.strip().lower().partition(b":")
            if name == b"content-length" and value.strip().isdigit():
                length = int(value)
            if not name:
                break
        return self._until_boundary() if length is None else self._exactly(length)

    def _exactly(self, length: int) -> bytes | None:
        if length > MAX_IMAGE_BYTES:
            raise ValueError(f"a frame of {length} bytes")
        data = self._response.read(length)
        return bytes(data) if len(data) == length else None

    def _until_boundary(self) -> bytes | None:
        lines: list[bytes] = []
        size = 0
        while True:
            line = self._line()
            if not line:
                return None
            if self._is_boundary(line):
                self._at_boundary = True
                return b"".join(lines).removesuffix(b"\r\n")
            lines.append(line)
            size += len(line)
            if size > MAX_IMAGE_BYTES:
                raise ValueError(f"a frame of more than {MAX_IMAGE_BYTES} bytes")

    def _line(self) -> bytes:
        return bytes(self._response.readline(MAX_LINE_BYTES))

    def _is_boundary(self, line: bytes) -> bool:
        return line.startswith(b"--") and line.lstrip(b"-").startswith(self._boundary)


def _request(url: str, timeout_s: float) -> Any:
    """Send a GET request, with the user and password of the URL as Basic or Digest authentication."""
    parts = urlsplit(url)
    handlers: list[urllib.request.BaseHandler] = []
    if parts.username is not None:
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        passwords.add_password(None, url, unquote(parts.username), unquote(parts.password or ""))
        handlers = [urllib.request.HTTPBasicAuthHandler(passwords), urllib.request.HTTPDigestAuthHandler(passwords)]
    opener = urllib.request.build_opener(*handlers)
    opener.addheaders = [("User-Agent", "fer-edge")]
    return opener.open(url, timeout=timeout_s)


def _set_timeout(response: Any, seconds: float) -> None:
    """Change the time after which a read of an answer fails. http.client has no public way."""
    connection = getattr(getattr(response.fp, "raw", None), "_sock", None)
    if connection is not None:
        connection.settimeout(seconds)


def _is_one_image(url: str, headers: Any) -> bool:
    """Return whether a URL is one image that does not change, not a camera's snapshot."""
    caching = f"{headers.get('Cache-Control', '')} {headers.get('Pragma', '')}".lower()
    return urlsplit(url).path.lower().endswith(IMAGE_SUFFIXES) and not any(word in caching for word in NOT_CACHED)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        hint = {401: ", the user or password is missing or wrong", 403: ", access is forbidden", 404: ", no such page"}
        return f"the server answers with status {error.code}{hint.get(error.code, '')}"
    return str(getattr(error, "reason", error)) or type(error).__name__
