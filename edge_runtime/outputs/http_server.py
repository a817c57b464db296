"""An HTTP server in a thread, for the preview page and the metrics: who may read it, and what every response forbids.

aiohttp serves any number of slow clients in one thread. HttpListener limits their connections.
"""

import asyncio
import hmac
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fer_edge.edge_runtime.cameras.camera import OnMessage
from fer_edge.edge_runtime.outputs.address import parse_address
from fer_edge.edge_runtime.outputs.http_listener import MAX_CONNECTIONS, HttpListener, max_connections
from fer_edge.edge_runtime.outputs.loop_thread import LoopThread
from fer_edge.edge_runtime.outputs.rate_limit import RateLimitedMessages
from fer_edge.edge_runtime.outputs.token import checked_token, stored_token

COOKIE = "fer_edge_token"
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


@dataclass(frozen=True)
class Service:
    """Something that an HttpServer serves.

    Attributes:
        name: Name in messages, such as ``preview``.
        option: Option that sets its address, such as ``--serve``.
        default_port: Port of an address that names none.
        extra: Extra of fer-edge that installs what the server needs.
        max_connections: Maximum number of open connections.
    """

    name: str
    option: str
    default_port: int
    extra: str
    max_connections: int = MAX_CONNECTIONS


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_for_clients(host: str) -> str:
    """Return a host that other machines can open. For 0.0.0.0 this is the address of the outgoing interface."""
    if host != "0.0.0.0":
        host = socket.gethostname() if host == "::" else host
        return f"[{host}]" if ":" in host else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
        try:
            route.connect(("192.0.2.1", 9))  # reserved for documentation (RFC 5737); connecting a UDP socket sends nothing
            return str(route.getsockname()[0])
        except OSError:  # no network yet
            return socket.gethostname()


class HttpServer:
    """Answers GET requests in a separate thread, from start() to close().

    Clients need the token. Without one, the address must be a loopback address, and requests must name this machine as their
    host.

    Args:
        service: What is served.
        address: ``HOST:PORT``, ``HOST``, ``:PORT`` or ``PORT``; the default host is 127.0.0.1. Port 0 picks a free port.
        token: Token that clients must present, at least 16 characters. If None, a loopback address needs no token, and others
            get the stored one.
        tls: TLS settings, see server_tls; None for plain HTTP.
        on_problem: Called with a line of text when requests are refused, at most once per minute.

    Attributes:
        web: The module aiohttp.web.
        token: The token; None without one.
        max_connections: Maximum number of open connections.

    Raises:
        ImportError: If aiohttp is not installed.
        ValueError: If the address cannot be parsed, or the token is too short.
    """

    def __init__(
        self,
        service: Service,
        address: str,
        *,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
        on_problem: OnMessage | None = None,
    ) -> None:
        try:
            import aiohttp.web
        except ImportError as error:
            raise ImportError(
                f"the {service.name} page needs aiohttp ({error}). Install it: pip install 'fer-edge[edge,{service.extra}]'"
            ) from error
        self.web = aiohttp.web
        expected = f"an address is HOST:PORT, for example 127.0.0.1:{service.default_port}"
        self._service = service
        self._bind = parse_address(address, {"http": service.default_port}, expected, default_host="127.0.0.1")
        host = self._bind.host
        self.token = checked_token(token) if token is not None else None if is_loopback(host) else stored_token(on_problem)
        self._scheme = "https" if tls else "http"
        self.max_connections = min(service.max_connections, max_connections())
        self._on_problem = RateLimitedMessages(lambda text: on_problem(f"{service.name}: {text}") if on_problem else None)
        self._listener = HttpListener(self._make_protocol, self.max_connections, tls, self._on_problem)
        self._runner: Any = None
        self._thread = LoopThread(f"fer-edge {service.name}")

    def start(self, routes: dict[str, Handler]) -> None:
        """Start to listen.

        Args:
            routes: The coroutine that answers the requests of a path, by path.

        Raises:
            OSError: If the server cannot listen on the address.
        """
        self._thread.start()
        try:
            self._thread.wait_for(self._listen(routes))
        except OSError as error:
            self._thread.end()
            raise OSError(
                f"cannot serve the {self._service.name} at {self._bind.host}:{self._bind.port}: {error.strerror or error}. "
                f"Choose another {self._service.option} address"
            ) from error

    def url(self, path: str) -> str:
        """Return the URL of a path, such as ``/``, with the token."""
        query = f"?token={quote(self.token, safe='')}" if self.token else ""
        return f"{self._scheme}://{host_for_clients(self._bind.host)}:{self._listener.port}{path}{query}"

    def keep(self, request: Any) -> None:
        """Exempt a request from the time limit of connections: its response is a stream."""
        if request.transport is not None:  # the client is still there
            self._listener.keep(request.transport)

    def close(self) -> None:
        """Stop serving."""
        if self._thread.loop.is_closed():
            return
        self._thread.wait_for(self._listener.close())
        self._thread.wait_for(self._runner.cleanup())
        self._thread.wait_for(self._thread.loop.shutdown_default_executor())
        self._thread.end()

    async def _listen(self, routes: dict[str, Handler]) -> None:
        web = self.web

        @web.middleware
        async def guard(request: Any, handler: Handler) -> Any:
            return await self._guard(request, handler)

        async def add_headers(request: Any, response: Any) -> None:
            policy = response.headers.get("Content-Security-Policy")
            response.headers.update({**HEADERS, "Content-Security-Policy": policy} if policy else HEADERS)
            response.force_close()

        application = web.Application(middlewares=[guard], client_max_size=1024)
        application.on_response_prepare.append(add_headers)
        for path, handler in routes.items():
            application.router.add_get(path, handler)
        self._runner = web.AppRunner(application, shutdown_timeout=0.5)
        await self._runner.setup()
        try:
            await self._listener.listen(self._bind.host, self._bind.port)
        except OSError:
            await self._runner.cleanup()
            raise

    def _make_protocol(self) -> asyncio.Protocol:
        """Return the protocol of one connection: that of aiohttp, but without tracebacks and without its version."""
        web, on_problem = self.web, self._on_problem

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

        return Connection(self._runner.server, loop=self._thread.loop, access_log=None, lingering_time=0)

    async def _guard(self, request: Any, handler: Handler) -> Any:
        """Reject requests without the token, or through a foreign host name."""
        web = self.web
        if self.token:
            given = request.query.get("token") or request.cookies.get(COOKIE) or ""
            given = given or request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(errors="replace"), self.token.encode()):
                raise web.HTTPUnauthorized(text="The token is missing or wrong. Open the URL that fer-edge run prints.\n")
        elif re.sub(r":\d+$", "", request.host).strip("[]") not in (*LOCAL_NAMES, self._bind.host):
            # DNS rebinding: a website may point its own name at this machine to read the camera through a local browser.
            raise web.HTTPForbidden(text="Without a token, this address is available on localhost only.\n")
        return await handler(request)
