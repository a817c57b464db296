"""The camera conditions of the augmentation; test_train.py has the tests of warp, erasing and mixing."""

import re

import cv2
import keras
import numpy as np
import pytest

from fer_edge.artifacts.training_plan import Augmentation
from fer_edge.train.augment import augment, mix
from fer_edge.train.draws import StepDraws
from fer_edge.train.image_quality import (
    LEVELS,
    compress,
    cosine_matrix,
    defocus_matrix,
    motion_matrix,
    quality_matrices,
    resolution_matrix,
)
from fer_edge.train.recipes import find_recipe, override

SIDE = 48


@pytest.fixture(scope="module")
def textured():
    """64 faces of smooth blobs and some texture, float32 (64, 48, 48, 1)."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(20, 235, (64, 8, 8)).astype(np.float32)
    faces = np.stack([cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) for face in coarse])
    return np.clip(faces + rng.normal(0, 6, faces.shape), 0, 255).round().astype(np.float32)[..., None]


def changed(faces, seed=0, **settings):
    return np.asarray(augment(faces, Augmentation(**settings), StepDraws(keras.random.SeedGenerator(seed))))


MEANS = {  # measured before the camera conditions existed
    "edge": [95.162, 95.206, 132.848, 124.586, 127.638, 137.792],
    "paper": [123.109, 149.523, 136.241, 137.823, 131.265, 129.402],
}


@pytest.mark.parametrize("recipe", ["edge", "paper"])
def test_recipes_without_camera_conditions_keep_their_random_numbers(textured, recipe):
    labels = np.eye(8, dtype=np.float32)[np.arange(64) % 8]
    seed = keras.random.SeedGenerator(7)
    faces = augment(textured, find_recipe(recipe).augmentation, StepDraws(seed))
    mixed, _ = mix(faces, labels, Augmentation(mixup=0.3, cutmix=0.3), seed)
    assert np.asarray(mixed).mean(axis=(1, 2, 3))[:6] == pytest.approx(MEANS[recipe], abs=0.02)


@pytest.mark.parametrize("pixels", [6, 13, 24, 31, 47, 48])
def test_lost_resolution_equals_resizing_down_and_up(textured, pixels):
    matrix = resolution_matrix(SIDE, pixels)
    face = textured[0, ..., 0]
    small = cv2.resize(face, (pixels, pixels), interpolation=cv2.INTER_AREA)
    assert matrix @ face @ matrix.T == pytest.approx(cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), abs=0.01)


@pytest.mark.parametrize("deviation_px", [0.0, 0.7, 2.4])
def test_defocus_equals_a_gaussian_blur(textured, deviation_px):
    matrix = defocus_matrix(SIDE, deviation_px)
    face = textured[1, ..., 0]
    size = 2 * int(np.ceil(4 * deviation_px)) + 1
    blurred = cv2.GaussianBlur(face, (size, size), deviation_px, borderType=cv2.BORDER_REPLICATE) if deviation_px else face
    assert matrix @ face @ matrix.T == pytest.approx(blurred, abs=0.01)


def test_motion_averages_along_its_length():
    assert motion_matrix(SIDE, 1.0) == pytest.approx(np.eye(SIDE))
    assert motion_matrix(SIDE, 5.0)[20, 17:24] == pytest.approx([0, 0.2, 0.2, 0.2, 0.2, 0.2, 0])
    assert motion_matrix(SIDE, 4.0)[20, 17:24] == pytest.approx([0, 0.125, 0.25, 0.25, 0.25, 0.125, 0])
    assert motion_matrix(SIDE, 5.0)[0, :3] == pytest.approx([0.6, 0.2, 0.2])  # the first pixel is repeated


def test_level_zero_of_the_quality_changes_nothing_and_the_last_is_the_largest():
    matrices = quality_matrices(SIDE, Augmentation(defocus=0.05, motion_blur=0.25, resolution_loss=0.75), SIDE)
    assert matrices.shape == (2 * LEVELS * LEVELS, SIDE, SIDE)
    assert matrices[0] == pytest.approx(np.eye(SIDE))
    assert matrices[LEVELS] == pytest.approx(np.eye(SIDE))
    assert matrices[LEVELS - 1] == pytest.approx(defocus_matrix(SIDE, 2.4), abs=1e-6)
    assert matrices[2 * LEVELS - 1] == pytest.approx(motion_matrix(SIDE, 12), abs=1e-6)
    assert matrices[-2 * LEVELS] == pytest.approx(resolution_matrix(SIDE, 12), abs=1e-6)
    assert matrices.sum(axis=2) == pytest.approx(np.ones((2 * LEVELS * LEVELS, SIDE)), abs=1e-5)


@pytest.mark.parametrize(("quality", "difference"), [(15, 0.6), (50, 0.6), (90, 0.9)])
def test_compression_equals_jpeg(textured, quality, difference):
    decoded = np.asarray(compress(textured[..., 0], np.full((64, 1, 1), quality, np.float32)))
    for face, ours in zip(textured[:8, ..., 0].astype(np.uint8), decoded, strict=False):
        written = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        theirs = cv2.imdecode(written, cv2.IMREAD_GRAYSCALE).astype(np.float32)
        assert np.abs(ours - theirs).mean() < difference  # libjpeg rounds to whole numbers in between
        assert np.abs(ours - face).mean() > 1.5 * np.abs(ours - theirs).mean()


@pytest.mark.parametrize("side", [48, 75])
def test_the_cosine_transform_is_orthonormal_for_every_side(side):
    matrix = cosine_matrix(side)
    assert matrix @ matrix.T == pytest.approx(np.eye(side), abs=1e-5)
    assert not matrix[:8, 8:].any()


def test_strong_blur_leaves_less_detail_and_most_faces_stay_sharp(textured):
    detail = np.abs(np.diff(textured, axis=2)).mean(axis=(1, 2, 3))
    blurred = changed(textured, defocus=0.06, resolution_loss=0.75)
    kept = np.abs(np.diff(blurred, axis=2)).mean(axis=(1, 2, 3)) / detail
    assert kept.min() < 0.6
    assert kept.max() == pytest.approx(1, abs=1e-4)
    assert np.median(kept) > 0.75
    assert blurred.mean(axis=(1, 2, 3)) == pytest.approx(textured.mean(axis=(1, 2, 3)), abs=3)


def test_motion_spreads_a_dot_along_its_row_or_its_column():
    dot = np.zeros((200, SIDE, SIDE, 1), np.float32)
    dot[:, 20, 20] = 255
    moved = changed(dot, motion_blur=0.25)[..., 0] > 0.01
    rows, columns = moved.any(axis=2).sum(axis=1), moved.any(axis=1).sum(axis=1)
    assert (np.minimum(rows, columns) == 1).all()
    assert max(rows.max(), columns.max()) in (11, 13)  # 12 pixels
    assert 20 < (rows > 1).sum() < 80
    assert 20 < (columns > 1).sum() < 80


def test_noise_has_the_strength_of_its_setting(textured):
    gray = np.full_like(textured, 128)
    deviations = changed(gray, noise=0.1).std(axis=(1, 2, 3))
    assert deviations.max() == pytest.approx(25.5, rel=0.15)
    assert deviations.min() < 1


def test_enlarged_faces_lose_quality_as_the_small_face_does(textured):
    """A camera's face is reduced to 48 pixels and then enlarged: its noise and its blocks are enlarged as well."""
    enlarged = np.stack([cv2.resize(face, (96, 96), interpolation=cv2.INTER_LINEAR) for face in textured[..., 0]])[..., None]
    change = changed(enlarged, noise=0.05)[..., 0] - enlarged[..., 0]
    rough = np.abs(np.diff(change, axis=2)).mean() / np.abs(change).mean()
    assert rough < 0.7  # 1.41 for noise in each pixel of the enlarged face
    assert np.array_equal(quality_matrices(96, Augmentation(resolution_loss=0.5), 48)[0], np.eye(96))
    assert quality_matrices(96, Augmentation(resolution_loss=0.5), 48)[-1] == pytest.approx(resolution_matrix(96, 24), abs=1e-6)


