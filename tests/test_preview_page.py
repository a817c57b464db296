"""The preview page in a browser."""

import math
import shutil

import pytest
from live import labeled

from fer_edge.benchmarks.synthetic_scenes import read_face, write_clip
from fer_edge.edge_runtime import stream
from fer_edge.edge_runtime.images import write_image
from fer_edge.edge_runtime.outputs.preview import PreviewServer
from fer_edge.train.synthetic import synthetic_image

pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'fer-edge[serve]'")


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        pytest.skip("no Chromium on this machine: sudo apt install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(chromium, url, width=1280, height=800):
    """Open the page; its errors are collected in ``page.problems``."""
    page = chromium.new_page(viewport={"width": width, "height": height})
    page.problems = []
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(url, wait_until="commit")
    return page


def wait_for(page, condition, seconds=20):
    # wait_for_function needs eval(), which the page's security policy forbids.
    for _ in range(seconds * 10):
        if condition():
            return
        page.wait_for_timeout(100)
    pytest.fail(f"timeout; the page shows: {page.inner_text('body')}")


def shown(page):
    """The label and the percentages that the page shows for its only face."""
    names, percents = page.locator("section dt").all_inner_texts(), page.locator("section dd.percent").all_inner_texts()
    return page.inner_text("section h2 .label"), dict(zip(names, percents, strict=True))


def percents(face):
    return {label: f"{math.floor(value * 100 + 0.5)} %" for label, value in face.probabilities.items()}


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_the_page_in_chromium_shows_the_label_and_the_probabilities(chromium, int8_model, tmp_path, width, height):
    write_clip(tmp_path / "clip.mp4", read_face_of(tmp_path), 45)
    pipeline = stream(tmp_path / "clip.mp4", int8_model, detector="haar", threads=1)
    preview = PreviewServer("127.0.0.1:0", pipeline.stats)
    try:
        page = open_page(chromium, preview.url, width, height)
        for labeled_frame in pipeline:
            preview.write(labeled_frame)
            page.wait_for_timeout(20)
        (face,) = labeled_frame.faces
        wait_for(page, lambda: page.locator("section[data-label]").count() and shown(page) == (face.label, percents(face)))
        wait_for(page, lambda: page.evaluate("document.getElementById('image').naturalWidth") == 640)
        assert page.evaluate("document.documentElement.scrollWidth") <= width  # no horizontal scrolling
        box = page.locator("#faces").bounding_box()
        image = page.locator("#image").bounding_box()
        assert (box["x"] >= image["x"] + image["width"]) == (width > 720)
        assert page.problems == []
        page.close()
    finally:
        pipeline.close()
        preview.close(True)


def read_face_of(folder):
    write_image(folder / "face.png", synthetic_image("happy", seed=0))
    return read_face(folder / "face.png")


def test_the_page_shows_how_long_the_camera_is_lost_and_recovers(chromium, preview):
    page = open_page(chromium, preview.url)
    wait_for(page, lambda: page.locator("section[data-label=happy]").count())
    assert "frames/s" in page.inner_text("#status")
    preview._newest_s -= 60  # no frame for a minute
    wait_for(page, lambda: "no image for 6" in page.inner_text("#status"))
    assert page.inner_text("#faces") == "no image from the camera"
    assert page.get_attribute("#image", "class") == "stale"
    preview.write(labeled(2))
    wait_for(page, lambda: page.locator("section[data-label=happy]").count())
    assert page.get_attribute("#image", "class") == ""
    page.close()


def test_a_rejected_page_shows_why_and_recovers(chromium, guarded):
    guarded._max_streams = 0
    page = open_page(chromium, guarded.url)
    wait_for(page, lambda: page.inner_text("#status") == "too many viewers, retrying")
    guarded._max_streams = 2
    guarded.write(labeled(2))
    wait_for(page, lambda: page.locator("section[data-label]").count() or "no image" in page.inner_text("#status"))
    wait_for(page, lambda: page.evaluate("document.getElementById('image').naturalWidth") == 64)
    page.close()


def test_a_page_with_an_outdated_token_says_so(chromium, guarded):
    guarded._max_streams = 0
    page = open_page(chromium, guarded.url)
    guarded._token = "another-token-of-this-test"
    wait_for(page, lambda: "the token is no longer valid" in page.inner_text("#status"))
    page.close()
