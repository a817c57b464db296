"""fer-edge export web and serve, with small stand-ins for the packages of the npm registry."""

import base64
import hashlib
import http.client
import io
import json
import shutil
import ssl
import stat
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from fer_edge.artifacts.contract import ModelError
from fer_edge.artifacts.reporter import SILENT, Reporter
from fer_edge.deploy import self_signed, web_export, web_parts
from fer_edge.deploy.web_export import export_web, integrity_of
from fer_edge.edge_runtime.detectors.detector_network import own_detector_model
from fer_edge.web import FOLDER

NODE = shutil.which("node")


def write_package(folder, part):
    """Write a small archive with the files of a part; return the part with its digest."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name in part.files:
            text = b'import { createWasmLib } from "@litertjs/wasm-utils";\n//# sourceMappingURL=index.js.map'
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    (folder / part.package.archive).write_bytes(content.getvalue())
    digest = base64.b64encode(hashlib.sha512(content.getvalue()).digest()).decode()
    return replace(part, package=replace(part.package, integrity=f"sha512-{digest}"))


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder with archives as npm pack writes them. The page is made of them; the user's cache is another one."""
    folder = tmp_path_factory.mktemp("packages")
    parts = tuple(write_package(folder, part) for part in web_parts.WEB_PARTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web_parts, "WEB_PARTS", parts)
        patch.setattr(web_export, "WEB_PARTS", parts)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield folder


@pytest.fixture(scope="module")
def exported(packages, tmp_path_factory):
    return export_web("cnn_nano", tmp_path_factory.mktemp("exported") / "site", packages, SILENT).folder


@pytest.fixture
def site(exported, tmp_path):
    """A copy of the exported page, which a test may change."""
    return Path(shutil.copytree(exported, tmp_path / "site"))


def write_program(folder, name, text):
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_the_page_has_the_digest_of_each_of_its_files(site, int8_model):
    description = json.loads((site / "site.json").read_text())
    assert (site / description["model"]).read_bytes() == int8_model.read_bytes()
    assert description["model"] == "models/cnn_nano_ferplus_int8-tflite.tflite"
    assert description["detector"] == {"name": "own", "file": "models/face_detector.tflite"}
    assert (site / "models" / "face_detector.tflite").read_bytes() == own_detector_model().read_bytes()
    for path, integrity in description["files"].items():
        assert integrity_of((site / path).read_bytes()) == integrity
    assert set(description["files"]) > {"main.js", "worker.js", "area.wasm", "litert/litert_wasm_internal.wasm", "icon-192.png"}
    index = (site / "index.html").read_text()
    for name in ("main.js", "style.css"):
        assert f'{name}" integrity="{description["files"][name]}"' in index
    assert "default-src 'none'" in (site / "_headers").read_text()


def test_the_user_chooses_the_detector(packages, tmp_path, int8_model, monkeypatch):
    def export(detector):
        folder = export_web("cnn_nano", tmp_path / "site", packages, SILENT, detector).folder
        return folder, json.loads((folder / "site.json").read_text())

    folder, description = export("blazeface")
    assert description["detector"] == {"name": "blazeface", "file": "models/face_detection_short_range.tflite"}
    assert "@mediapipe/face_detection" in description["packages"]
    assert not (folder / "models" / "face_detector.tflite").exists()
    other = Path(shutil.copy(own_detector_model(), tmp_path / "any.tflite"))
    with other.open("ab") as file:
        file.write(b"0")  # another file than the bundled one
    monkeypatch.setattr(web_export, "read_detector_file", precision_is("int8"))
    folder, description = export(str(other))
    assert "@mediapipe/face_detection" not in description["packages"]
    assert description["detector"] == {"name": "own", "file": "models/face_detector.tflite"}
    assert (folder / "models" / "face_detector.tflite").read_bytes() == other.read_bytes()
    assert not (folder / "models" / "face_detection_short_range.tflite").exists()


def precision_is(precision):
    return lambda path: SimpleNamespace(contract=SimpleNamespace(precision=precision, integer_only=precision == "int8 only"))


def test_only_an_int8_detector_of_fer_edge_is_exported(packages, tmp_path, int8_model, monkeypatch):
    with pytest.raises(ModelError, match="classifier"):
        export_web("cnn_nano", tmp_path / "site", packages, SILENT, str(int8_model))
    with pytest.raises(FileNotFoundError, match="the web page has no detector 'haar'"):
        export_web("cnn_nano", tmp_path / "site", packages, SILENT, "haar")
    monkeypatch.setattr(web_export, "read_detector_file", precision_is("float32"))
    with pytest.raises(ModelError, match="has precision float32"):
        export_web("cnn_nano", tmp_path / "site", packages, SILENT, str(int8_model))
    monkeypatch.setattr(web_export, "read_detector_file", precision_is("int8 only"))
    with pytest.raises(ModelError, match="has int8 outputs"):
        export_web("cnn_nano", tmp_path / "site", packages, SILENT, str(int8_model))
    assert not (tmp_path / "site").exists()


