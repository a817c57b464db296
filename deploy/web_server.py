"""Serve an exported web page: compressed copies, correct types, security headers, revalidation instead of new downloads."""

import json
import ssl
from pathlib import Path
from typing import Any

from fer_edge.deploy.web_export import SITE_FILE, integrity_of, security_headers
from fer_edge.edge_runtime.outputs.address import parse_address
from fer_edge.edge_runtime.outputs.http_server import host_for_clients
from fer_edge.edge_runtime.outputs.loop_thread import LoopThread

DEFAULT_PORT = 8000
INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
}
UNKNOWN_TYPE = "application/octet-stream"


def page_host(address: str) -> str:
    """Return the host name or address under which clients reach a server.

    Args:
        address: ``HOST:PORT``, ``HOST``, ``:PORT`` or ``PORT``.

    Raises:
        ValueError: If the address cannot be parsed.
    """
    return host_for_clients(_bind(address)[0])


class PageServer:
    """Serves the files of one exported page, and nothing else, in a separate thread.

    Args:
        folder: The exported page.
        address: ``HOST:PORT``, ``HOST``, ``:PORT`` or ``PORT``; the default host is 127.0.0.1. Port 0 picks a free port.
        tls: TLS settings, see server_tls; None for plain HTTP.

    Attributes:
        url: URL of the page.

    Raises:
        FileNotFoundError: If the folder is not an exported page, or one of its files is missing.
        ImportError: If aiohttp is not installed.
        OSError: If the server cannot listen on the address.
        ValueError: If a file was changed after the export, or the address cannot be parsed.
    """

    def __init__(self, folder: Path, address: str, tls: ssl.SSLContext | None = None) -> None:
        try:
            import aiohttp.web
        except ImportError as error:
            raise ImportError(f"fer-edge serve needs aiohttp ({error}). Install it: pip install 'fer-edge[serve]'") from error
        self._web = aiohttp.web
        self._folder = folder
        self._files = _checked_files(folder)
        self._headers = security_headers((folder / INDEX).read_text(encoding="utf-8"))
        host, port = _bind(address)
        self._runner: Any = None
        self._thread = LoopThread("fer-edge web page")
        self._thread.start()
        try:
            port = self._thread.wait_for(self._listen(host, port, tls))
        except OSError as error:
            self._thread.end()
            raise OSError(f"cannot serve at {host}:{port}: {error.strerror or error}. Choose another --address") from error
        self.url = f"{'https' if tls else 'http'}://{host_for_clients(host)}:{port}/"

    def close(self) -> None:
        """Stop serving."""
        self._thread.wait_for(self._runner.cleanup())
        self._thread.end()

    async def _listen(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        """Start to listen and return the port."""
        application = self._web.Application(client_max_size=1024)
        application.router.add_get("/{path:.*}", self._answer)
        self._runner = self._web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = self._web.TCPSite(self._runner, host, port, ssl_context=tls)
        try:
            await site.start()
        except OSError:
            await self._runner.cleanup()
            raise
        return int(self._runner.addresses[0][1])

    async def _answer(self, request: Any) -> Any:
        path = request.match_info["path"] or INDEX
        headers = {"Server": "fer-edge", "Cache-Control": "no-cache", **self._headers}
        if path not in self._files:
            raise self._web.HTTPNotFound(text="The page has no such file.\n", headers=headers)
        headers["Content-Type"] = TYPES.get(Path(path).suffix, UNKNOWN_TYPE)
        # aiohttp sends the compressed copy to clients that accept it, and nothing to those that have this version.
        return self._web.FileResponse(self._folder / path, headers={**headers, "Vary": "Accept-Encoding"})


def _bind(address: str) -> tuple[str, int]:
    expected = f"an address is HOST:PORT, for example 0.0.0.0:{DEFAULT_PORT}"
    parsed = parse_address(address, {"http": DEFAULT_PORT}, expected, default_host="127.0.0.1")
    return parsed.host, parsed.port


def _checked_files(folder: Path) -> set[str]:
    """Return the paths of the page's files. They must be as they were exported: the page itself rejects changed ones."""
    description = folder / SITE_FILE
    if not description.is_file():
        raise FileNotFoundError(f"'{folder}' is not an exported page. Export one: fer-edge export web MODEL --out '{folder}'")
    files: dict[str, str] = json.loads(description.read_text(encoding="utf-8"))["files"]
    for path, integrity in files.items():
        file = folder / path
        if not file.is_file():
            raise FileNotFoundError(f"'{file}' is missing. Export the page again: fer-edge export web MODEL")
        if integrity_of(file.read_bytes()) != integrity:
            raise ValueError(f"'{file}' was changed after the export. Export the page again: fer-edge export web MODEL")
    return {*files, SITE_FILE, "precache.js"}
