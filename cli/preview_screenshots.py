"""Screenshots of the preview page for the documentation. They show drawn faces only."""

import itertools
import shutil
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fer_edge.edge_runtime.cameras.frame import Frame

FRAMES_PER_SECOND = 5.0
SECONDS_PER_EXPRESSION = 6.0
EXPRESSIONS = (("happy", "neutral"), ("neutral", "happy", "happy"))  # of the two persons, one after another
SEEDS = (0, 3)
PAGES = {"preview_desktop.png": (1040, 700, "light"), "preview_phone.png": (390, 844, "dark")}
COLORS = 256  # of an image file: the page is mostly flat


class DrawnFaces:
    """A live source: two drawn persons whose expressions change.

    Args:
        seconds: Duration, seconds.
    """

    name = "drawn faces"
    live = True

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def frames(self, stop: threading.Event, on_message: Any = None) -> "Generator[Frame, None, None]":
        """Yield frames of 640 x 480 pixels.

        Args:
            stop: Ends the frames when set.
            on_message: Not used.
        """
        from fer_edge.edge_runtime.cameras.frame import Frame
        from fer_edge.train.synthetic import synthetic_image

        persons = zip(SEEDS, EXPRESSIONS, strict=True)
        drawn = [[synthetic_image(label, seed, width=320) for label in labels] for seed, labels in persons]
        start_s = time.monotonic()
        for number in itertools.count():
            step = int((time.monotonic() - start_s) / SECONDS_PER_EXPRESSION)
            if stop.is_set() or step * SECONDS_PER_EXPRESSION > self._seconds:
                return
            faces = [images[step % len(images)] for images in drawn]
            yield Frame(
                self.name, number, np.hstack(faces), "rgb", FRAMES_PER_SECOND, capture_time_s=time.monotonic(), time=time.time()
            )
            stop.wait(1 / FRAMES_PER_SECOND)


def find_chromium() -> str | None:
    """Return the program of Chromium, None if it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def open_chromium() -> Iterator[Any]:
    """Start Chromium without a window.

    Yields:
        The browser, for take_screenshots.

    Raises:
        FileNotFoundError: If Chromium is not installed.
        ImportError: If Playwright is not installed.
    """
    program = find_chromium()
    if not program:
        raise FileNotFoundError("no Chromium on this machine. Install it: sudo apt install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise ImportError(f"the screenshots need Playwright ({error}). Install it: pip install playwright") from error
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


def take_screenshots(browser: Any, folder: Path, seconds: float) -> list[Path]:
    """Label drawn faces, watch the preview page and take a screenshot at each size of PAGES.

    Args:
        browser: From open_chromium.
        folder: Receives the .png files.
        seconds: How long to watch before the screenshots, seconds; 60 fills the history.

    Returns:
        The files.
    """
    from fer_edge.edge_runtime.classify import Classifier
    from fer_edge.edge_runtime.detectors.detector import open_detector
    from fer_edge.edge_runtime.live.pipeline import Pipeline
    from fer_edge.edge_runtime.outputs.preview import PreviewServer

    pipeline = Pipeline(DrawnFaces(seconds + 2), open_detector("haar"), Classifier())
    shown = {"model": pipeline.model.name, "detector": pipeline.detector, "board": "drawn faces on a PC"}
    preview = PreviewServer("127.0.0.1:0", pipeline.stats, shown=shown)

    def label() -> None:
        for labeled in pipeline:
            preview.write(labeled)

    labeling = threading.Thread(target=label)
    labeling.start()
    try:
        pages = [_open(browser, preview.url, *sizes) for sizes in PAGES.values()]
        pages[0].wait_for_timeout(seconds * 1000)
        images = [page.screenshot() for page in pages]
    finally:
        pipeline.stop()
        labeling.join()
        preview.close(True)
    return [_write_small(folder / name, image) for name, image in zip(PAGES, images, strict=True)]


def _open(browser: Any, url: str, width: int, height: int, color_scheme: str) -> Any:
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=color_scheme)
    page.goto(url, wait_until="commit")
    return page


def _write_small(path: Path, png: bytes) -> Path:
    """Write an image with few colors: a fraction of the bytes."""
    import io

    from PIL import Image

    from fer_edge.artifacts.atomic_write import atomic_write

    small = io.BytesIO()
    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLORS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    image.save(small, "PNG", optimize=True)
    atomic_write(path, small.getvalue())
    return path