def test_modules_are_imported_by_relative_paths(site):
    text = (site / "litert" / "litert.js").read_text()
    assert text == 'import { createWasmLib } from "./wasm_utils.js";\n'


def test_the_service_worker_keeps_every_file_of_the_page_but_one_build(site, packages, tmp_path):
    def precache(folder):
        return json.loads((folder / "precache.js").read_text().removeprefix("self.PRECACHE = ").rstrip(";\n"))

    kept = precache(site)
    assert set(kept["files"]) >= {"./", "index.html", "worker.js", "bench.js", "site.json", "litert/litert.js"}
    assert not {"sw.js", "_headers", "litert/litert_wasm_internal.wasm"} & set(kept["files"])
    assert kept["builds"]["compat"] == ["litert/litert_wasm_compat_internal.js", "litert/litert_wasm_compat_internal.wasm"]
    other = export_web("mobilenet_v2", tmp_path / "other", packages, SILENT).folder
    assert precache(other)["version"] != kept["version"]


def test_every_script_of_the_page_is_exported_and_named_in_its_readme():
    readme = (Path(__file__).parent.parent / "web" / "README.md").read_text()
    scripts = {path.name for path in FOLDER.glob("*.js")} - {"old_browser.js", "download.js"}
    assert [name for name in sorted(scripts) if f"`{name}`" not in readme] == []


def test_an_exported_page_is_replaced_and_other_folders_are_not(site, packages, tmp_path, error_of):
    (site / "left_over.js").touch()
    export_web("cnn_nano", site, packages, SILENT)
    assert not (site / "left_over.js").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    own = tmp_path / "own"
    own.mkdir()
    (own / "letter.txt").touch()
    assert f"'{own}' contains other files than an exported page" in error_of("export", "web", "--out", own, "cnn_nano")
    file = own / "letter.txt"
    assert f"'{file}' is a file. Choose a folder" in error_of("export", "web", "cnn_nano", "--out", file)


