"""fer-edge personalize: class folders, a camera that asks for expressions, and run --person."""

import json
import threading
import time

import numpy as np
import pytest
from conftest import json_lines
from live import FakeClassifier, FakeDetector, FakeSource, frame

from fer_edge.benchmarks.personalization import SequenceFrame, change_over_cameras, measure_camera
from fer_edge.edge_runtime.cameras.camera import CameraError
from fer_edge.edge_runtime.classify import Classifier
from fer_edge.edge_runtime.images import write_image
from fer_edge.edge_runtime.live.pipeline import Pipeline, PipelineSettings
from fer_edge.edge_runtime.live.smoothing import NO_SMOOTHING
from fer_edge.edge_runtime.live.takes import CameraWatch, TakesError, Timing, takes_from_camera
from fer_edge.edge_runtime.personal.correction import LeaveOneOut
from fer_edge.edge_runtime.personal.people import Person, people_folder, person_names, read_person, write_person
from fer_edge.train.synthetic import synthetic_image

SHORT = Timing(prepare_s=1.0, film_s=1.0, rounds=2)


@pytest.fixture(autouse=True)
def config_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def store(int8_model, offsets, name="anna"):
    """Store a person with the given offsets by label."""
    classifier = Classifier(int8_model)
    values = tuple(offsets.get(label, 0.0) for label in classifier.labels)
    evaluation = LeaveOneOut(0.5, 0.75, -1.0, -0.8)
    write_person(Person(name, classifier.model.name, classifier.sha256, classifier.labels, values, {"happy": 2}, evaluation))


@pytest.fixture
def scene(tmp_path):
    path = tmp_path / "scene.png"
    write_image(path, synthetic_image("happy", seed=1))
    return path


def test_run_person_changes_the_labels_of_a_drawn_scene(invoke, int8_model, scene):
    def labels(*options):
        (line,) = json_lines(invoke("run", scene, "--model", int8_model, "--detector", "haar", "--json", *options).stdout)
        return [face["label"] for face in line["faces"]]

    (plain,) = labels()
    other = "angry" if plain != "angry" else "sad"
    store(int8_model, {other: 12.0})
    assert labels("--person", "anna") == [other]
    assert labels() == [plain]


def test_classifier_applies_the_offsets_to_the_probabilities(int8_model):
    face = synthetic_image("happy", seed=1)[:48, :48].copy()
    plain = Classifier(int8_model)
    store(int8_model, dict(zip(plain.labels, np.linspace(-1, 1, len(plain.labels)), strict=True)))
    corrected = Classifier(int8_model, person="anna")
    weights = np.maximum(plain.probabilities(face), 1 / 512) * np.exp(np.linspace(-1, 1, len(plain.labels)))
    assert corrected.probabilities(face) == pytest.approx(weights / weights.sum(), abs=1e-6)
    assert corrected.predict(face)[0].label == plain.labels[int(weights.argmax())]


def class_folders(root, labels, seeds=(1, 2)):
    for label in labels:
        for seed in seeds:
            write_image(root / label / f"{seed}.png", synthetic_image(label, seed=seed))
    return root


def test_a_folder_that_cannot_be_written_is_reported_before_the_filming(error_of, int8_model, tmp_path):
    (tmp_path / "config").write_text("a file")
    message = error_of("personalize", "anna", "--from", tmp_path / "none", "--model", int8_model)
    assert f"'{tmp_path / 'config'}' is not a folder" in message


def test_class_folders_are_fitted_and_stored(invoke, int8_model, tmp_path):
    folder = class_folders(tmp_path / "anna", ("happy", "angry"))
    (folder / "happy").rename(folder / "Happiness")  # a synonym
    class_folders(folder, ("surprise",), (1,))
    (folder / "surprise").rename(folder / "bored")
    result = invoke("personalize", "anna", "--from", folder, "--model", int8_model, "--detector", "haar")
    assert result.exit_code == 0, result.stderr
    assert "'bored' is not a label of" in result.stderr
    assert "no images of contempt, disgust, " in result.stderr
    assert "leave-one-out on 4 images or takes: " in result.stdout
    assert f"stored: {people_folder() / 'anna.json'}" in result.stdout
    assert read_person("anna").takes == {"angry": 2, "happy": 2}
    again = invoke("personalize", "anna", "--from", folder, "--model", int8_model, "--detector", "haar")
    assert "replaced: " in again.stdout


