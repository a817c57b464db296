"""An exported web page for tests: served, opened in Chromium, and asked for labels."""

import base64
import os
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

from fer_edge.artifacts.reporter import SILENT
from fer_edge.benchmarks.synthetic_scenes import background, paste
from fer_edge.deploy.web_export import export_web
from fer_edge.preview_screenshots import find_chromium
from fer_edge.train.synthetic import synthetic_image

SWITCH = "FER_EDGE_TEST_WEB"  # set by make test-web
HEAD = (slice(110, 410), slice(170, 470))  # of synthetic_image
SIZES = ((640, 480), (480, 640), (1280, 720))
EXPRESSIONS = ("happy", "surprise", "neutral", "angry", "sad", "fear", "disgust")
FAKE_CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")

# Sends one message to the page's worker and returns its answer. The first call starts the worker.
ASK = """
async ([type, png, options]) => {
  globalThis.testWorker ??= new Worker("worker.js");
  const message = { id: 1, type, ...options };
  if (png) {
    const bytes = Uint8Array.from(atob(png), (character) => character.charCodeAt(0));
    message.bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  }
  return new Promise((resolve, reject) => {
    testWorker.onmessage = ({ data }) => (data.error ? reject(new Error(data.error)) : resolve(data.result));
    testWorker.onerror = (event) => reject(new Error(event.message));
    testWorker.postMessage(message, message.bitmap ? [message.bitmap] : []);
  });
}
"""


def export_page(folder, model=None, detector="own"):
    """Export the page, or skip the test: it needs npm and minutes."""
    if SWITCH not in os.environ:
        pytest.skip("make test-web runs this test")
    return export_web(model, folder, None, SILENT, detector)


def draw_head(label, seed):
    """Draw a face crop with hair: uint8 array (300, 300), gray."""
    return np.ascontiguousarray(synthetic_image(label, seed)[..., 0][HEAD])


def draw_scene(rng, size, faces=2, max_degrees=35.0):
    """Draw heads, in tinted light, some of them tilted: uint8 array (height, width, 3), RGB."""
    scene = background(rng, size)
    for k in range(faces):
        head = draw_head(EXPRESSIONS[rng.integers(len(EXPRESSIONS))], int(rng.integers(100)))
        side = float(rng.uniform(0.25, 0.45)) * min(size)
        middle = size[0] * (k + 0.5) / faces + rng.uniform(-0.05, 0.05) * size[0]
        tilt = float(rng.uniform(-max_degrees, max_degrees)) if rng.random() < 0.6 else 0.0
        scene = paste(scene, head, (float(middle), float(rng.uniform(0.35, 0.65)) * size[1]), side, tilt)
    tint = rng.uniform(0.7, 1.0, 3)
    return np.asarray(cv2.cvtColor(scene, cv2.COLOR_GRAY2RGB) * tint, np.uint8)


def as_png(image):
    return base64.b64encode(cv2.imencode(".png", image[..., ::-1])[1].tobytes()).decode()


def write_camera_clip(path, frames=30):
    """Write the clip of a fake camera: a drawn face that moves."""
    image = synthetic_image("happy", seed=0)
    with path.open("wb") as file:
        for k in range(frames):
            moved = np.roll(image, round(20 * np.sin(2 * np.pi * k / frames)), axis=1)
            file.write(cv2.imencode(".jpg", moved[..., ::-1])[1].tobytes())
    return path


@contextmanager
def browser_with(chromium, *arguments):
    """Start another Chromium, with further command-line arguments."""
    browser = chromium.browser_type.launch(executable_path=find_chromium(), args=["--no-sandbox", *arguments])
    try:
        yield browser
    finally:
        browser.close()


def open_page(browser, url, **options):
    """Open the page in a new context. ``page.urls`` has its requests, ``page.problems`` its errors."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.urls, page.problems = [], []
    context.on("request", lambda request: page.urls.append(request.url))
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(url)
    return page


def wait_for(page, condition, seconds=60):
    # wait_for_function needs eval(), which the page's security policy forbids.
    for _ in range(seconds * 10):
        if condition():
            return
        page.wait_for_timeout(100)
    pytest.fail(f"timeout; the page shows: {page.inner_text('body')}")


def wait_until_ready(page):
    wait_for(page, lambda: page.is_enabled("#start"))


def shown_label(page):
    """The label of the first face; None if there is none."""
    section = page.locator("section[data-label]")
    return section.first.get_attribute("data-label") if section.count() else None