def test_only_a_model_of_fer_edge_is_exported(packages, tmp_path, error_of, int8_model):
    other = tmp_path / "other.tflite"
    other.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(100))
    assert "it was not made by fer-edge" in error_of("export", "web", other, "--out", tmp_path / "site")
    truncated = tmp_path / "truncated.tflite"
    truncated.write_bytes(int8_model.read_bytes()[:5000])
    assert "it is truncated" in error_of("export", "web", truncated, "--out", tmp_path / "site")
    assert "no model file 'cnn_nan'" in error_of("export", "web", "cnn_nan", "--out", tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_a_changed_or_missing_package_is_rejected(packages, tmp_path, error_of):
    folder = Path(shutil.copytree(packages, tmp_path / "packages"))
    core = folder / "litertjs-core-2.5.3.tgz"
    core.write_bytes(core.read_bytes() + b"x")
    arguments = ("export", "web", "cnn_nano", "--out", tmp_path / "site", "--packages", folder)
    assert f"'{core}' is not the expected archive of @litertjs/core@2.5.3: its digest is sha512-" in error_of(*arguments)
    core.unlink()
    assert f"no '{core}'. Create it: cd '{folder}' && npm pack @litertjs/core@2.5.3" in error_of(*arguments)


def test_packages_are_downloaded_once(packages, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_program(tmp_path / "bin", "npm", f'cp "{packages}"/*.tgz "$5" && echo "$6" >>"{tmp_path}/calls"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    export_web("cnn_nano", tmp_path / "site", None, SILENT)
    used = [part for part in web_parts.WEB_PARTS if part.package.name.startswith("@litertjs/")]
    requirements = [part.package.requirement for part in used]
    assert (tmp_path / "calls").read_text().split() == requirements
    monkeypatch.setenv("PATH", "")
    export_web("cnn_nano", tmp_path / "again", None, SILENT)
    assert (tmp_path / "calls").read_text().split() == requirements


def test_without_npm_or_a_connection_the_remedy_is_named(packages, tmp_path, monkeypatch, error_of):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = ("export", "web", "cnn_nano", "--out", tmp_path / "site")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    message = error_of(*arguments)
    assert "npm is not installed, and @litertjs/core@2.5.3 was not downloaded before. Install Node.js" in message
    assert "run 'npm pack @litertjs/core@2.5.3' on another machine" in message
    write_program(tmp_path / "bin", "npm", 'echo "npm error code ENOTFOUND" >&2; exit 1')
    assert "npm cannot download @litertjs/core@2.5.3: code ENOTFOUND. Connect to the internet once" in error_of(*arguments)


def test_without_node_the_page_is_not_compressed(packages, tmp_path, monkeypatch):
    warnings = []
    reporter = type("Warnings", (Reporter,), {"warn": lambda self, text: warnings.append(text)})()
    monkeypatch.setenv("PATH", "")
    page = export_web("cnn_nano", tmp_path / "site", packages, reporter)
    assert not page.compressed
    assert list(page.folder.rglob("*.br")) == []
    assert warnings == ["node is not installed, so the files are not compressed: a visitor downloads 10 MB instead of 3 MB"]


@pytest.fixture
def served(site):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'fer-edge[serve]'")
    from fer_edge.deploy.web_server import PageServer

    server = PageServer(site, "127.0.0.1:0")
    yield server
    server.close()


def get(url, path="/", context=None, **headers):
    parts = urlsplit(url)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname, parts.port, timeout=10, **({"context": context} if context else {}))
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


@pytest.mark.skipif(not NODE, reason="node is not installed")
def test_a_client_that_accepts_brotli_gets_the_compressed_copy(site, served):
    response, body = get(served.url, **{"Accept-Encoding": "gzip, br"})
    assert response.headers["Content-Encoding"] == "br"
    assert body == (site / "index.html.br").read_bytes()
    response, body = get(served.url, **{"Accept-Encoding": "gzip"})
    assert response.headers["Content-Encoding"] is None
    assert body == (site / "index.html").read_bytes()


def test_files_have_their_type_and_the_security_headers(served):
    types = {
        "/": "text/html; charset=utf-8",
        "/main.js": "text/javascript; charset=utf-8",
        "/litert/litert_wasm_internal.wasm": "application/wasm",
        "/manifest.webmanifest": "application/manifest+json",
        "/models/face_detector.tflite": "application/octet-stream",
    }
    for path, expected in types.items():
        response, _ = get(served.url, path)
        assert (response.status, response.headers["Content-Type"]) == (200, expected)
        policy = response.headers["Content-Security-Policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self' 'wasm-unsafe-eval'", "connect-src 'self'"} <= set(policy)
        assert response.headers["Permissions-Policy"].startswith("camera=(self), microphone=()")
        assert response.headers["Server"] == "fer-edge"


def test_only_files_of_the_page_are_served(site, served):
    (site / "private.txt").write_text("secret")
    for path in ("/private.txt", "/../packages", "/%2e%2e/packages", "/models", "/_headers/x", "//etc/passwd", "/models%00"):
        assert get(served.url, path)[0].status == 404, path


def test_an_unchanged_file_is_not_sent_again(served):
    first, _ = get(served.url, "/main.js")
    again, body = get(served.url, "/main.js", **{"If-None-Match": first.headers["ETag"]})
    assert (again.status, body, again.headers["Cache-Control"]) == (304, b"", "no-cache")


def test_serve_rejects_what_is_not_an_exported_page(site, served, tmp_path, error_of):
    message = f"'{tmp_path}' is not an exported page. Export one: fer-edge export web MODEL --out '{tmp_path}'"
    assert message in error_of("serve", tmp_path)
    port = urlsplit(served.url).port
    assert f"cannot serve at 127.0.0.1:{port}" in error_of("serve", site, "--address", port)
    assert "an address is HOST:PORT" in error_of("serve", site, "--address", "::bad::")
    (site / "main.js").write_text("alert(1)")
    assert f"'{site / 'main.js'}' was changed after the export" in error_of("serve", site)
    (site / "main.js").unlink()
    assert f"'{site / 'main.js'}' is missing. Export the page again" in error_of("serve", site)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_a_self_signed_certificate_encrypts_the_page(site, monkeypatch, tmp_path, invoke):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'fer-edge[serve]'")
    from fer_edge.deploy.web_server import PageServer
    from fer_edge.edge_runtime.outputs.tls import server_tls

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    certificate, key = self_signed.self_signed_certificate("127.0.0.1")
    assert key.stat().st_mode & 0o077 == 0
    server = PageServer(site, "127.0.0.1:0", server_tls(certificate, key))
    try:
        assert server.url.startswith("https://127.0.0.1:")
        assert get(server.url, context=ssl.create_default_context(cafile=certificate))[0].status == 200
    finally:
        server.close()
    first = certificate.read_bytes()
    assert self_signed.self_signed_certificate("127.0.0.1") == (certificate, key)
    assert certificate.read_bytes() == first
    self_signed.self_signed_certificate("10.1.2.3")
    names = subprocess.run(
        ["openssl", "x509", "-noout", "-ext", "subjectAltName,extendedKeyUsage", "-in", certificate],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "IP Address:10.1.2.3" in names
    assert "TLS Web Server Authentication" in names
    result = invoke("serve", site, "--self-signed", "--tls-cert", certificate)
    assert (result.exit_code, "choose --self-signed, or --tls-cert" in result.stderr) == (2, True)
    monkeypatch.setenv("PATH", "")
    assert "--self-signed needs openssl" in invoke("serve", site, "--self-signed").stderr