def test_wrong_folders_are_reported_and_nothing_is_stored(error_of, int8_model, tmp_path):
    def error(folder, *options):
        return error_of("personalize", "anna", "--from", folder, "--model", int8_model, "--detector", "haar", *options)

    assert "no folder '" in error(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    assert "has no images for the labels angry" in error(tmp_path / "empty")
    one = class_folders(tmp_path / "one", ("happy",), (1,))
    assert "at least 2 different expressions. Received: 1 of happy" in error(one)
    write_image(one / "sad" / "wall.png", np.full((200, 200, 3), 90, np.uint8))
    assert "wall.png'. Remove the image" in error(one)
    (one / "sad" / "wall.png").write_bytes(b"not an image")
    assert "cannot decode the image" in error(one)
    assert "a person's name has 1 to 40 letters" in error_of("personalize", "../x", "--from", one)
    assert not people_folder().exists()


def test_another_model_is_rejected(error_of, int8_model, scene):
    store(int8_model, {})
    message = error_of("run", scene, "--person", "anna", "--model", "mobilenet_v2")
    assert "the personal file of 'anna' is from another model" in message
    assert "no personal file of 'bob'. Stored: anna" in error_of("run", scene, "--person", "bob", "--model", int8_model)


def test_people_are_listed_and_deleted(invoke, error_of, int8_model):
    assert "no people in" in invoke("personalize", "--list").stderr
    store(int8_model, {})
    store(int8_model, {}, "bob")
    assert [line.split()[0] for line in invoke("personalize", "--list").stdout.splitlines()[2:]] == ["anna", "bob"]
    assert [person["name"] for person in json.loads(invoke("personalize", "--list", "--json").stdout)] == ["anna", "bob"]
    (people_folder() / "bob.json").write_text("{")
    assert "bob.json is damaged" in invoke("personalize", "--list").stderr
    assert invoke("personalize", "--delete", "bob").stdout == "deleted: bob\n"
    assert person_names() == ["anna"]
    assert "no personal file of 'bob'. Stored: anna" in error_of("personalize", "--delete", "bob")
    assert "NAME is missing" in invoke("personalize").stderr


def test_a_file_is_not_a_camera(error_of, int8_model, scene):
    message = error_of("personalize", "anna", scene, "--model", int8_model)
    assert f"'{scene}' is not a camera. Name a camera, or pass class folders: --from {scene}" in message


def filmed(frames, boxes=((10, 10, 40, 40),)):
    """Take the expressions of angry, happy, sad from a scripted camera; return the takes and the prompts."""
    detector = FakeDetector()
    detector.boxes = boxes
    watch = CameraWatch()
    settings = PipelineSettings(smoothing=NO_SMOOTHING, every_frame=True)
    source = FakeSource(frames, live=True)
    pipeline = watch.pipeline = Pipeline(source, detector, FakeClassifier(), settings, watch.on_message)
    prompts = []
    with pipeline:
        return takes_from_camera(pipeline, watch, prompts.append, timing=SHORT), prompts


def seconds(count, value=lambda second: 128):
    """Frames of a camera with 5 frames per second."""
    return [frame(number, value(number / 5), capture_time_s=number / 5) for number in range(5 * count)]


def test_a_camera_films_each_expression_in_two_rounds():
    takes, prompts = filmed(seconds(20, lambda second: 200 if second < 7 else 50))
    assert [take.label for take in takes] == ["angry", "happy", "sad"] * 2
    assert prompts[:3] == ["angry (1 of 6): show it in 1 s", "angry (1 of 6): hold it", "happy (2 of 6): show it in 1 s"]
    assert prompts[-2:] == ["sad (6 of 6): hold it", "done"]
    # The fake model returns the brightness as the probability of happy.
    assert takes[0].log_probabilities[1] == pytest.approx(np.log(200 / 255))
    assert takes[5].log_probabilities[1] == pytest.approx(np.log(50 / 255))


def test_a_camera_that_ends_early_is_reported():
    with pytest.raises(CameraError, match=r"lost before all expressions were filmed .it ended.. Nothing was stored"):
        filmed(seconds(5))


def test_a_camera_without_a_face_is_asked_again_and_then_reported():
    with pytest.raises(TakesError, match=r"no face seen while .angry. was filmed, in 3 attempts\. Nothing was stored"):
        filmed(seconds(20), boxes=())


class LostCamera:
    """Delivers a second of frames, reports a loss, and then waits like a camera that is unplugged."""

    name, live = "camera", True

    def frames(self, stop, on_message=None):
        yield from seconds(1)
        on_message("camera is lost (it delivers no more frames); trying again in 0.5 s")
        stop.wait(20)


def test_a_camera_that_disconnects_ends_the_personalization_at_once():
    watch = CameraWatch()
    settings = PipelineSettings(smoothing=NO_SMOOTHING, every_frame=True)
    pipeline = watch.pipeline = Pipeline(LostCamera(), FakeDetector(), FakeClassifier(), settings, watch.on_message)
    start_s = time.monotonic()
    with pipeline, pytest.raises(CameraError, match=r"lost before .* \(camera is lost \(it delivers no more frames\)\)"):
        takes_from_camera(pipeline, watch, lambda text: None, timing=SHORT)
    assert time.monotonic() - start_s < 10
    assert threading.active_count() >= 1


def test_the_preview_page_gets_the_notice(preview):
    preview.notice = "happy (1 of 16): hold it"
    assert preview._state_data()["notice"] == "happy (1 of 16): hold it"


def simulated(labels=("angry", "happy", "sad")):
    """Two subjects; each face of an expression is a flat gray of its own level."""
    return [
        SequenceFrame(subject, f"{number:03}", label, np.full((48, 48), 60 * (number + 1), np.uint8))
        for subject in ("S1", "S2")
        for number, label in enumerate(labels)
        for _ in range(3)
    ]


def test_the_benchmark_measures_persons_under_each_camera(int8_model):
    classifier = Classifier(int8_model)
    results = [measure_camera(simulated(), camera, classifier, draws=1) for camera in ("as recorded", "dark")]
    for result in results:
        assert set(result.change_by_person) == {"S1", "S2"}
        change = np.mean([*result.change_by_person.values()])
        assert result.accuracy_after - result.accuracy_before == pytest.approx(change, abs=1e-3)
    mean = np.mean([result.change_by_person["S1"] for result in results])
    assert change_over_cameras(results)["S1"] == pytest.approx(mean)
