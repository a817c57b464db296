"""The function ``fer_edge.analyze`` with real models, and the images that it takes."""

import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import json_lines
from live import FakeClassifier, FakeDetector, flat_image

import fer_edge
from fer_edge.artifacts.contract import ModelError
from fer_edge.edge_runtime.cameras.image_frame import to_frame
from fer_edge.edge_runtime.images import import_cv2, read_image, write_image
from fer_edge.edge_runtime.live import analyze as module
from fer_edge.edge_runtime.personal.correction import LeaveOneOut
from fer_edge.edge_runtime.personal.people import Person, write_person
from fer_edge.train.synthetic import synthetic_image

ORIENTATION_TAG = 0x0112
QUARTER_TURN = 6  # shown after a turn of 90 degrees clockwise


@pytest.fixture(autouse=True)
def nothing_loaded():
    module._load_once.cache_clear()


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A PNG with two faces, one of them smaller."""
    scene = np.full((240, 560, 3), 255, np.uint8)
    scene[:, :320] = synthetic_image("happy", seed=1)[::2, ::2]
    scene[30:210, 320:] = import_cv2().resize(synthetic_image("surprise", seed=4), (240, 180))
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    write_image(path, scene)
    return path


@pytest.fixture
def fakes(monkeypatch):
    """Count how often a model is loaded; it labels a face by its brightness."""
    loaded = []

    def load(path, person=None):
        loaded.append(path.name)
        return FakeClassifier()

    monkeypatch.setattr(module, "load_classifier", load)
    monkeypatch.setattr(module, "open_detector", lambda name, min_score=None: FakeDetector())
    return loaded


def test_analyze_returns_the_faces_of_run(photo, int8_model, invoke):
    faces = fer_edge.analyze(photo, int8_model, detector="haar")
    (line,) = json_lines(invoke("run", photo, "--model", int8_model, "--detector", "haar", "--json").stdout)
    assert [face.as_dict() for face in faces] == line["faces"]
    large, small = faces
    assert large.box_px[0] < 320 < small.box_px[0]
    assert set(large.probabilities) == set(fer_edge.Classifier(int8_model).labels)


def test_a_path_bytes_and_arrays_of_the_same_image_give_the_same_faces(photo, int8_model):
    rgb = read_image(photo)
    bgr = np.ascontiguousarray(rgb[:, :, ::-1])
    before = bgr.copy()
    call = partial(fer_edge.analyze, model=int8_model, detector="haar")
    inputs = [photo, str(photo), photo.read_bytes(), bytearray(photo.read_bytes()), rgb, bgr[:, :, ::-1]]
    results = call(inputs)
    assert len(results[0]) == 2
    assert results == [results[0]] * len(inputs)
    assert call(bgr, bgr=True) == call((bgr,), bgr=True)[0] == results[0]
    assert [face.label for face in call(rgb[:, :, 0])] == [face.label for face in results[0]]  # the drawing is gray
    assert np.array_equal(bgr, before)


def test_a_pil_image_is_turned_upright_as_its_file_is(photo, tmp_path):
    pil = pytest.importorskip("PIL.Image")
    sideways = pil.fromarray(np.rot90(read_image(photo)))
    exif = pil.Exif()
    exif[ORIENTATION_TAG] = QUARTER_TURN
    path = tmp_path / "sideways.jpg"
    sideways.save(path, exif=exif, quality=95)
    for image in (pil.open(path), path, path.read_bytes()):
        upright = to_frame(image).image
        assert upright.shape == (240, 560, 3)
        assert np.abs(upright.astype(int) - read_image(photo)).mean() < 2
    with pil.open(path) as image:
        image.fp.close()
        with pytest.raises(ValueError, match="cannot decode image, a PIL image"):
            to_frame(image)


def test_the_modes_of_pil_become_the_same_pixels():
    pil = pytest.importorskip("PIL.Image")
    gray = np.array([[0, 10, 200]], np.uint8)
    for mode in ("L", "RGB", "P", "RGBA", "LA"):
        assert to_frame(pil.fromarray(gray).convert(mode)).image[:, :, 0].tolist() == gray.tolist(), mode
    erased = pil.fromarray(np.array([[[9, 9, 9, 0], [9, 9, 9, 255]]], np.uint8), "RGBA")
    assert to_frame(erased).image.tolist() == [[[255, 255, 255], [9, 9, 9]]]


def test_a_deep_or_transparent_pil_image_has_the_pixels_of_its_file(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    deep = pil.fromarray(rng.integers(0, 4096, (9, 7), np.uint16))
    transparent = pil.fromarray(rng.integers(0, 256, (9, 7, 4), np.uint8))
    for number, image in enumerate((deep, transparent, transparent.convert("LA"))):
        path = tmp_path / f"{number}.png"
        image.save(path)
        for same in (image, pil.open(path)):
            assert np.array_equal(to_frame(same).image, read_image(path)), image.mode


def test_a_url_is_labeled_by_its_first_frame(photo, int8_model):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(photo.parent))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        faces = fer_edge.analyze(f"http://127.0.0.1:{server.server_port}/{photo.name}", int8_model, detector="haar")
        server.shutdown()
    assert faces == fer_edge.analyze(photo, int8_model, detector="haar")
    with pytest.raises(OSError, match="no video from http://127"):
        fer_edge.analyze(f"http://127.0.0.1:{server.server_port}/{photo.name}", int8_model, detector="haar")


PIXELS = flat_image(9, 8, 8)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (None, ValueError, "NoneType; cv2.imread returns None"),
        (PIXELS / 255, ValueError, r"float64 with values 0.035294 to 0.035294. Scale .*: \(image \* 255\).astype"),
        (PIXELS / 127.5 - 1, ValueError, r"Scale them to 0..255: \(\(image \+ 1\) \* 127.5\)"),
        (PIXELS.astype(np.float32), ValueError, r"float32 with values 9 to 9. Convert them: image.astype\(numpy.uint8\)"),
        (PIXELS.astype(np.int64), ValueError, r"int64 with values 9 to 9. Convert them: image.astype\(numpy.uint8\)"),
        (PIXELS.astype(np.uint16) * 257, ValueError, "uint16 with values 2313 to 2313. Scale them to 0..255"),
        (PIXELS > 0, ValueError, r"bool with values 1 to 1. Convert them: image.astype\(numpy.uint8\) \* 255"),
        (np.full((8, 8), np.nan), ValueError, "float64 with values nan to nan. Scale them"),
        (np.array([["a"]]), ValueError, "Received: <U1"),
        (PIXELS[None], ValueError, r"\(1, 8, 8, 3\), a batch. Pass a list of images: list\(images\)"),
        (PIXELS.transpose(2, 0, 1), ValueError, r"\(3, 8, 8\). Move the channels to the end: image.transpose\(1, 2, 0\)"),
        (np.zeros((8, 8, 4), np.uint8), ValueError, r"Leave out the transparency: image\[:, :, :3\]"),
        (PIXELS[:, :, :1], ValueError, r"Leave out the last axis: image\[:, :, 0\]"),
        (PIXELS[:0], ValueError, r"\(0, 8, 3\), an empty array"),
        (b"", ValueError, r"cannot decode the image 'image' \(0 bytes\)"),
        ("none.png", FileNotFoundError, "no image at 'none.png'"),
        (".", ValueError, r"'\.' is not an image file. To label a folder, a video or a camera, use fer_edge.stream"),
        ("/9j/" * 2000, ValueError, "text of 8000 characters, too long for a path. If it is base64, decode it"),
        (7, TypeError, "image must be a path, a URL, a uint8 array, .*Received: int"),
        ([PIXELS, {}], TypeError, r"images\[1\] must be a path.*Received: dict"),
        ([PIXELS, PIXELS / 255], ValueError, r"images\[1\] must be a uint8 array"),
        ([[PIXELS]], TypeError, r"Received: list"),
    ],
)
def test_an_input_that_is_not_an_image_is_rejected_with_the_remedy(fakes, bad, error, message):
    with pytest.raises(error, match=message):
        fer_edge.analyze(bad)
    assert fer_edge.analyze(PIXELS)[0].label == "angry"  # the next call works


def test_a_fifo_is_not_read(fakes, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match="is not an image file"):
        fer_edge.analyze(tmp_path / "pipe.png")


def test_stream_names_analyze_for_an_image_in_memory():
    for image in (PIXELS, b"\x89PNG", [PIXELS]):
        with pytest.raises(TypeError, match=r"Received: \w+. To label an image in memory, use fer_edge.analyze\(image\)"):
            fer_edge.stream(image)


def test_a_face_below_the_threshold_is_unsure_and_keeps_its_label(fakes):
    dark = flat_image(89)  # angry 0.391
    faces = [fer_edge.analyze(dark, min_confidence=value)[0] for value in (None, 0.3, 0.0)]
    assert [(face.label, face.unsure) for face in faces] == [("angry", True), ("angry", False), ("angry", False)]
    assert fer_edge.analyze([]) == []


def test_a_model_is_loaded_once_until_its_file_changes(fakes, tmp_path):
    names = [tmp_path / f"{number}.tflite" for number in range(module.MAX_LOADED)]
    for path in names:
        path.write_bytes(b"model")
    for path in [*names, *names]:
        fer_edge.analyze(PIXELS, path)
    assert len(fakes) == module.MAX_LOADED
    os.utime(names[0], (1, 1))
    fer_edge.analyze(PIXELS, names[0])
    assert fakes[module.MAX_LOADED :] == ["0.tflite"]
    assert module._load_once.cache_info().currsize == module.MAX_LOADED


def test_the_correction_of_a_person_is_applied_and_read_again_when_it_changes(photo, int8_model, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    classifier, evaluation = fer_edge.Classifier(int8_model), LeaveOneOut(0.5, 0.75, -1.0, -0.8)
    call = partial(fer_edge.analyze, photo, int8_model, detector="haar")
    with pytest.raises(FileNotFoundError, match="Ann"):
        call(person="Ann")
    for number, label in enumerate(("sad", "angry")):
        offsets = tuple(20.0 * (name == label) for name in classifier.labels)
        person = Person("Ann", int8_model.name, classifier.sha256, classifier.labels, offsets, {label: 1}, evaluation)
        os.utime(write_person(person), (number, number))
        assert {face.label for face in call(person="Ann")} == {label}
    assert {face.label for face in call()} != {"angry"}


def test_threads_share_a_model_and_get_the_faces_of_their_image(fakes, int8_model):
    results = {}

    def work(brightness):
        results[brightness] = [fer_edge.analyze(flat_image(brightness), int8_model)[0].probability for _ in range(10)]

    threads = [threading.Thread(target=work, args=(brightness,)) for brightness in (140, 180, 220, 255)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {key: {round(value * 255) for value in values} for key, values in results.items()} == {
        key: {key} for key in (140, 180, 220, 255)
    }
    assert fakes == [int8_model.name]


FORK = """
import os, sys
import numpy as np
import fer_edge
from fer_edge.edge_runtime import Classifier

face = np.zeros((48, 48), np.uint8)
mine = Classifier(num_threads=2)  # of the program; analyze has others
labels = [fer_edge.analyze(face, detector="none")[0].label]
child = os.fork()
if child == 0:
    labels.append(fer_edge.analyze(face, detector="none")[0].label)
    del mine
    sys.exit(3 if labels[0] == labels[1] else 4)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_labels_faces_and_ends():
    """An interpreter that is freed in a child process would wait for threads that only the parent has."""
    result = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60)
    assert result.stdout == "3\n", result.stderr


def test_a_missing_or_damaged_model_is_reported(photo, tmp_path, int8_model):
    with pytest.raises(FileNotFoundError, match=r"no model file 'none\.tflite'"):
        fer_edge.analyze(photo, "none.tflite")
    damaged = shutil.copy(int8_model, tmp_path / "damaged.tflite")
    damaged.write_bytes(damaged.read_bytes()[:5000])
    with pytest.raises(ModelError, match="truncated"):
        fer_edge.analyze(photo, damaged)
    with pytest.raises(ValueError, match="unknown detector 'hair'"):
        fer_edge.analyze(photo, int8_model, detector="hair")
