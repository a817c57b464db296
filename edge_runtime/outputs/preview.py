"""Preview page for a board without a screen: an MJPEG stream with boxes and labels, and live probabilities.

A client gets the newest frame whenever it is ready for one; frames never queue up.
"""

import asyncio
import json
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fer_edge.edge_runtime.board import temperature_c
from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.images import import_cv2
from fer_edge.edge_runtime.live.pipeline import LabeledFrame
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.outputs.annotate import annotate
from fer_edge.edge_runtime.outputs.http_server import COOKIE, HttpServer, Service
from fer_edge.edge_runtime.outputs.output import as_data
from fer_edge.edge_runtime.outputs.rate_limit import Reading

PREVIEW = Service("preview", "--serve", 8080, "serve")
MAX_FRAMES_PER_SECOND = 15.0  # of the preview; the pipeline may run faster
RESEND_S = 1.0  # interval at which viewers get the age of the newest frame while no frame arrives
MAX_SIDE_PX = 960
JPEG_QUALITY = 80
MAX_STREAMS = 64  # a page uses two: images and events
STREAM_SHARE = 2 / 3  # of the connections; the others remain for pages and wrong tokens
CLIENT_TIMEOUT_S = 20.0  # a client that reads nothing for this long is disconnected
PAGE = Path(__file__).with_name("preview.html")


class PreviewServer:
    """Serves the newest labeled frame. Nothing is stored.

    Args:
        address: ``HOST:PORT``, ``HOST``, ``:PORT`` or ``PORT``; the default is 127.0.0.1:8080. Port 0 picks a free port.
        stats: The pipeline's counters, shown on the page.
        token: Token that clients must present, at least 16 characters. If None, a loopback address needs no token, and others
            get a random one.
        tls: TLS settings, see server_tls; None for plain HTTP.
        shown: Names for the page, such as ``{"model": "cnn_nano_fer2013_int8.tflite"}``.
        on_problem: Called with a line of text when requests are refused, at most once per minute.

    Attributes:
        url: URL of the page, including the token.
        notice: A line of text that the page shows above the image; empty for none.

    Raises:
        ImportError: If aiohttp is not installed.
        OSError: If the server cannot listen on the address.
        ValueError: If the address cannot be parsed, or the token is too short.
    """

    def __init__(
        self,
        address: str,
        stats: PipelineStats,
        token: str | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        shown: dict[str, str] | None = None,
        on_problem: OnMessage | None = None,
    ) -> None:
        self._stats = stats
        self._shown = shown or {}
        self.notice = ""
        self._temperature_c = Reading(lambda: temperature_c())
        self._nonce = secrets.token_urlsafe(16)
        self._newest: LabeledFrame | None = None
        self._newest_s = time.monotonic()
        self._jpeg_of_newest: tuple[LabeledFrame, bytes] | None = None
        self._encoding = asyncio.Lock()
        self._streams = 0
        self._server = HttpServer(PREVIEW, address, token=token, tls=tls, on_problem=on_problem)
        self._web = self._server.web
        self._max_streams = min(MAX_STREAMS, int(self._server.max_connections * STREAM_SHARE))
        self._server.start({"/": self._page, "/stream.mjpg": self._stream, "/events": self._events, "/state.json": self._state})
        self.url = self._server.url("/")

    def write(self, labeled: LabeledFrame) -> None:
        """Make a frame the newest. It is drawn and encoded only when a client asks for it."""
        self._newest, self._newest_s = labeled, time.monotonic()

    def close(self, complete: bool) -> None:
        """Stop serving."""
        self._server.close()

    async def _page(self, request: Any) -> Any:
        text = PAGE.read_text(encoding="utf-8").replace("NONCE", self._nonce)
        policy = (
            "default-src 'none'; img-src 'self' data:; connect-src 'self'; "
            f"script-src 'nonce-{self._nonce}'; style-src 'nonce-{self._nonce}'"
        )
        response = self._web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": policy})
        if self._server.token:
            encrypted = request.secure or request.headers.get("X-Forwarded-Proto") == "https"  # a proxy may encrypt
            response.set_cookie(COOKIE, self._server.token, httponly=True, samesite="Strict", secure=encrypted)
        return response

    async def _state(self, request: Any) -> Any:
        return self._web.json_response(self._state_data())

    async def _events(self, request: Any) -> Any:
        async def send(response: Any) -> None:
            await response.write(f"data: {json.dumps(self._state_data())}\n\n".encode())

        return await self._push(request, "text/event-stream", send)

    async def _stream(self, request: Any) -> Any:
        async def send(response: Any) -> None:
            jpeg = await self._jpeg()
            if not jpeg:
                return
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            await response.write(head.encode() + jpeg + b"\r\n")

        # Twice: Chromium shows an image only after the header of the next one. Not more often: programs that read this
        # stream must notice when the camera is lost.
        return await self._push(request, "multipart/x-mixed-replace; boundary=frame", send, max_sends=2)

    async def _push(
        self, request: Any, content_type: str, send: Callable[[Any], Awaitable[None]], max_sends: float = float("inf")
    ) -> Any:
        """Send new frames to one client as fast as it reads. Without a new frame, send the newest up to max_sends times."""
        if self._streams >= self._max_streams:
            raise self._web.HTTPServiceUnavailable(text=f"All {self._max_streams} streams are in use (two per page).\n")
        self._streams += 1
        self._server.keep(request)
        sent: LabeledFrame | None = None
        sent_s, sends = time.monotonic(), 0
        try:
            response = self._web.StreamResponse(headers={"Content-Type": content_type})
            await response.prepare(request)
            while request.transport is not None and not request.transport.is_closing():
                new = self._newest is not sent
                if new or (sends < max_sends and time.monotonic() - sent_s >= RESEND_S):
                    sent, sent_s, sends = self._newest, time.monotonic(), 1 if new else sends + 1
                    await asyncio.wait_for(send(response), CLIENT_TIMEOUT_S)
                await asyncio.sleep(1 / MAX_FRAMES_PER_SECOND)
        except ConnectionError:
            pass
        except asyncio.TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._streams -= 1
        return response

    async def _jpeg(self) -> bytes:
        """Return the newest frame as JPEG, drawn and encoded once for all clients; empty before the first frame."""
        async with self._encoding:
            newest = self._newest
            if newest is not None and (self._jpeg_of_newest is None or self._jpeg_of_newest[0] is not newest):
                self._jpeg_of_newest = newest, await asyncio.to_thread(_encode, newest)
            return self._jpeg_of_newest[1] if self._jpeg_of_newest else b""

    def _state_data(self) -> dict[str, Any]:
        newest = self._newest
        stats = self._stats
        latency = stats.latency_ms
        return {
            **(as_data(newest) if newest else {"source": None, "frame": None, "faces": []}),
            "frame_px": [newest.frame.width, newest.frame.height] if newest else None,
            **self._shown,
            "notice": self.notice,
            "temperature_c": self._temperature_c(),
            "frames_per_second": round(stats.frames_per_second, 1),
            "latency_ms": None if latency is None else round(latency, 1),
            "dropped": stats.dropped,
            "age_s": round(time.monotonic() - self._newest_s, 1),
        }


def _encode(labeled: LabeledFrame) -> bytes:
    cv2 = import_cv2()
    image = cv2.cvtColor(annotate(labeled), cv2.COLOR_RGB2BGR)
    scale = MAX_SIDE_PX / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])
