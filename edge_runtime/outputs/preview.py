"""The preview page for a board without a screen: MJPEG with boxes and labels, probabilities live.

aiohttp serves it: one thread carries any number of slow clients, each of which gets the newest frame when it is ready for
one, and never a queue.
"""

import asyncio
import hmac
import ipaddress
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from fer_edge.edge_runtime.images import import_cv2
from fer_edge.edge_runtime.live.pipeline import LabeledFrame
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.outputs.output import annotate, as_data

DEFAULT_PORT = 8080
FRAMES_PER_SECOND = 15.0  # of the preview; the pipeline is not slowed by it
REPEAT_S = 1.0  # while no frame comes, viewers are told how old the newest is
LONGEST_SIDE_PX = 960
JPEG_QUALITY = 80
MOST_CONNECTIONS = 64  # a page holds two: the pictures and the events
STALLED_S = 20.0  # a client that has not read anything for so long is let go
COOKIE = "fer_edge_token"
PAGE = Path(__file__).with_name("preview.html")
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

Handler = Callable[[Any], Awaitable[Any]]


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``, ``HOST``, ``:PORT`` or ``PORT``; without a host it is this machine only.

    Raises:
        ValueError: If the port is no number from 0 to 65535.
    """
    bare = text.strip()
    if bare.isdigit():
        bare = f":{bare}"
    if bare.count(":") > 1 and not bare.startswith("["):
        bare = f"[{bare}]"  # an IPv6 address
    host, colon, port = bare.rpartition(":") if not bare.endswith("]") else (bare, "", "")
    if not colon and not host:
        host, port = bare, ""
    number = int(port) if port.isdigit() else -1 if colon else DEFAULT_PORT
    if not 0 <= number <= 65535:
        raise ValueError(f"an address is HOST:PORT, for example 127.0.0.1:8080. Received: '{text}'")
    return host.strip("[]") or LOCAL_NAMES[1], number


def _shown_host(host: str) -> str:
    """Return what a browser elsewhere can open: of all addresses of this machine, the one that leads out."""
    if host != "0.0.0.0":
        host = socket.gethostname() if host == "::" else host
        return f"[{host}]" if ":" in host else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        try:
            route.connect(("192.0.2.1", 9))  # set aside for documentation (RFC 5737); a UDP socket sends nothing here
            return str(route.getsockname()[0])
        except OSError:  # no network yet
            return socket.gethostname()


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class PreviewServer:
    """Serves the newest labeled frame. Nothing is stored.

    Args:
        address: ``HOST:PORT``; port 0 takes a free one.
        stats: The pipeline's counters, for the page.
        token: What a client has to know. None needs none on this machine, and makes one up elsewhere.

    Attributes:
        url: Where the page is, with the token.

    Raises:
        ImportError: If aiohttp is not installed.
        OSError: If the address cannot be listened on.
    """

    def __init__(self, address: str, stats: PipelineStats, token: str | None = None) -> None:
        try:
            import aiohttp.web
        except ImportError as error:
            raise ImportError(
                f"the preview page needs aiohttp ({error}). Install it: pip install 'fer-edge[edge,serve]'"
            ) from error
        self._web = aiohttp.web
        host, port = parse_address(address)
        self._token = token or (None if is_loopback(host) else secrets.token_urlsafe(16))
        self._names = (*LOCAL_NAMES, host)
        self._stats = stats
        self._nonce = secrets.token_urlsafe(16)
        self._newest: LabeledFrame | None = None
        self._newest_s = time.monotonic()
        self._picture: tuple[LabeledFrame, bytes] | None = None
        self._encoding = asyncio.Lock()
        self._connections = 0
        self._runner: Any = None
        # In a thread of its own from the start: the one that asks may have a loop running, as in a notebook.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fer-edge preview", daemon=True)
        self._thread.start()
        try:
            port = self._wait_for(self._start(host, port))
        except OSError as error:
            self._end_loop()
            raise OSError(
                f"cannot serve the preview at {host}:{port}: {error.strerror or error}. Choose another --serve"
            ) from error
        self.url = f"http://{_shown_host(host)}:{port}/" + (f"?token={self._token}" if self._token else "")

    def write(self, labeled: LabeledFrame) -> None:
        """Make a frame the newest. Costs nothing: clients fetch it when they are ready."""
        self._newest, self._newest_s = labeled, time.monotonic()

    def close(self, complete: bool) -> None:
        """Stop serving."""
        if self._loop.is_closed():
            return
        self._wait_for(self._runner.cleanup())
        self._wait_for(self._loop.shutdown_default_executor())
        self._end_loop()

    def _wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=10)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self, host: str, port: int) -> int:
        web = self._web

        @web.middleware
        async def guard(request: Any, handler: Handler) -> Any:
            return await self._guard(request, handler)

        application = web.Application(middlewares=[guard], client_max_size=1024)
        application.router.add_get("/", self._page)
        application.router.add_get("/stream.mjpg", self._stream)
        application.router.add_get("/events", self._events)
        application.router.add_get("/state.json", self._state)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        return int(self._runner.addresses[0][1])

    async def _guard(self, request: Any, handler: Handler) -> Any:
        """Let in only who may see the camera, and tell browsers to keep what they see to themselves."""
        web = self._web
        if self._token:
            given = request.query.get("token") or request.cookies.get(COOKIE) or ""
            given = given or request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(errors="replace"), self._token.encode()):
                raise web.HTTPUnauthorized(text="The token is missing or wrong. fer-edge run prints the whole address.\n")
        elif re.sub(r":\d+$", "", request.host).strip("[]") not in self._names:
            # Another site may have pointed its own name at this machine, to read the camera through a browser here.
            raise web.HTTPForbidden(text="This preview answers to localhost only.\n")
        return await handler(request)

    def _headers(self, kind: str) -> dict[str, str]:
        return {
            "Content-Type": kind,
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; connect-src 'self'; "
            f"script-src 'nonce-{self._nonce}'; style-src 'nonce-{self._nonce}'",
        }

    async def _page(self, request: Any) -> Any:
        text = PAGE.read_text(encoding="utf-8").replace("NONCE", self._nonce)
        response = self._web.Response(body=text.encode(), headers=self._headers("text/html; charset=utf-8"))
        if self._token:
            response.set_cookie(COOKIE, self._token, httponly=True, samesite="Strict")
        return response

    async def _state(self, request: Any) -> Any:
        return self._web.Response(text=json.dumps(self._data()), headers=self._headers("application/json"))

    async def _events(self, request: Any) -> Any:
        async def send(response: Any) -> None:
            await response.write(f"data: {json.dumps(self._data())}\n\n".encode())

        return await self._push(request, "text/event-stream", send)

    async def _stream(self, request: Any) -> Any:
        async def send(response: Any) -> None:
            picture = await self._jpeg()
            if not picture:
                return
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            await response.write(head.encode() + picture + b"\r\n")

        # Twice: Chromium shows a picture only when the head of the next one has come. Not more often: who records or labels
        # this stream has to notice that the camera is lost.
        return await self._push(request, "multipart/x-mixed-replace; boundary=frame", send, most_sends=2)

    async def _push(
        self, request: Any, kind: str, send: Callable[[Any], Awaitable[None]], most_sends: float = float("inf")
    ) -> Any:
        """Send each new frame to one client, as fast as that client reads; the old one again, so often, where none comes."""
        if self._connections >= MOST_CONNECTIONS:
            raise self._web.HTTPServiceUnavailable(text=f"There are {MOST_CONNECTIONS} connections already, two a page.\n")
        self._connections += 1
        sent: LabeledFrame | None = None
        sent_s, sends = time.monotonic(), 0
        try:
            response = self._web.StreamResponse(headers=self._headers(kind))
            await response.prepare(request)
            while request.transport is not None and not request.transport.is_closing():
                new = self._newest is not sent
                if new or (sends < most_sends and time.monotonic() - sent_s >= REPEAT_S):
                    sent, sent_s, sends = self._newest, time.monotonic(), 1 if new else sends + 1
                    await asyncio.wait_for(send(response), STALLED_S)
                await asyncio.sleep(1 / FRAMES_PER_SECOND)
        except ConnectionError:
            pass
        except asyncio.TimeoutError:
            request.transport.abort()
        finally:
            self._connections -= 1
        return response

    async def _jpeg(self) -> bytes:
        """Return the newest frame, drawn and encoded once for all clients; nothing before the first."""
        async with self._encoding:
            newest = self._newest
            if newest is not None and (self._picture is None or self._picture[0] is not newest):
                self._picture = newest, await asyncio.to_thread(_encode, newest)
            return self._picture[1] if self._picture else b""

    def _data(self) -> dict[str, Any]:
        newest = self._newest
        stats = self._stats
        latency = stats.latency_ms
        return {
            **(as_data(newest) if newest else {"source": None, "frame": None, "faces": []}),
            "frames_per_second": round(stats.frames_per_second, 1),
            "latency_ms": None if latency is None else round(latency, 1),
            "dropped": stats.dropped,
            "age_s": round(time.monotonic() - self._newest_s, 1),
        }


def _encode(labeled: LabeledFrame) -> bytes:
    cv2 = import_cv2()
    picture = cv2.cvtColor(annotate(labeled), cv2.COLOR_RGB2BGR)
    scale = LONGEST_SIDE_PX / max(picture.shape[:2])
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1])
