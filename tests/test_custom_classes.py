"""From whole photos with classes of the user's own to a labeled video, with the commands of the README."""

import keras
import numpy as np
import pytest
from conftest import json_lines

from fer_edge.artifacts.contract import read_contract
from fer_edge.artifacts.run_folder import read_run_record
from fer_edge.edge_runtime.cameras.files import read_frames
from fer_edge.edge_runtime.images import import_cv2, write_image
from fer_edge.train.synthetic import synthetic_image

CLASSES = {"happy": "very pleased", "sad": "gelangweilt", "surprise": "驚いた"}
LABELS = ("gelangweilt", "very pleased", "驚いた")
SIZE = (320, 200)  # oblong: a photo, not a crop


def draw(expression, seed):
    return synthetic_image(expression, seed, *SIZE, face_side=120)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "my_photos"
    for expression, label in CLASSES.items():
        for seed in range(26):
            write_image(root / label / f"{seed:02d}.png", draw(expression, seed))
    return root


def write_video(path, frames=12):
    cv2 = import_cv2()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, SIZE)
    for _ in range(frames):
        writer.write(draw("happy", 106)[:, :, ::-1])
    writer.release()


def test_photos_with_own_classes_become_an_int8_file_that_labels_a_video(photos, tmp_path, invoke):
    assert keras.backend.backend() == "tensorflow"
    runs, saved = tmp_path / "runs", tmp_path / "labeled"
    options = ("--epochs", 2, "--set", "batch_size=16", "--set", "ema_momentum=0", "--detector", "haar")
    trained = invoke("train", "cnn_nano", "--data", photos, "--out", runs, *options)
    assert trained.exit_code == 0, trained.output
    assert "only 3 classes" in trained.stderr
    assert "by the detector haar" in trained.stderr
    (run,) = runs.iterdir()
    record = read_run_record(run)
    assert record.labels == LABELS
    assert record.crop.convention == "haar"

    anything = ("--max-accuracy-drop", 100, "--max-recall-drop", 100, "--min-agreement", 0)
    converted = invoke("convert", "--int8", "--runs", runs, *anything)
    assert converted.exit_code == 0, converted.output
    (model,) = run.glob("*.tflite")
    contract = read_contract(model)
    assert contract.labels == LABELS
    assert contract.crop.box_transforms["haar"] == record.crop.box_transforms["haar"]
    assert contract.crop.training_resolution_px == record.crop.training_resolution_px

    write_video(tmp_path / "clip.mp4")
    video = invoke("run", tmp_path / "clip.mp4", "--model", model, "--detector", "haar", "--save", saved, "--json")
    assert video.exit_code == 0, video.output
    faces = [face for line in json_lines(video.stdout) for face in line["faces"]]
    assert len(faces) == 12
    assert {tuple(face["probabilities"]) for face in faces} == {LABELS}
    assert "'驚いた' as #3" in video.stderr
    original, labeled = (list(read_frames(path)) for path in (tmp_path / "clip.mp4", next(saved.rglob("*.mp4"))))
    assert len(labeled) == 12
    assert all(np.abs(a.image.astype(int) - b.image).max() > 100 for a, b in zip(original, labeled, strict=True))

    evaluated = invoke("evaluate", run, model, "--data", photos, "--detector", "haar")
    assert evaluated.exit_code == 0, evaluated.output
    assert "seen" not in evaluated.stderr  # the same crops, so the split of the training
    assert evaluated.stderr.count("faces cut out of") == 1
