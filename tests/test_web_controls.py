"""The controls of the exported web page in Chromium: camera, images, errors, offline use, ?bench."""

import json

import pytest
from web_site import (
    FAKE_CAMERA,
    browser_with,
    export_page,
    open_page,
    shown_label,
    wait_for,
    wait_until_ready,
    write_camera_clip,
)

from fer_edge.artifacts.latency_records import WEB_BACKEND, read_latency_records
from fer_edge.deploy.web_server import PageServer
from fer_edge.edge_runtime.images import read_image, write_image
from fer_edge.train.synthetic import synthetic_image


@pytest.fixture(scope="module")
def exported(chromium, tmp_path_factory):
    return export_page(tmp_path_factory.mktemp("web") / "site")


@pytest.fixture(scope="module")
def site(exported):
    return exported.folder


@pytest.fixture(scope="module")
def server(site):
    server = PageServer(site, "127.0.0.1:0")
    yield server
    server.close()


@pytest.fixture(scope="module")
def filming(chromium, tmp_path_factory):
    """A browser whose camera films a drawn face."""
    clip = write_camera_clip(tmp_path_factory.mktemp("clip") / "clip.mjpeg")
    with browser_with(chromium, *FAKE_CAMERA, f"--use-file-for-fake-video-capture={clip}") as browser:
        yield browser


def test_the_first_visit_transfers_less_than_2_7_mb(exported):
    assert 2_000_000 < exported.transfer_bytes < 2_700_000


def test_the_camera_is_labeled_frozen_and_saved_without_a_request_to_another_server(filming, server, tmp_path):
    page = open_page(filming, server.url, permissions=["camera"], viewport={"width": 390, "height": 844})
    wait_until_ready(page)
    page.focus("#start")
    page.keyboard.press("Enter")
    wait_for(page, lambda: shown_label(page) == "happy")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # no horizontal scrolling
    page.click("#freeze")
    wait_for(page, lambda: page.get_attribute("#freeze", "aria-pressed") == "true")
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(tmp_path / "saved.png")
    assert read_image(tmp_path / "saved.png").shape == (480, 640, 3)
    page.click("#freeze")
    page.click("#start")
    assert (page.inner_text("#start"), page.is_disabled("#freeze"), page.is_disabled("#save")) == ("Start camera", True, True)
    assert page.evaluate("document.getElementById('video').srcObject") is None
    assert page.problems == []
    # A download of the page is a blob of its own origin.
    assert [url for url in page.urls if not url.removeprefix("blob:").startswith(server.url)] == []
    page.context.close()


def test_the_page_works_offline_and_labels_an_image(chromium, site, tmp_path):
    write_image(tmp_path / "face.png", synthetic_image("surprise", seed=0))
    server = PageServer(site, "127.0.0.1:0")
    page = open_page(chromium, server.url)
    wait_until_ready(page)
    assert page.evaluate("navigator.serviceWorker.ready.then((registration) => registration.active !== null)")
    server.close()
    page.reload()
    wait_until_ready(page)
    page.set_input_files("#open", tmp_path / "face.png")
    wait_for(page, lambda: shown_label(page) == "surprise")
    assert page.is_visible("#photo")
    page.set_input_files("#open", __file__)
    wait_for(page, lambda: page.is_visible("#problem"))
    assert page.inner_text("#problem").startswith("The browser cannot read test_web_controls.py. Choose a JPEG")
    page.context.close()


def test_a_browser_without_relaxed_simd_gets_the_compatible_build(chromium, site, server, tmp_path):
    write_image(tmp_path / "face.png", synthetic_image("happy", seed=0))
    text = (site / "litert" / "litert.js").read_text()
    other = text.replace("tryWasm(WASM_RELAXED_SIMD_CHECK)", "Promise.resolve({ supported: false })")
    assert other != text
    page = chromium.new_page()
    page.context.route("**/litert/litert.js", answer(body=other))
    page.goto(server.url)
    wait_until_ready(page)
    assert page.inner_text("#runtime") == "LiteRT.js 2.5.3, WebAssembly (compat)"
    page.set_input_files("#open", tmp_path / "face.png")
    wait_for(page, lambda: shown_label(page) == "happy")
    page.context.close()


