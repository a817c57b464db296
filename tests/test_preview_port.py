"""The preview port and strangers: floods, half-open and malformed requests, TLS."""

import json
import resource
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import TOKEN
from live import labeled, wait_until

from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.outputs import http_listener, http_server
from fer_edge.edge_runtime.outputs.http_listener import max_connections
from fer_edge.edge_runtime.outputs.preview import PreviewServer
from fer_edge.edge_runtime.outputs.rate_limit import RateLimitedMessages
from fer_edge.edge_runtime.outputs.tls import server_tls

pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'fer-edge[serve]'")

TLS_HELLO = b"\x16\x03\x01\x02\x00\r\n\r\n"
MALFORMED = {
    "a TLS handshake": TLS_HELLO,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a header of 20 KB": b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
    "300 headers": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X%d: 1\r\n" % number for number in range(300)) + b"\r\n",
    "a method of zeros": b"\0\0\0 / HTTP/1.1\r\n\r\n",
    "a bad URL": b"GET http://[ HTTP/1.1\r\n\r\n",
    "a bad length": b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "control characters in a header": b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b'a="\x01' * 500 + b"\r\n\r\n",
}
SAME_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "fer-edge",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Server:
    """A preview server; ``problems`` are the lines that it reports."""

    def __init__(self, limit=96, **options):
        self.problems = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(http_server, "max_connections", lambda: limit)
            self.preview = PreviewServer("127.0.0.1:0", PipelineStats(), on_problem=self.problems.append, **options)
        self.preview.write(labeled(1))
        self.url, _, self.query = self.preview.url.partition("?")
        self.port = int(self.url.split(":")[2].strip("/"))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.preview.close(True)

    def connect(self, data=b"GET / HTTP/1.1\r\nX: "):
        client = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        client.sendall(data)
        return client

    def ask(self, data):
        """Return status and headers of the response to these bytes."""
        with self.connect(data) as client:
            received = b""
            while b"\r\n\r\n" not in received and (part := client.recv(1 << 16)):
                received += part
        status, *lines = received.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        return int(status.split()[1]), dict(line.split(": ", 1) for line in lines)

    def get(self, path="", **headers):
        lines = "".join(f"{name}: {value}\r\n" for name, value in {"Host": "127.0.0.1", **headers}.items())
        return self.ask(f"GET /{path} HTTP/1.1\r\n{lines}\r\n".encode())


def count_closed(clients):
    closed = 0
    for client in clients:
        client.settimeout(0.01)
        try:
            closed += client.recv(1) == b""
        except TimeoutError:
            pass
        except OSError:
            closed += 1
    return closed


@pytest.mark.parametrize(
    ("open_files", "expected"), [(1024, 96), (resource.RLIM_INFINITY, 96), (160, 96), (128, 64), (80, 16), (64, 6), (16, 6)]
)
def test_the_number_of_connections_leaves_64_file_descriptors(monkeypatch, open_files, expected):
    monkeypatch.setattr(http_listener.resource, "getrlimit", lambda which: (open_files, open_files))
    assert max_connections() == expected


def test_a_flood_of_half_open_requests_does_not_lock_out_a_viewer():
    with Server(limit=6) as server:
        flood = [server.connect() for _ in range(30)]
        assert server.get()[0] == 200
        wait_until(lambda: count_closed(flood) >= 25)
        for client in flood:
            client.close()


def test_a_stream_survives_a_flood_and_the_time_limit(monkeypatch):
    monkeypatch.setattr(http_listener, "REQUEST_TIMEOUT_S", 0.3)
    request = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with Server(limit=6) as server:
        streams = [server.connect(request) for _ in range(4)]
        for stream in streams:
            assert stream.recv(12) == b"HTTP/1.1 200"
        flood = [server.connect() for _ in range(30)]
        wait_until(lambda: count_closed(flood) == 30)  # after the time limit
        server.preview.write(labeled(77))
        for stream in streams:
            stream.settimeout(5)
            received = b""
            while b'"frame": 77' not in received:
                received += stream.recv(1 << 16)
            stream.close()
        for client in flood:
            client.close()


