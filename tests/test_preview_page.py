"""The preview page in a browser."""

import math
from dataclasses import replace

import numpy as np
import pytest
from live import LABELS, frame, labeled
from live import prediction as predict

from fer_edge.benchmarks.synthetic_scenes import read_face, write_clip
from fer_edge.edge_runtime import stream
from fer_edge.edge_runtime.classify import Prediction
from fer_edge.edge_runtime.images import read_image, write_image
from fer_edge.edge_runtime.live.pipeline import LabeledFace, LabeledFrame
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.outputs import preview as preview_module
from fer_edge.edge_runtime.outputs.preview import PreviewServer
from fer_edge.preview_screenshots import take_screenshots
from fer_edge.train.synthetic import synthetic_image

pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'fer-edge[serve]'")


def open_page(chromium, url, width=1280, height=800, **options):
    """Open the page; its errors are collected in ``page.problems``."""
    page = chromium.new_page(viewport={"width": width, "height": height}, **options)
    page.problems, page.urls = [], []
    page.on("request", lambda request: page.urls.append(request.url))
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
    write_clip(tmp_path / "clip.mp4", read_face_of(tmp_path), 20)
    pipeline = stream(tmp_path / "clip.mp4", int8_model, detector="haar", threads=1)
    preview = PreviewServer("127.0.0.1:0", pipeline.stats)
    try:
        page = open_page(chromium, preview.url, width, height)
        for labeled_frame in pipeline:
            preview.write(labeled_frame)
            page.wait_for_timeout(20)
        (face,) = labeled_frame.faces
        wait_for(page, lambda: page.locator("section[data-label]").count() and shown(page) == (face.label, percents(face)))
        wait_for(page, lambda: image_width(page) == 640)
        assert page.evaluate("document.documentElement.scrollWidth") <= width  # no horizontal scrolling
        box = page.locator("#faces").bounding_box()
        image = page.locator("#image").bounding_box()
        assert (box["x"] >= image["x"] + image["width"]) == (width > 720)
        assert page.problems == []
        page.close()
    finally:
        pipeline.close()
        preview.close(True)


def image_width(page):
    """The width of the image that the page shows, pixels; 0 before the first image."""
    return page.evaluate("document.getElementById('image').naturalWidth")


def read_face_of(folder):
    write_image(folder / "face.png", synthetic_image("happy", seed=0))
    return read_face(folder / "face.png")


def face_at(number, x, happy=0.9, unsure=False):
    """A face of 20 pixels at (x, 20)."""
    prediction = predict(happy)._replace(label="unsure") if unsure else predict(happy)
    return LabeledFace((x, 20, 20, 20), prediction, number, unsure=unsure)