def test_exposure_darkness_and_gamma_change_the_level_and_stay_in_range(textured):
    gray = np.full_like(textured, 100)
    exposed = changed(gray, exposure=1.0)[:, 0, 0, 0]
    assert 50 <= exposed.min() < 60
    assert 170 < exposed.max() <= 200
    darkened = changed(gray, darkness=0.8)[:, 0, 0, 0]
    assert 20 <= darkened.min() < 30
    assert np.median(darkened) > 70
    bent = changed(gray, gamma=1.0)[:, 0, 0, 0]
    assert 255 * (100 / 255) ** 2 <= bent.min() < 50
    assert 140 < bent.max() <= 255 * (100 / 255) ** 0.5
    assert changed(textured, exposure=3.0, gamma=3.0).max() <= 255.001


def test_side_light_brightens_one_side_and_darkens_the_other(textured):
    gray = np.full_like(textured, 100)
    lit = changed(gray, side_light=0.5)[..., 0]
    assert lit.mean(axis=(1, 2)) == pytest.approx(np.full(64, 100), abs=0.1)
    assert lit[:, SIDE // 2, SIDE // 2] == pytest.approx(np.full(64, 100), abs=2)
    slopes = lit[:, :, -1].mean(axis=1) - lit[:, :, 0].mean(axis=1)
    assert slopes.max() > 50
    assert slopes.min() < -50
    assert np.abs(slopes).max() <= 100.1


def test_occlusion_covers_its_share_of_the_faces(textured):
    covered = changed(textured, occlusion=0.25)
    touched = (covered != textured).any(axis=(1, 2, 3))
    assert 6 <= touched.sum() <= 28
    area = (covered != textured).mean(axis=(1, 2, 3))[touched]
    assert area.min() > 0.02
    assert area.max() < 0.6
    assert (changed(textured, occlusion=1.0) != textured).any(axis=(1, 2, 3)).all()


def test_camera_share_leaves_the_other_faces_as_they_are_without_a_camera(textured):
    faces = np.concatenate([textured] * 4)
    touched = (changed(faces, noise=0.1, exposure=0.5, camera_share=0.25) != faces).any(axis=(1, 2, 3))
    assert 40 <= touched.sum() <= 90
    assert not (changed(faces, noise=0.1, exposure=0.5, camera_share=0.0) != faces).any()
    flipped = changed(faces, flip=True, noise=0.1, camera_share=0.0)  # the other changes apply to all faces
    assert 90 <= (flipped != faces).any(axis=(1, 2, 3)).sum() <= 166


def test_the_crop_scatters_with_the_deviations_of_its_settings():
    dot = np.zeros((256, 64, 64, 1), np.float32)
    dot[:, 24:40, 24:40] = 255
    moved = changed(dot, crop_shift=0.05)[..., 0]
    rows, columns = ((moved.sum(axis=axis) * np.arange(64)).sum(axis=1) / moved.sum(axis=(1, 2)) - 31.5 for axis in (2, 1))
    assert rows.std() == pytest.approx(3.2, rel=0.15)
    assert columns.std() == pytest.approx(3.2, rel=0.15)
    sides = np.sqrt(changed(dot, crop_scale=0.1)[..., 0].sum(axis=(1, 2)) / 255)
    assert np.log(sides / 16).std() == pytest.approx(0.1, rel=0.15)


@pytest.mark.parametrize("network", [None, "cnn_nano"])
def test_the_camera_recipe_changes_faces_reproducibly_within_their_range(textured, network):
    ranges = find_recipe("camera", network).augmentation
    first, again = (np.asarray(augment(textured, ranges, StepDraws(keras.random.SeedGenerator(3)))) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.shape == textured.shape
    assert np.isfinite(first).all()
    assert first.min() >= 0
    assert first.max() <= 255.001


def test_one_setting_switches_a_camera_condition_off():
    recipe = override(find_recipe("camera", "cnn_nano"), ["noise=0", "compression=0"])
    assert (recipe.augmentation.noise, recipe.augmentation.compression) == (0.0, 0.0)
    assert recipe.augmentation.defocus > 0
    assert recipe.name == "camera-changed"


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("compression=80", "compression must be a fraction from 0 to 1. Received: 80"),
        ("resolution_loss=1.2", "resolution_loss must be a fraction from 0 to 1. Received: 1.2"),
        ("noise=-0.1", "noise must be a fraction from 0 to 1. Received: -0.1"),
        ("occlusion=NaN", "occlusion must be a fraction from 0 to 1. Received: nan"),
        ("gamma=-1", "gamma must not be negative. Received: -1"),
        ("exposure=Infinity", "exposure must not be negative. Received: inf"),
    ],
)
def test_camera_conditions_out_of_their_bounds_are_rejected(pair, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        override(find_recipe("camera"), [pair])


def test_a_color_cast_multiplies_the_gray_levels_of_a_gray_face():
    """So `exposure` covers it: white balance adds nothing else on faces that are gray."""
    from fer_edge.train.networks import build_network

    network = build_network("cnn_nano", 32, 4)
    face = np.random.default_rng(0).uniform(20, 150, (1, 32, 32, 1)).astype(np.float32)
    cast = np.array([1.3, 1.0, 0.6], np.float32)
    gain = float(cast @ [0.299, 0.587, 0.114])
    assert np.asarray(network(face * cast)) == pytest.approx(np.asarray(network(np.repeat(face * gain, 3, axis=3))), abs=1e-5)
