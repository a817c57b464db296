"""The exported web page in Chromium, next to the Python runtime."""

import numpy as np
import pytest
from web_site import ASK, SIZES, as_png, draw_scene, export_page

from fer_edge.deploy.web_server import PageServer
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.crop import crop_face, preprocess_face, roll_degrees, to_rgb
from fer_edge.edge_runtime.detectors import blazeface
from fer_edge.edge_runtime.detectors.blazeface import BlazeFace
from fer_edge.edge_runtime.detectors.detection import MIN_FACE_PX
from fer_edge.edge_runtime.detectors.own import OwnDetector
from fer_edge.edge_runtime.live.smoothing import Smoother, Smoothing
from fer_edge.edge_runtime.live.tracker import Tracker

IMAGES = 60


@pytest.fixture(scope="module", params=["own", "blazeface"])
def site(chromium, tmp_path_factory, request):
    return export_page(tmp_path_factory.mktemp("web") / "site", "mobilenet_v2", request.param).folder


@pytest.fixture(scope="module")
def server(site):
    server = PageServer(site, "127.0.0.1:0")
    yield server
    server.close()


@pytest.fixture
def detector(site, monkeypatch):
    own = site / "models" / "face_detector.tflite"
    if own.exists():
        return OwnDetector(own)
    monkeypatch.setattr(blazeface, "installed_model_path", lambda: site / "models" / "face_detection_short_range.tflite")
    return BlazeFace()


@pytest.fixture(scope="module")
def classifier(site):
    (model,) = (site / "models").glob("mobilenet_v2_*.tflite")
    return Classifier(model)


@pytest.fixture
def ask(chromium, server):
    """Ask the worker of the page for the labels of an image."""
    page = chromium.new_page()
    page.goto(server.url + "licenses.txt")  # a page of the same origin without a worker

    def call(kind, image=None, **options):
        return page.evaluate(ASK, [kind, None if image is None else as_png(image), options])

    call("load")
    yield call
    page.close()


def bytes_of(classifier, detector, image, face):
    """The input and output bytes of the network for a detected face."""
    contract = classifier.contract
    crop = crop_face(image, face.box_px, detector.name, contract.crop, face.eyes_px)
    pixels = to_rgb(preprocess_face(crop, contract.image_size, contract.crop.training_resolution_px))
    classifier.predict(pixels)
    details = classifier.interpreter.get_output_details()[0]
    return pixels.ravel().tolist(), classifier.interpreter.get_tensor(details["index"])[0].tolist()


def test_images_get_the_boxes_and_bytes_of_fer_edge_run(ask, detector, classifier):
    rng = np.random.default_rng(0)
    faces = tilted = 0
    for number in range(IMAGES):
        image = draw_scene(rng, SIZES[number % 3])
        expected = detector.detect(image, max(MIN_FACE_PX, round(min(image.shape[:2]) / 16)))
        found = ask("still", image, keepBytes=True)["faces"]
        assert [tuple(face["box"]) for face in found] == [face.box_px for face in expected], number
        for face, right in zip(found, expected, strict=True):
            assert (face["input"], face["output"]) == bytes_of(classifier, detector, image, right), number
            tilted += 5 <= abs(roll_degrees(right.eyes_px)) <= 45
        faces += len(expected)
    print(f"{IMAGES} images, {faces} faces, {tilted} of them tilted: equal")
    assert faces >= 1.6 * IMAGES
    assert tilted >= 0.3 * IMAGES


def test_frames_get_the_numbers_and_smoothed_labels_of_fer_edge_run(ask, detector, classifier):
    rng = np.random.default_rng(1)
    scene = draw_scene(rng, (480, 360))
    tracker, smoother, previous = Tracker(), Smoother(Smoothing(), classifier.contract.unsure_threshold), None
    for step in range(8):
        image = np.roll(scene, 4 * step, axis=1)
        detections = detector.detect(image, max(MIN_FACE_PX, round(360 / 8)), previous)
        expected = []
        for face, tracked in zip(detections, tracker.update(detections, None), strict=True):
            crop = crop_face(image, face.box_px, detector.name, classifier.contract.crop, face.eyes_px)
            (prediction,) = classifier.predict(crop)
            smoothed = smoother.update(tracked.number, prediction, step / 10)
            expected.append((tracked.number, face.box_px, smoothed.label, pytest.approx(smoothed.probabilities, abs=1e-6)))
        previous = tracker.boxes
        found = ask("frame", image, time=step / 10)["faces"]
        assert [(face["number"], tuple(face["box"]), face["label"], face["probabilities"]) for face in found] == expected
        assert len(expected) == 2