def show(preview, *faces, number=1):
    """Make a frame with these faces the newest. Its left half is red, its right half blue."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :32, 0] = image[:, 32:, 2] = 255
    preview.write(LabeledFrame(replace(frame(number), pixels=image), faces))
    preview._newest_s += 1000  # never outdated, however slow this machine is


def cards(page):
    """The number, the label and the position of each card."""
    code = """cards => cards.map(card => {
        const {x, y, width, height} = card.getBoundingClientRect();
        return [card.dataset.number ?? null, card.querySelector('.label').textContent, [x, y, width, height]];
    })"""
    return [tuple(card) for card in page.locator("#faces section").evaluate_all(code)]


def card_names(page):
    return [(number, label) for number, label, _ in cards(page)]


def test_the_page_shows_how_long_the_camera_is_lost_and_recovers(chromium, preview):
    show(preview, face_at(1, 5))
    page = open_page(chromium, preview.url)
    wait_for(page, lambda: page.locator("section[data-label=happy]").count())
    assert page.inner_text("#status") == "1 face"
    preview._newest_s -= 1060  # no frame for a minute
    wait_for(page, lambda: "no image from the camera for 6" in page.inner_text("#status"))
    assert page.inner_text("#announcement") == "no image from the camera"
    assert card_names(page) == [("1", "not in view")]
    assert page.get_attribute("#image", "class") == "stale"
    show(preview, face_at(1, 5), number=2)
    wait_for(page, lambda: page.locator("section[data-label=happy]").count())
    assert page.get_attribute("#image", "class") == ""
    page.close()


def test_the_page_names_the_model_the_detector_the_board_the_speed_and_the_temperature(chromium, monkeypatch):
    monkeypatch.setattr(preview_module, "temperature_c", lambda: 51.6)
    stats = PipelineStats()
    shown = {"model": "m_<b>int8.tflite", "detector": "haar", "board": "Raspberry Pi 5"}
    preview = PreviewServer("127.0.0.1:0", stats, shown=shown)
    page = open_page(chromium, preview.url)
    wait_for(page, lambda: page.inner_text("#temperature") == "52 °C")
    assert [page.inner_text(f"#{name}") for name in shown] == list(shown.values())
    assert page.inner_text("#speed") == "0.0 frames/s, 0 dropped"
    stats.dropped, stats.latency_ms = 3, 41.7
    wait_for(page, lambda: page.inner_text("#speed") == "0.0 frames/s, 42 ms latency, 3 dropped")
    page.close()
    preview.close(True)


@pytest.mark.parametrize("width", [1280, 390])
def test_cards_keep_their_places_when_faces_come_and_go(chromium, preview, width):
    page = open_page(chromium, preview.url, width)
    # A slow clock: a face that leaves for longer than expected on a busy machine keeps its card.
    page.evaluate("REAL_NOW = performance.now; performance.now = () => REAL_NOW.call(performance) / 1000")
    show(preview, face_at(1, 0), face_at(2, 30))
    wait_for(page, lambda: card_names(page) == [("1", "happy"), ("2", "happy")])
    first, second = (box for _, _, box in cards(page))
    show(preview, face_at(2, 30))  # face 1 leaves
    wait_for(page, lambda: card_names(page) == [("1", "not in view"), ("2", "happy")])
    assert [box for _, _, box in cards(page)] == [first, second]
    show(preview, face_at(3, 10), face_at(2, 30))  # too early for the place of face 1
    wait_for(page, lambda: card_names(page) == [("1", "not in view"), ("2", "happy"), ("3", "happy")])
    assert [box for _, _, box in cards(page)][:2] == [first, second]
    show(preview, face_at(1, 0), face_at(2, 30))  # face 1 returns to its card
    wait_for(page, lambda: card_names(page) == [("1", "happy"), ("2", "happy"), ("3", "not in view")])
    page.evaluate("performance.now = () => REAL_NOW.call(performance) / 1000 + 6000")
    show(preview, face_at(1, 0), face_at(2, 30), face_at(4, 10))  # face 3 left more than 5 s ago
    wait_for(page, lambda: card_names(page) == [("1", "happy"), ("2", "happy"), ("4", "happy")])
    page.evaluate("performance.now = () => REAL_NOW.call(performance) / 1000 + 90_000")
    show(preview, face_at(2, 30))
    wait_for(page, lambda: card_names(page) == [(None, "no face"), ("2", "happy")])
    page.close()


def test_each_face_of_a_single_image_has_a_card(chromium, preview):
    faces = replace(face_at(1, 0), number=None), replace(face_at(1, 30, happy=0.1), number=None)
    show(preview, *faces)
    page = open_page(chromium, preview.url)
    wait_for(page, lambda: card_names(page) == [("1", "happy"), ("2", "angry")])
    page.close()


def pixels(page, canvas, *positions):
    """The colors of a canvas at fractions of its width and height, all of the same drawing."""
    code = "(c, at) => at.map(([x, y]) => [...c.getContext('2d').getImageData(c.width * x, c.height * y, 1, 1).data])"
    return page.locator(canvas).first.evaluate(code, positions)


def center_color(page):
    """The color in the center of the thumbnail."""
    return pixels(page, ".thumbnail", (0.5, 0.5))[0]


def test_a_thumbnail_shows_the_face_in_the_displayed_image(chromium, preview):
    page = open_page(chromium, preview.url)
    show(preview, face_at(1, 5))
    wait_for(page, lambda: center_color(page)[0] > 200)
    assert center_color(page)[2] < 60
    show(preview, face_at(1, 40), number=2)
    wait_for(page, lambda: center_color(page)[2] > 200)
    assert center_color(page)[0] < 60
    page.close()


def test_the_history_is_as_high_as_the_probability_and_has_the_color_of_the_label(chromium, preview):
    show(preview, face_at(1, 5, happy=0.75))
    page = open_page(chromium, preview.url)
    happy, empty = [0xD9, 0xA4, 0x00, 255], [0, 0, 0, 0]
    places = (0.998, 0.9), (0.998, 0.1), (0.5, 0.9)  # now, now above 75 %, 30 s ago
    wait_for(page, lambda: pixels(page, ".history", *places) == [happy, empty, empty])
    assert page.get_attribute(".history", "aria-label") == "Last minute: happy 100 %"
    page.close()


def test_an_unsure_face_names_its_two_likely_labels(chromium, preview):
    page = open_page(chromium, preview.url)
    show(preview, face_at(1, 5, happy=0.38, unsure=True))
    wait_for(page, lambda: card_names(page) == [("1", "unsure")])
    assert page.inner_text(".summary") == "between happy 38 % and angry 37 %"
    show(preview, face_at(1, 5, happy=0.9), number=2)
    wait_for(page, lambda: card_names(page) == [("1", "happy")])
    assert page.inner_text(".summary") == "then angry 6 %, margin 84 points"
    prediction = Prediction("angry", 0.4, (0.4, 0.45, 0.15), LABELS)  # the hysteresis keeps the label
    show(preview, LabeledFace((5, 20, 20, 20), prediction, 1), number=3)
    wait_for(page, lambda: card_names(page) == [("1", "angry")])
    assert page.inner_text(".summary") == "happy 45 %, then angry 40 %, margin 5 points"
    page.close()


@pytest.mark.parametrize("width", [1280, 360])
def test_long_labels_neither_move_nor_widen_anything(chromium, preview, width):
    labels = ("a label of a user that is much too long for its card", "another one that is as long as the first", "c")
    sizes = []
    page = open_page(chromium, preview.url, width)
    for number, names in enumerate((labels, ("a", "b", "c")), 1):
        face = LabeledFace((5, 20, 20, 20), Prediction(names[0], 0.45, (0.45, 0.4, 0.15), names), number)
        show(preview, face, number=number)
        wait_for(page, lambda names=names: names[0] in [label for _, label in card_names(page)])
        sizes.append(cards(page)[number - 1][2][3])
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert sizes[0] == sizes[1]
    page.close()


def test_the_page_can_be_used_with_the_keyboard(chromium, preview):
    page = open_page(chromium, preview.url)
    show(preview, face_at(1, 5))
    wait_for(page, lambda: card_names(page) == [("1", "happy")])
    page.keyboard.press("Tab")
    page.keyboard.press("Space")  # announce labels
    wait_for(page, lambda: page.inner_text("#announcement") == "face 1: happy")
    wait_for(page, lambda: image_width(page) == 64)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # pause
    wait_for(page, lambda: page.inner_text("#status") == "paused")
    wait_for(page, lambda: preview._streams == 0)
    assert image_width(page) == 64
    assert page.get_attribute("#pause", "aria-pressed") == "true"
    show(preview, face_at(2, 5))
    page.keyboard.press("Enter")
    wait_for(page, lambda: ("2", "happy") in card_names(page))
    page.close()


def test_a_page_that_is_paused_before_the_first_image_says_so_and_resumes(chromium):
    preview = PreviewServer("127.0.0.1:0", PipelineStats())  # no frame yet
    page = open_page(chromium, preview.url)
    wait_for(page, lambda: preview._streams == 2)  # image and events
    page.click("#pause")
    wait_for(page, lambda: page.inner_text("#status") == "paused before the first image")
    wait_for(page, lambda: preview._streams == 0)
    assert page.get_attribute("#image", "src") is None
    show(preview, face_at(1, 5))
    page.click("#pause")
    wait_for(page, lambda: image_width(page) == 64)
    page.close()
    preview.close(True)


def test_a_paused_page_does_not_reconnect(chromium, preview):
    page = open_page(chromium, preview.url)
    wait_for(page, lambda: image_width(page) == 64)
    page.evaluate("image.onerror()")  # the image stream broke: the page retries after a pause
    page.click("#pause")
    page.evaluate("showImage()")
    wait_for(page, lambda: preview._streams == 0)
    assert page.get_attribute("#image", "src").startswith("data:image/jpeg")
    page.close()


def test_a_screen_reader_finds_names_for_cards_meters_and_plots(chromium, preview):
    page = open_page(chromium, preview.url)
    show(preview, face_at(1, 5))
    wait_for(page, lambda: page.get_by_role("region", name="Face 1").count())
    card = page.get_by_role("region", name="Face 1")
    assert card.get_by_role("heading").inner_text().split("\n") == ["happy", "90 %"]
    assert card.get_by_role("meter", name="happy").get_attribute("aria-valuenow") == "90"
    assert card.get_by_role("img", name="Last minute").count() == 1
    assert page.get_by_role("img", name="Camera image with a box and a label for each face").count() == 1
    assert page.get_by_role("button", name="Pause").count() == page.get_by_role("checkbox", name="Announce labels").count() == 1
    page.close()


@pytest.mark.parametrize(("scheme", "color"), [("light", "rgb(89, 89, 89)"), ("dark", "rgb(180, 180, 180)")])
def test_the_page_follows_the_color_scheme_and_loads_nothing_from_elsewhere(chromium, preview, scheme, color):
    show(preview, face_at(1, 5))
    page = open_page(chromium, preview.url, color_scheme=scheme)
    wait_for(page, lambda: page.locator("section[data-label=happy]").count())
    assert page.evaluate("getComputedStyle(document.querySelector('#facts p')).color") == color
    assert all(url.startswith((preview.url, "data:")) for url in page.urls)
    wait_for(page, lambda: len(page.urls) >= 3)
    assert page.problems == []
    page.close()


def test_a_rejected_page_shows_why_and_recovers(chromium, guarded):
    guarded._max_streams = 0
    page = open_page(chromium, guarded.url)
    wait_for(page, lambda: page.inner_text("#status") == "too many viewers, retrying")
    guarded._max_streams = 2
    guarded.write(labeled(2))
    wait_for(page, lambda: page.locator("section[data-label]").count() or "no image" in page.inner_text("#status"))
    wait_for(page, lambda: image_width(page) == 64)
    page.close()


def test_a_page_with_an_outdated_token_says_so(chromium, guarded):
    guarded._max_streams = 0
    page = open_page(chromium, guarded.url)
    guarded._server.token = "another-token-of-this-test"
    wait_for(page, lambda: "the token is no longer valid" in page.inner_text("#status"))
    page.close()


def test_the_screenshots_of_the_documentation_are_small_and_have_their_sizes(chromium, tmp_path):
    files = take_screenshots(chromium, tmp_path, seconds=1.5)
    assert [file.name for file in files] == ["preview_desktop.png", "preview_phone.png"]
    assert [read_image(file).shape[:2] for file in files] == [(700, 1040), (844, 390)]
    assert all(5_000 < file.stat().st_size < 60_000 for file in files)
