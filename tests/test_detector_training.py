"""Annotations, packed sources and drawn scenes of a detector's training. No Keras."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fer_edge.artifacts.detection_scores import match, scores
from fer_edge.artifacts.detector_contract import BASE_SIDE_PX, DataSource
from fer_edge.artifacts.detector_run import SceneMix
from fer_edge.artifacts.face_annotations import (
    AnnotatedFace,
    AnnotatedImage,
    FaceAnnotations,
    read_annotations,
    write_annotations,
)
from fer_edge.edge_runtime.detectors.decode import decode
from fer_edge.edge_runtime.images import write_image
from fer_edge.train.dataset import DataError
from fer_edge.train.detector.drawing import Placement, map_points, warp_matrix
from fer_edge.train.detector.fit import all_data
from fer_edge.train.detector.mine import letterbox, mine
from fer_edge.train.detector.read_annotations import load_annotations
from fer_edge.train.detector.scenes import SceneArtist, profiles_of
from fer_edge.train.detector.sources import ROLES, SourceOption, load_sources, pack_sources
from fer_edge.train.detector.stream import read_hard, scene_targets
from fer_edge.train.detector.targets import (
    BOX_WEIGHT,
    EYE_WEIGHT,
    HEAT,
    HEAT_WEIGHT,
    draw_targets,
    flip_targets,
)

SIZE = (128, 160)
WHOLE = (0, 0, 160, 128)
NO_BOXES = np.empty((0, 4), np.float32)


def face_row(x, y, side):
    """A face of draw_targets, with eyes a fifth of the side from its center."""
    return [x, y, side, x - 0.2 * side, y - 0.1 * side, x + 0.2 * side, y - 0.1 * side]


def test_annotations_survive_the_file_and_a_box_outside_the_image_is_rejected(tmp_path):
    face = AnnotatedFace((1.5, 2.0, 30.0, 30.0), (8.0, 9.0, 20.0, 9.0))
    image = AnnotatedImage("a.jpg", 100, 80, (face,), ((50.0, 5.0, 9.0, 9.0),))
    annotations = FaceAnnotations("photos", "CC0-1.0", ("haar",), (image,))
    write_annotations(tmp_path / "faces.json", annotations)
    assert read_annotations(tmp_path / "faces.json") == annotations
    outside = AnnotatedImage("a.jpg", 100, 80, (AnnotatedFace((100, 0, 10, 10)),))
    with pytest.raises(ValueError, match=r"overlap its image \(a.jpg, 100x80 pixels\). Received: 100, 0, 10, 10"):
        FaceAnnotations("photos", "CC0-1.0", (), (outside,))


def test_wider_face_files_are_read_and_unusable_faces_ignored(tmp_path):
    path = tmp_path / "wider_face_train_bbx_gt.txt"
    path.write_text(
        "0--Parade/a.jpg\n2\n10 20 30 50 0 0 0 0 0 0\n60 5 20 20 2 0 0 1 0 0\n0--Parade/b.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n"
    )
    sizes = {"WIDER_train/images/0--Parade/a.jpg": (200, 100), "WIDER_train/images/0--Parade/b.jpg": (50, 50)}
    first, second = load_annotations(path, sizes).images
    assert first.faces == (AnnotatedFace((5.0, 25.0, 40.0, 40.0)),)
    assert first.ignore_px == ((60.0, 5.0, 20.0, 20.0),)
    assert (second.name, second.faces) == ("WIDER_train/images/0--Parade/b.jpg", ())


def coco(annotations, category="face"):
    return {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 200, "height": 100}],
        "categories": [{"id": 1, "name": category}],
        "annotations": annotations,
        "licenses": [{"id": 4, "name": "Attribution License"}],
    }


def test_coco_files_are_read(tmp_path):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(coco([{"id": 1, "image_id": 7, "category_id": 1, "bbox": [10, 20, 30, 30]}])))
    annotations = load_annotations(path, {"a.jpg": (200, 100)})
    assert annotations.images[0].faces == (AnnotatedFace((10.0, 20.0, 30.0, 30.0)),)
    assert annotations.license == "Attribution License"


def test_the_eyes_of_a_coco_person_make_a_face_and_a_person_without_eyes_is_ignored(tmp_path):
    person = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 60, 90]}
    eyes = [30, 25, 2, 34, 20, 2, 26, 20, 2]  # nose, left eye (right in the image), right eye
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(coco([{**person, "keypoints": eyes}, {**person, "keypoints": [0] * 9}], "person")))
    (image,) = load_annotations(path, {"a.jpg": (200, 100)}).images
    assert image.faces[0].eyes_px == (26.0, 20.0, 34.0, 20.0)
    assert image.faces[0].box_px == pytest.approx((20.0, 12.4, 20.0, 20.0))
    assert image.ignore_px == ((0.0, 0.0, 60.0, 90.0),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (coco([]), "has no boxes of faces"),
        (coco([{"id": 3, "image_id": 7, "category_id": 1}]), "annotation 3 has no box"),
        (coco([{"id": 1, "image_id": 7, "category_id": 1, "bbox": [500, 0, 9, 9]}]), "overlap its image"),
        (coco([], "dog"), "no category 'face' or 'person'; it has: dog"),
        ({"any": 1}, "FaceAnnotations lacks 'images'"),
        ([], "must be an object"),
    ],
)
def test_unusable_annotations_are_errors(tmp_path, content, message):
    path = tmp_path / "faces.json"
    path.write_text(json.dumps(content))
    with pytest.raises((DataError, ValueError), match=message):
        load_annotations(path, {"a.jpg": (200, 100)})


def test_the_maps_of_a_face_decode_to_the_same_face():
    face = face_row(70.0, 52.0, 40.0)
    (target,) = draw_targets(np.array([face], np.float32), NO_BOXES, WHOLE, SIZE, (8,))
    logits = np.where(target[..., HEAT] >= 0.999, 5.0, -5.0)[..., None]
    found = decode([logits], [target[..., 4:]], (8,), 0.0)
    assert found.boxes == pytest.approx(np.array([[50.0, 32.0, 40.0, 40.0]]), abs=0.01)
    assert found.eyes == pytest.approx(np.array([face[3:]]), abs=0.01)


def test_each_face_belongs_to_the_stride_of_its_size():
    faces = np.array([face_row(40, 60, 30.0), face_row(110, 60, 64.0)], np.float32)
    fine, coarse = draw_targets(faces, NO_BOXES, WHOLE, SIZE, (8, 16))
    assert (fine[..., HEAT].max(axis=(0, 1)), coarse[..., HEAT].max(axis=(0, 1))) == (1.0, 1.0)
    row, column = np.argwhere(coarse[..., HEAT] == 1)[0]
    assert coarse[row, column, 4 + 2] == pytest.approx(np.log(64 / BASE_SIDE_PX))
    assert fine[7, 13, HEAT_WEIGHT] == 0  # the large face is neither face nor background for the fine map


def test_cells_of_ignored_regions_and_of_faces_outside_the_scene_have_no_weight():
    outside = face_row(-10.0, 64.0, 40.0)  # a quarter of it is visible
    region = np.array([[80, 40, 24, 24]], np.float32)
    (target,) = draw_targets(np.array([outside], np.float32), region, WHOLE, SIZE, (8,))
    weight = target[..., HEAT_WEIGHT]
    assert (weight[6, 11], weight[8, 0], weight[2, 15]) == (0, 0, 1)
    assert target[..., HEAT].max() == 0


def test_the_eyes_of_a_tiny_face_or_a_face_without_eyes_are_not_learned():
    rows = np.array([face_row(40, 64, 11.0), [110, 64, 30, *[np.nan] * 4]], np.float32)
    (target,) = draw_targets(rows, NO_BOXES, WHOLE, SIZE, (8,))
    assert target[..., BOX_WEIGHT].max() == 1
    assert target[..., EYE_WEIGHT].max() == 0
    assert np.isfinite(target).all()


def test_mirrored_maps_are_those_of_the_mirrored_face():
    face = face_row(45.0, 52.0, 40.0)
    mirrored = [160 - face[0], face[1], face[2], 160 - face[5], face[6], 160 - face[3], face[4]]
    (target,) = draw_targets(np.array([face], np.float32), NO_BOXES, WHOLE, SIZE, (8,))
    (expected,) = draw_targets(np.array([mirrored], np.float32), NO_BOXES, WHOLE, SIZE, (8,))
    assert flip_targets(target) == pytest.approx(expected, abs=1e-5)


def test_a_box_is_mapped_to_its_placement():
    matrix = warp_matrix(np.array([10, 20, 40, 40], np.float32), Placement(100, 50, 80, angle=np.pi / 2))
    points = map_points(np.array([[30, 40], [50, 40]], np.float32), matrix)  # the center, and the middle of the right edge
    assert points == pytest.approx(np.array([[100, 50], [100, 90]]))


@pytest.fixture
def packed(tmp_path):
    """Sources with 30 drawn heads, 30 crops, 10 photos and 30 backgrounds."""
    rng = np.random.default_rng(3)
    for role in ("heads", "crops", "photos", "walls"):
        (tmp_path / role).mkdir()
    images = []
    for number in range(30):
        write_image(tmp_path / "heads" / f"{number}.png", rng.integers(0, 256, (60, 60), dtype=np.uint8))
        write_image(tmp_path / "crops" / f"Training_{number}.png", rng.integers(0, 256, (48, 48), dtype=np.uint8))
        write_image(tmp_path / "walls" / f"{number}.png", rng.integers(0, 256, (90, 120), dtype=np.uint8))
        images.append(AnnotatedImage(f"{number}.png", 60, 60, (AnnotatedFace((10, 10, 40, 40), (20, 25, 40, 25)),)))
    write_image(tmp_path / "crops" / "PublicTest_1.png", rng.integers(0, 256, (48, 48), dtype=np.uint8))
    photos = []
    for number in range(10):
        write_image(tmp_path / "photos" / f"{number}.png", rng.integers(0, 256, (480, 960), dtype=np.uint8))
        faces = (AnnotatedFace((100, 100, 80, 80)), AnnotatedFace((600, 200, 40, 40)))
        photos.append(AnnotatedImage(f"{number}.png", 960, 480, faces, ((300.0, 300.0, 50.0, 50.0),)))
    write_annotations(tmp_path / "heads" / "faces.json", FaceAnnotations("heads", "CC0-1.0", ("haar",), tuple(images)))
    write_annotations(tmp_path / "photos" / "faces.json", FaceAnnotations("photos", "CC-BY", (), tuple(photos)))
    options = [
        SourceOption.parse(f"{role}={tmp_path / folder}")
        for role, folder in (("portraits", "heads"), ("faces", "crops"), ("photos", "photos"), ("backgrounds", "walls"))
    ]
    return pack_sources(options, tmp_path / "packed", {str(tmp_path / "crops"): "MIT"}), tmp_path


def test_sources_keep_licenses_and_teachers_and_leave_out_test_images(packed):
    sources, folder = packed
    found = [(entry.name, entry.role, entry.images, entry.license, entry.teachers) for entry in sources.data]
    assert found == [
        ("heads", "portraits", 30, "CC0-1.0", ("haar",)),
        ("crops", "faces", 30, "MIT", ()),
        ("photos", "photos", 10, "CC-BY", ()),
        ("walls", "backgrounds", 30, "not stated", ()),
    ]
    assert load_sources(folder / "packed").pixels.sum() == sources.pixels.sum()


def test_a_photo_is_packed_smaller_with_its_boxes(packed):
    sources, _ = packed
    index = int(sources.indices("photos", False)[0])
    assert tuple(sources.sizes[index]) == (400, 800)
    np.testing.assert_allclose(sources.faces_of(index)[:, :4], np.array([[100, 100, 80, 80], [600, 200, 40, 40]]) / 1.2)
    np.testing.assert_allclose(sources.ignored_of(index), np.array([[300, 300, 50, 50]]) / 1.2)


def test_training_and_validation_share_no_image(packed):
    sources, _ = packed
    training, validation = sources.indices("portraits", False), sources.indices("portraits", True)
    assert not set(training) & set(validation)
    assert len(training) + len(validation) == 30


WIDE, NARROW = (30.0, 40.0, 62.0, 40.0), (30.0, 40.0, 40.0, 40.0)  # eyes of a face of 80 pixels


def test_faces_turned_sideways_are_drawn_more_often(tmp_path):
    rng = np.random.default_rng(2)
    for role in ("photos", "walls"):
        (tmp_path / role).mkdir()
        for number in range(3):
            write_image(tmp_path / role / f"{number}.png", rng.integers(0, 256, (480, 640), dtype=np.uint8))
    faces = [AnnotatedFace((20, 20, 80, 80), WIDE)] * 9 + [
        AnnotatedFace((400, 300, 80, 80), NARROW),
        AnnotatedFace((9, 9, 80, 80)),
    ]
    photos = tuple(AnnotatedImage(f"{number}.png", 640, 480, tuple(faces)) for number in range(3))
    write_annotations(tmp_path / "photos" / "faces.json", FaceAnnotations("photos", "CC-BY", (), photos))
    options = [SourceOption("photos", tmp_path / "photos"), SourceOption("backgrounds", tmp_path / "walls")]
    sources = pack_sources(options, tmp_path / "packed", {})
    training = sources.indices("photos", False)
    assert profiles_of(sources, training).tolist() == [[index, 9] for index in training]
    artist = SceneArtist(sources, SIZE, mix=SceneMix(0, 1, 0))
    chosen = []
    for _ in range(200):
        boxes = np.array([face[:2] for face in artist.draw(rng).faces])
        middle = np.abs(boxes - [SIZE[1] / 2, SIZE[0] / 2]).sum(axis=1)
        chosen.append(int(middle.argmin()) == 9)
    assert np.mean(chosen) > 0.25  # 1 of 11 faces


@pytest.mark.parametrize("mix", [SceneMix(1, 0, 0), SceneMix(0, 1, 0), SceneMix(0, 0, 1), SceneMix(0, 0, 0)])
def test_scenes_have_finite_targets_and_repeat_with_the_seed(packed, mix):
    sources, _ = packed
    artist = SceneArtist(sources, SIZE, mix=mix)
    first, second = ([artist.draw(rng) for _ in range(8)] for rng in (np.random.default_rng(5), np.random.default_rng(5)))
    faces = 0
    for scene, again in zip(first, second, strict=True):
        assert scene.image.dtype == np.uint8
        assert (scene.image == again.image).all()
        (target,) = scene_targets(scene, SIZE, (8,))
        assert np.isfinite(target).all()
        faces += int((target[..., HEAT] >= 0.999).sum())
    assert faces >= 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dogs=x", "takes ROLE=PATH with the role photos, portraits, faces, backgrounds, garments. Received: 'dogs=x'"),
        ("photos", "Received: 'photos'"),
    ],
)
def test_a_wrong_source_is_an_error(text, message):
    with pytest.raises(ValueError, match=message):
        SourceOption.parse(text)


def test_missing_annotations_and_missing_backgrounds_are_errors(packed, tmp_path):
    options = [SourceOption.parse(f"photos={tmp_path / 'walls'}")]
    with pytest.raises(FileNotFoundError, match=r"no annotations .*fer-edge dev annotate"):
        pack_sources(options, tmp_path / "x", {})
    options = [SourceOption.parse(f"faces={tmp_path / 'crops'}")]
    with pytest.raises(DataError, match="a detector needs faces and images without faces"):
        pack_sources(options, tmp_path / "x", {})


def test_candidates_are_counted_once_per_face_and_not_in_ignored_regions():
    faces = np.array([[50, 50, 40], [120, 50, 6]], np.float32)  # the second face is too small to count
    boxes = np.array([[30, 30, 40, 40], [32, 30, 40, 40], [0, 100, 20, 20], [117, 47, 6, 6], [90, 90, 30, 30]], float)
    found = match(boxes, np.array([3.0, 2.0, 1.5, 1.0, 0.5]), faces, np.array([[0, 95, 30, 30]], float))
    assert found.true.tolist() == [True, False, False, True, False]
    assert found.counted.tolist() == [True, True, False, False, True]
    result = scores([found], 0.0)
    assert (result.found, result.false_per_image, result.iou) == (1.0, 2.0, 1.0)
    assert scores([found], 2.5).false_per_image == 0.0


def test_false_detections_in_photos_are_mined_away_from_faces(packed):
    sources, folder = packed
    photo = int(sources.indices("photos", False)[0])
    only = replace(sources, roles=np.full_like(sources.roles, ROLES.index("portraits")))
    only.roles[photo] = ROLES.index("photos")

    def finds(row, column):
        def predict(images):
            heat = np.full((len(images), 16, 20, 1), -9.0)
            heat[0, row, column] = 3.0  # in the look at the whole photo, 160x80 pixels below 24 rows of black
            geometry = np.zeros((len(images), 16, 20, 7))
            geometry[..., 2] = -1  # a box of 11.8 pixels, 59 of the photo
            return [heat, geometry]

        return predict

    assert mine(finds(6, 12), only, folder, SIZE, (8,)) == 0  # on the second face
    assert mine(finds(10, 8), only, folder, SIZE, (8,)) == 0  # next to the region to ignore
    only.ignored[:] = 0
    assert mine(finds(10, 8), only, folder, SIZE, (8,)) == 1
    (hard,) = read_hard(folder)
    assert hard.shape == (129, 129)


def test_an_image_is_fitted_into_the_input():
    boxed, scale, left, top = letterbox(np.full((100, 100), 200, np.uint8), SIZE)
    assert (scale, left, top) == (1.28, 16, 0)
    assert (boxed[:, :16].max(), boxed[64, 80], boxed[:, -16:].max()) == (0, 200, 0)


def test_a_resumed_training_lists_each_source_once():
    def source(name, images, role="photos"):
        return DataSource(name, role, images, "CC0-1.0", ())

    earlier = (source("a", 5), source("b", 6))
    current = (source("a", 7), source("a", 1, "backgrounds"))
    assert all_data(earlier, current) == (source("b", 6), source("a", 7), source("a", 1, "backgrounds"))
    assert all_data((), (source("a", 7), source("a", 8))) == (source("a", 7), source("a", 8))  # two folders of one name
