"""Accept the connections of an HTTP server, with limits that keep a client from taking the file descriptors of the camera."""

import asyncio
import os
import resource
import socket
import ssl
from collections.abc import Callable
from functools import partial

from fer_edge.edge_runtime.cameras.camera import OnMessage

MAX_CONNECTIONS = 96
MIN_CONNECTIONS = 6
RESERVED_DESCRIPTORS = 64  # for the program and its files, the camera, the recording and the MQTT client
REQUEST_TIMEOUT_S = 10.0  # from accept to the end of the response; streams are exempt
BACKLOG = 128  # connections that wait in the kernel, where they use no file descriptor of this program
RETRY_S = 1.0  # after accept failed


def max_connections() -> int:
    """Return how many connections the limit on open files leaves room for, MIN_CONNECTIONS to MAX_CONNECTIONS."""
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = MAX_CONNECTIONS if open_files == resource.RLIM_INFINITY else open_files - RESERVED_DESCRIPTORS
    return max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, room))


class HttpListener:
    """Accepts connections and hands them to a protocol.

    A connection is closed REQUEST_TIMEOUT_S after it was accepted, unless keep() is called for it. At the limit, a new
    connection replaces the oldest one that keep() was not called for. So idle clients cannot lock out others for long.

    Args:
        make_protocol: Returns the protocol of a new connection.
        limit: Maximum number of open connections.
        tls: Encrypts the connections; None for plain HTTP.
        on_problem: Called with a line of text when a connection is refused. Must be cheap: strangers can cause many calls.

    Attributes:
        port: Port of the first address, once listen() has returned.
    """

    def __init__(
        self,
        make_protocol: Callable[[], asyncio.Protocol],
        limit: int,
        tls: ssl.SSLContext | None,
        on_problem: OnMessage,
    ) -> None:
        self._make_protocol = make_protocol
        self._limit = limit
        self._tls = tls
        self._on_problem = on_problem
        self._accepting: list[asyncio.Task[None]] = []
        self._listening: list[socket.socket] = []
        self._open: set[socket.socket] = set()
        # How to close the connections without a stream, oldest first.
        self._replaceable: dict[socket.socket, Callable[[], object]] = {}
        self._handshakes: set[asyncio.Task[None]] = set()
        self.port = 0

    async def listen(self, host: str, port: int) -> None:
        """Start to accept connections.

        Args:
            host: Host name or IP address; all its addresses are used.
            port: 0 for a free port.

        Raises:
            OSError: If the host is unknown, or the port is in use.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        failure: OSError | None = None
        for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
            try:
                listening = socket.create_server((str(address[0]), self.port or port), family=family, backlog=BACKLOG)
            except OSError as error:  # localhost has an IPv6 address even where IPv6 is switched off
                failure = OSError(error.errno, os.strerror(error.errno or 0))  # create_server() repeats the address
                continue
            listening.setblocking(False)
            self._listening.append(listening)
            self.port = self.port or int(listening.getsockname()[1])
        if failure and not self._listening:
            raise failure
        self._accepting = [loop.create_task(self._accept(listening)) for listening in self._listening]

    def keep(self, transport: asyncio.BaseTransport) -> None:
        """Exempt a connection from the time limit and from replacement: its client has asked for a stream, and may have it."""
        client = transport.get_extra_info("socket")
        self._replaceable = {other: close for other, close in self._replaceable.items() if other.fileno() != client.fileno()}

    async def close(self) -> None:
        """Stop to accept connections and end all handshakes. Connections that have a protocol stay open."""
        tasks = [*self._accepting, *self._handshakes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listening in self._listening:
            listening.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, address = await loop.sock_accept(listening)
            except OSError as error:
                self._on_problem(f"cannot accept a connection: {error.strerror or error}")
                await asyncio.sleep(RETRY_S)
                continue
            self._open = {other for other in self._open if other.fileno() >= 0}
            self._replaceable = {other: close for other, close in self._replaceable.items() if other in self._open}
            if len(self._open) >= self._limit and not self._replace_oldest():
                client.close()
                self._on_problem(f"all {self._limit} connections are in use: a connection from {address[0]} was refused")
                continue
            self._open.add(client)
            task = loop.create_task(self._connect(client, str(address[0])))
            self._handshakes.add(task)
            task.add_done_callback(partial(self._handshake_ended, client))
            self._replaceable[client] = task.cancel
            await asyncio.sleep(0)  # lets the loop close a replaced connection: in a flood, sock_accept() returns at once

    def _replace_oldest(self) -> bool:
        """Close the oldest connection without a stream; return whether there was one."""
        oldest = next(iter(self._replaceable), None)
        if oldest is None:
            return False
        self._end(oldest)
        self._open.discard(oldest)
        return True

    async def _connect(self, client: socket.socket, address: str) -> None:
        loop = asyncio.get_running_loop()
        timeout_s = REQUEST_TIMEOUT_S if self._tls else None
        try:
            transport, _ = await loop.connect_accepted_socket(
                self._make_protocol, client, ssl=self._tls, ssl_handshake_timeout=timeout_s
            )
        except OSError as error:
            self._on_problem(f"TLS with {address} failed: {error.strerror or error}")
            client.close()
        else:
            self._replaceable[client] = transport.abort
            loop.call_later(REQUEST_TIMEOUT_S, self._end, client)

    def _handshake_ended(self, client: socket.socket, task: "asyncio.Task[None]") -> None:
        self._handshakes.discard(task)
        if task.cancelled():
            client.close()

    def _end(self, client: socket.socket) -> None:
        """Close a connection, unless keep() was called for it."""
        close = self._replaceable.pop(client, None)
        if close:
            close()
