"""Preview page for a board without a screen: an MJPEG stream with boxes and labels, and live probabilities.

aiohttp serves any number of slow clients in one thread. A client gets the newest frame whenever it is ready for one; frames
never queue up.
"""

import asyncio
import hmac
import ipaddress
import json
import re
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fer_edge.edge_runtime.board import temperature_c
from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.images import import_cv2
from fer_edge.edge_runtime.live.pipeline import LabeledFrame
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.outputs.address import parse_address
from fer_edge.edge_runtime.outputs.annotate import annotate
from fer_edge.edge_runtime.outputs.http_listener import HttpListener, max_connections
from fer_edge.edge_runtime.outputs.output import as_data
from fer_edge.edge_runtime.outputs.rate_limit import RateLimitedMessages
from fer_edge.edge_runtime.outputs.token import checked_token, stored_token

DEFAULT_PORT = 8080
ADDRESS_FORMAT = "an address is HOST:PORT, for example 127.0.0.1:8080"
MAX_FRAMES_PER_SECOND = 15.0  # of the preview; the pipeline may run faster
RESEND_S = 1.0  # interval at which viewers get the age of the newest frame while no frame arrives
TEMPERATURE_INTERVAL_S = 5.0
MAX_SIDE_PX = 960
JPEG_QUALITY = 80
MAX_STREAMS = 64  # a page uses two: images and events
STREAM_SHARE = 2 / 3  # of the connections; the others remain for pages and wrong tokens
CLIENT_TIMEOUT_S = 20.0  # a client that reads nothing for this long is disconnected
COOKIE = "fer_edge_token"
PAGE = Path(__file__).with_name("preview.html")
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
# They keep browsers from storing, embedding or passing on anything, and do not name the version of the server.
HEADERS = {
    "Server": "fer-edge",
    "Connection": "close",  # one request per connection: no idle connections to limit
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Handler = Callable[[Any], Awaitable[Any]]


def _host_for_browsers(host: str) -> str:
    """Return a host that browsers on other machines can open. For 0.0.0.0 this is the address of the outgoing interface."""
    if host != "0.0.0.0":
        host = socket.gethostname() if host == "::" else host
        return f"[{host}]" if ":" in host else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        try:
            route.connect(("192.0.2.1", 9))  # reserved for documentation (RFC 5737); connecting a UDP socket sends nothing
            return str(route.getsockname()[0])
        except OSError:  # no network yet
            return socket.gethostname()


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
        try:
            import aiohttp.web
        except ImportError as error:
            raise ImportError(
                f"the preview page needs aiohttp ({error}). Install it: pip install 'fer-edge[edge,serve]'"
            ) from error
        self._web = aiohttp.web
        bind = parse_address(address, {"http": DEFAULT_PORT}, ADDRESS_FORMAT, default_host="127.0.0.1")
        host = bind.host
        self._token = checked_token(token) if token is not None else None if is_loopback(host) else stored_token(on_problem)
        self._allowed_hosts = (*LOCAL_NAMES, host)
        self._stats = stats
        self._shown = shown or {}
        self.notice = ""
        self._temperature_c = _Thermometer()
        self._nonce = secrets.token_urlsafe(16)
        self._newest: LabeledFrame | None = None
        self._newest_s = time.monotonic()
        self._jpeg_of_newest: tuple[LabeledFrame, bytes] | None = None
        self._encoding = asyncio.Lock()
        self._streams = 0
        limit = max_connections()
        self._max_streams = min(MAX_STREAMS, int(limit * STREAM_SHARE))
        self._on_problem = RateLimitedMessages(lambda text: on_problem(f"preview: {text}") if on_problem else None)
        self._listener = HttpListener(self._make_protocol, limit, tls, self._on_problem)
        self._runner: Any = None
        # In a separate thread: the calling thread may already run an event loop, for example in a notebook.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fer-edge preview", daemon=True)
        self._thread.start()
        try:
            self._wait_for(self._start(host, bind.port))
        except OSError as error:
            self._end_loop()
            raise OSError(
                f"cannot serve the preview at {host}:{bind.port}: {error.strerror or error}. Choose another --serve address"
            ) from error
        scheme = "https" if tls else "http"
        query = f"?token={quote(self._token, safe='')}" if self._token else ""
        self.url = f"{scheme}://{_host_for_browsers(host)}:{self._listener.port}/{query}"

    def write(self, labeled: LabeledFrame) -> None:
        """Make a frame the newest. It is drawn and encoded only when a client asks for it."""
        self._newest, self._newest_s = labeled, time.monotonic()

    def close(self, complete: bool) -> None:
        """Stop serving."""
        if self._loop.is_closed():
            return
        self._wait_for(self._listener.close())
        self._wait_for(self._runner.cleanup())
        self._wait_for(self._loop.shutdown_default_executor())
        self._end_loop()

    def _wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=10)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self, host: str, port: int) -> None:
        web = self._web

        @web.middleware
        async def guard(request: Any, handler: Handler) -> Any:
            return await self._guard(request, handler)

        async def add_headers(request: Any, response: Any) -> None:
            policy = response.headers.get("Content-Security-Policy")
            response.headers.update({**HEADERS, "Content-Security-Policy": policy} if policy else HEADERS)
            response.force_close()

        application = web.Application(middlewares=[guard], client_max_size=1024)
        application.on_response_prepare.append(add_headers)
        application.router.add_get("/", self._page)
        application.router.add_get("/stream.mjpg", self._stream)
        application.router.add_get("/events", self._events)
        application.router.add_get("/state.json", self._state)
        self._runner = web.AppRunner(application, shutdown_timeout=0.5)
        await self._runner.setup()
        try:
            await self._listener.listen(host, port)
        except OSError:
            await self._runner.cleanup()
            raise

    def _make_protocol(self) -> asyncio.Protocol:
        """Return the protocol of one connection: that of aiohttp, but without tracebacks and without its version."""
        web, on_problem = self._web, self._on_problem

        class Connection(web.RequestHandler):  # type: ignore[name-defined]
            def handle_error(self, request: Any, status: int = 500, exc: Any = None, message: str | None = None) -> Any:
                if status == 400:
                    on_problem(f"a malformed request from {request.remote} was rejected")
                else:
                    on_problem(f"a request from {request.remote} failed: {exc!r}")
                if request.writer.output_size > 0:
                    raise ConnectionError("part of a response was sent")
                response = web.Response(status=status, text="The request cannot be read.\n", headers=HEADERS)
                response.force_close()
                return response

            def log_exception(self, *arguments: Any, **named: Any) -> None:
                on_problem(f"a connection failed: {named.get('exc_info')!r}")

        return Connection(self._runner.server, loop=self._loop, access_log=None, lingering_time=0)

    async def _guard(self, request: Any, handler: Handler) -> Any:
        """Reject requests without the token, or through a foreign host name."""
        web = self._web
        if self._token:
            given = request.query.get("token") or request.cookies.get(COOKIE) or ""
            given = given or request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(errors="replace"), self._token.encode()):
                raise web.HTTPUnauthorized(text="The token is missing or wrong. Open the URL that fer-edge run prints.\n")
        elif re.sub(r":\d+$", "", request.host).strip("[]") not in self._allowed_hosts:
            # DNS rebinding: a website may point its own name at this machine to read the camera through a local browser.
            raise web.HTTPForbidden(text="This preview is available on localhost only.\n")
        return await handler(request)

    async def _page(self, request: Any) -> Any:
        text = PAGE.read_text(encoding="utf-8").replace("NONCE", self._nonce)
        policy = (
            "default-src 'none'; img-src 'self' data:; connect-src 'self'; "
            f"script-src 'nonce-{self._nonce}'; style-src 'nonce-{self._nonce}'"
        )
        response = self._web.Response(text=text, content_type="text/html", headers={"Content-Security-Policy": policy})
        if self._token:
            response.set_cookie(COOKIE, self._token, httponly=True, samesite="Strict", secure=request.secure)
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
        if request.transport is not None:  # the client is still there
            self._listener.keep(request.transport)
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


class _Thermometer:
    """Reads the temperature of the board at most every few seconds."""

    def __init__(self) -> None:
        self._read_s = float("-inf")
        self._temperature_c: float | None = None

    def __call__(self) -> float | None:
        if time.monotonic() - self._read_s >= TEMPERATURE_INTERVAL_S:
            self._read_s, self._temperature_c = time.monotonic(), temperature_c()
        return self._temperature_c


def _encode(labeled: LabeledFrame) -> bytes:
    cv2 = import_cv2()
    image = cv2.cvtColor(annotate(labeled), cv2.COLOR_RGB2BGR)
    scale = MAX_SIDE_PX / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])