def test_connections_with_a_wrong_token_do_not_use_up_the_streams():
    with Server(limit=6, token=TOKEN) as server:
        for _ in range(20):
            assert server.get("stream.mjpg?token=wrong")[0] == 401
        assert server.preview._streams == 0
        assert server.get(f"state.json?token={TOKEN}")[0] == 200


def test_at_most_two_thirds_of_the_connections_are_streams():
    with Server(limit=6) as server:
        streams = [server.connect(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(4)]
        for stream in streams:
            assert stream.recv(12) == b"HTTP/1.1 200"
        assert server.get("events")[0] == 503
        assert server.get()[0] == 200
        for stream in streams:
            stream.close()


FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.outputs.preview import PreviewServer
preview = PreviewServer("127.0.0.1:0", PipelineStats(), on_problem=print)
print(preview.url, flush=True)
sys.stdin.readline()
files = [open("/dev/null") for _ in range(40)]
print("opened", len(files), flush=True)
"""


def test_with_128_file_descriptors_and_160_half_open_requests_the_program_can_open_files():
    process = subprocess.Popen([sys.executable, "-c", FEW_FILES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline().split(":")[2].strip("/\n"))
        flood = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(160)]
        for client in flood[-3:]:
            client.sendall(b"GET / HTTP/1.1\r\nX: ")
        wait_until(lambda: count_closed(flood) >= 90)
        assert len(list(Path(f"/proc/{process.pid}/fd").iterdir())) < 128 - 40
        out, _ = process.communicate("\n", timeout=20)
        assert out.strip() == "opened 40"
    finally:
        process.kill()
        process.wait()
        for client in flood:
            client.close()


def test_clients_that_leave_at_once_cause_no_message(capfd):
    with Server() as server:
        for path in ("", "events", "stream.mjpg", "state.json") * 10:
            client = server.connect(f"GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close with a reset
            client.close()
        assert server.get()[0] == 200
        for number in range(200):
            if not server.preview._streams:
                break
            server.preview.write(labeled(number))
            time.sleep(0.02)
        assert server.preview._streams == 0
        assert server.problems == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_gets_400_and_one_line_without_a_traceback(name, capfd):
    with Server() as server:
        for _ in range(3):
            status, headers = server.ask(MALFORMED[name])
            assert status == 400
            assert headers.items() >= SAME_HEADERS.items()
        assert server.problems == ["preview: a malformed request from 127.0.0.1 was rejected"]
    assert capfd.readouterr() == ("", "")


def test_a_fault_of_the_server_is_one_line_and_500(monkeypatch, capfd):
    with Server() as server:
        monkeypatch.setattr(server.preview, "_state_data", lambda: {}["missing"])
        status, headers = server.get("state.json")
        assert status == 500
        assert headers["Server"] == "fer-edge"
        assert server.problems == ["preview: a request from 127.0.0.1 failed: KeyError('missing')"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [("", {}, 200), ("state.json", {}, 200), ("nothing", {}, 404), ("", {"Host": "evil.example"}, 403)],
)
def test_all_responses_have_the_same_headers_and_no_version(path, headers, expected):
    with Server() as server:
        status, given = server.get(path, **headers)
        assert status == expected
        assert given.items() >= SAME_HEADERS.items()
        assert "default-src 'none'" in given["Content-Security-Policy"]


def test_a_wrong_method_and_a_missing_token_have_the_same_headers():
    with Server(token=TOKEN) as server:
        for data, expected in ((f"POST /?token={TOKEN}", 405), ("GET /", 401)):
            status, headers = server.ask(f"{data} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert status == expected
            assert headers.items() >= SAME_HEADERS.items()


@pytest.mark.parametrize("token", ["", "x", "geheim", "a" * 15])
def test_a_short_token_is_rejected(token):
    with pytest.raises(ValueError, match=f"needs at least 16 characters. Received: {len(token)}"):
        PreviewServer("127.0.0.1:0", PipelineStats(), token)


def test_messages_are_limited_to_one_per_minute():
    clock = SimpleNamespace(now_s=0.0)
    lines = []
    report = RateLimitedMessages(lines.append, lambda: clock.now_s)
    for now_s in (0.0, 1.0, 59.9, 60.0, 61.0, 300.0, 400.0):
        clock.now_s = now_s
        report(f"at {now_s}")
    assert lines == [
        "at 0.0", "at 60.0 (2 more messages since the last one)", "at 300.0 (1 more messages since the last one)", "at 400.0",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl on this machine: sudo apt install openssl")
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder)
    return folder / "cert.pem", folder / "key.pem"


def make_certificate(folder, *more):
    subject = ("-subj", "/CN=fer-edge test", "-addext", "subjectAltName=IP:127.0.0.1")
    command = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2", *subject)
    nodes = () if more else ("-noenc",)
    subprocess.run(
        [*command, *nodes, *more, "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True
    )


def test_the_page_over_tls(certificate):
    with Server(tls=server_tls(*certificate), token=TOKEN) as server:
        assert server.url.startswith("https://127.0.0.1:")
        trust = ssl.create_default_context(cafile=certificate[0])
        with urllib.request.urlopen(server.preview.url, timeout=10, context=trust) as answer:
            assert answer.status == 200
            assert "Secure" in answer.headers["Set-Cookie"]
        with urllib.request.urlopen(f"{server.url}state.json?{server.query}", timeout=10, context=trust) as answer:
            assert json.load(answer)["faces"][0]["label"] == "happy"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(server.url, timeout=10, context=trust)
        with urllib.request.urlopen(f"{server.url}stream.mjpg?{server.query}", timeout=10, context=trust) as stream:
            assert stream.readline() == b"--frame\r\n"


def test_failed_handshakes_give_one_line_and_lock_out_nobody(certificate, monkeypatch, capfd):
    monkeypatch.setattr(http_listener, "REQUEST_TIMEOUT_S", 2.0)
    with Server(limit=6, tls=server_tls(*certificate)) as server:
        for _ in range(3):
            with server.connect(b"GET / HTTP/1.1\r\n\r\n") as client:
                client.settimeout(5)
                assert b"HTTP" not in client.recv(100)
        silent = [server.connect(b"") for _ in range(20)]
        trust = ssl.create_default_context(cafile=certificate[0])
        with urllib.request.urlopen(server.url, timeout=10, context=trust) as answer:
            assert answer.status == 200
        wait_until(lambda: count_closed(silent) == 20)
        assert len(server.problems) == 1
        assert server.problems[0].startswith("preview: TLS with 127.0.0.1 failed")
        for client in silent:
            client.close()
    assert capfd.readouterr() == ("", "")


def test_files_that_are_not_a_certificate_and_its_key_are_named(certificate, tmp_path):
    cert, key = certificate
    (tmp_path / "text.pem").write_text("not a certificate")
    make_certificate(tmp_path)
    with pytest.raises(ValueError, match=r"text.pem' does not contain a PEM certificate and its private key. Pass"):
        server_tls(tmp_path / "text.pem", None)
    with pytest.raises(ValueError, match=r"are not a PEM certificate and its private key.*Check --tls-cert and --tls-key"):
        server_tls(cert, tmp_path / "key.pem")
    with pytest.raises(ValueError, match=r"cert.pem' does not contain a PEM certificate and its private key. Pass the key as"):
        server_tls(cert, None)
    with pytest.raises(OSError, match=r"cannot read '.*none.pem': No such file or directory. Check --tls-cert"):
        server_tls(tmp_path / "none.pem", key)
    with pytest.raises(ValueError, match="--tls-key needs --tls-cert"):
        server_tls(None, key)
    make_certificate(tmp_path, "-passout", "pass:secret")
    with pytest.raises(ValueError, match=r"has a passphrase. Remove it"):
        server_tls(tmp_path / "cert.pem", tmp_path / "key.pem")
    assert server_tls(None, None) is None