def start(page):
    wait_until_ready(page)
    page.click("#start")


def answer(status=200, body=None, **headers):
    """Answer the requests of a file in another way than the server."""

    def handle(route):
        response = route.fetch()
        route.fulfill(response=response, status=status, body=body, headers={**response.headers, **headers})

    return handle


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("", None, "No camera was found. Connect one"),
        ("**/models/cnn_nano*", answer(404), "is missing on the server (status 404). Copy the whole folder"),
        ("**/models/cnn_nano*", answer(body="other"), "there is no connection to the server, or the file was changed"),
        (
            "**/worker.js",
            answer(**{"content-security-policy": "default-src 'self'"}),
            "This page may not run WebAssembly here: the server's Content-Security-Policy lacks 'wasm-unsafe-eval'",
        ),
        ("**/*.wasm", answer(**{"content-type": "text/plain"}), ""),
        ("**/worker.js", answer(404), "The worker failed: worker.js cannot be loaded. Reload the page"),
    ],
    ids=["no camera", "no model", "another file", "wasm blocked", "wrong type", "no worker"],
)
def test_a_problem_is_named(chromium, server, file, change, message):
    page = chromium.new_page()
    if change:
        page.context.route(file, change)
    page.goto(server.url)
    if message.startswith("No camera") or not message:
        wait_until_ready(page)
    if message.startswith("No camera"):
        page.click("#start")
    if message:
        wait_for(page, lambda: page.is_visible("#problem"))
        assert message in page.inner_text("#problem")
    page.context.close()


def test_a_blocked_camera_is_named(filming, server):
    page = open_page(filming, server.url)
    deny = "async () => { throw new DOMException('', 'NotAllowedError') }"
    page.evaluate(f"() => {{ navigator.mediaDevices.getUserMedia = {deny} }}")
    start(page)
    wait_for(page, lambda: page.is_visible("#problem"))
    assert page.inner_text("#problem").startswith("The camera is blocked. Allow it in the browser's settings")
    page.context.close()


def test_the_camera_needs_a_secure_origin(chromium, server):
    with browser_with(chromium, "--host-resolver-rules=MAP pi.test 127.0.0.1") as browser:
        page = open_page(browser, server.url.replace("127.0.0.1", "pi.test"))
        start(page)
        wait_for(page, lambda: page.is_visible("#problem"))
        assert page.inner_text("#problem").startswith("Browsers open the camera only over https:// or on localhost.")


def test_an_old_browser_is_named(chromium, server):
    page = chromium.new_page()
    page.add_init_script("delete globalThis.OffscreenCanvas")
    page.goto(server.url)
    wait_for(page, lambda: page.is_visible("#problem"))
    assert page.inner_text("#problem") == "This browser lacks OffscreenCanvas. Use Chrome 93, Firefox 114, Safari 16.4 or newer"
    page.context.close()


def test_bench_downloads_a_record_that_fer_edge_bench_reads(chromium, server, invoke, tmp_path):
    page = open_page(chromium, server.url + "?bench")
    wait_for(page, lambda: page.is_enabled("#measure"))
    page.click("#measure")  # the browser asks for the two fields
    page.fill("#device", "Pixel 9")
    page.fill("#browser", "Chrome 142")
    with page.expect_download(timeout=120_000) as download:
        page.click("#measure")
    record = tmp_path / "record.jsonl"
    download.value.save_as(record)
    (measured,) = read_latency_records(record)
    assert measured.environment.title == "Pixel 9, Chrome 142"
    assert (measured.network, measured.backend, measured.latency_protocol.min_runs) == ("cnn_nano", WEB_BACKEND, 50)
    assert len(measured.samples_ms) >= 50
    assert set(measured.stages.samples_ms) == {"detect", "preprocess", "classify", "end_to_end"}
    (row,) = json.loads(invoke("bench", "--from", record, "--json").stdout)
    assert (row["board"], row["peak_memory_bytes"]) == ("Pixel 9, Chrome 142", None)
    page.context.close()
