"""Where annotate() draws the box and the label of a face, to the pixel."""

import cv2
import numpy as np
import pytest
from live import flat_image, prediction

from fer_edge.convert.disagreement_grid import TILE_PX, write_disagreement_grid
from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.images import read_image
from fer_edge.edge_runtime.live.pipeline import LabeledFace, LabeledFrame
from fer_edge.edge_runtime.outputs.annotate import GREEN, annotate
from fer_edge.edge_runtime.outputs.drawn_label import drawn_label, fitted_text

GRAY = 128
TEXT = "happy 90%"
FONT = cv2.FONT_HERSHEY_SIMPLEX


def annotated(*boxes, width=200, height=160):
    """A gray image with a happy face at each box."""
    faces = tuple(LabeledFace(box, prediction(0.9), number) for number, box in enumerate(boxes, 1))
    return annotate(LabeledFrame(Frame("fake", 0, flat_image(GRAY, width, height)), faces))


def label_size(scale=0.4, thickness=1):
    """Width and height of the text, and how far it reaches below its baseline, in pixels."""
    (width, height), descent = cv2.getTextSize(TEXT, FONT, scale, thickness)
    return width, height, descent


def label_image(scale=0.4, thickness=1):
    """The label as it must appear: black text on a green background."""
    width, height, descent = label_size(scale, thickness)
    above_text = descent // 2
    image = np.full((above_text + height + descent + 1, width + 1, 3), GREEN, np.uint8)
    cv2.putText(image, TEXT, (0, above_text + height), FONT, scale, (0, 0, 0), thickness, cv2.LINE_AA)
    return image


def changed_box(image):
    """The first and last changed column and row: (left, top, right, bottom)."""
    rows, columns = np.nonzero((image != GRAY).any(axis=2))
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def test_the_box_follows_the_edges_of_the_face():
    image = annotated((60, 80, 50, 40))
    expected = flat_image(GRAY, 200, 160)
    expected[80:121, 60:111] = GREEN
    expected[81:120, 61:110] = GRAY
    assert np.array_equal(image[81:], expected[81:])  # the label covers the rows above


def test_the_label_is_above_the_box_and_starts_at_its_left_edge():
    image = annotated((60, 80, 50, 40))
    width, height, descent = label_size()
    assert changed_box(image[:80]) == (60, 80 - descent - height - descent // 2, 60 + width, 79)
    label = label_image()
    top = 81 - len(label)
    assert np.array_equal(image[top:80, 60 : 60 + width + 1], label[:-1])


def test_the_label_is_below_the_box_without_room_above():
    image = annotated((60, 2, 50, 40))
    width, _, descent = label_size()
    top = 2 + 40 + descent - descent // 2
    label = label_image()
    assert np.array_equal(image[top : top + len(label), 60 : 60 + width + 1], label)
    assert changed_box(image) == (60, 2, 60 + width, top + len(label) - 1)
    assert (image[2, 60:111] == GREEN).all()


@pytest.mark.parametrize(("rows_of_room", "is_above"), [(0, False), (1, True)])
def test_the_label_needs_room_for_its_text_above_the_box(rows_of_room, is_above):
    _, height, descent = label_size()
    y = descent + height + rows_of_room
    image = annotated((60, y, 50, 40))
    assert (changed_box(image)[1] < y) == is_above


def test_the_label_stays_inside_the_image_below_a_box_that_fills_it():
    image = annotated((60, 2, 50, 150))
    width, height, descent = label_size()
    top = 160 - descent - height - descent // 2
    assert np.array_equal(image[top:, 60 : 60 + width + 1], label_image()[: 160 - top])


def test_the_label_stays_inside_the_image_at_the_right_edge():
    image = annotated((170, 80, 20, 40))
    width, _, _ = label_size()
    assert changed_box(image[:80])[::2] == (200 - width, 199)
    assert np.array_equal(image[79, 200 - width :], label_image()[-2, :-1])


LONG = ("looks at the screen and smiles a lot", "looks at the screen and smiles", "bored", "unlike all of the other labels")


@pytest.mark.parametrize(
    ("label", "letters", "text"),
    [
        ("bored", 9, "bored 90%"),
        ("bored", 8, "bored"),  # better than "bo.. 90%"
        ("bored", 4, "bo.."),
        ("bored", 1, "#3"),
        ("unlike all of the other labels", 40, "unlike all of the other labels 90%"),
        ("unlike all of the other labels", 33, "unlike all of the other lab.. 90%"),
        ("unlike all of the other labels", 17, "unlike all.. 90%"),  # no space before the dots
        ("unlike all of the other labels", 13, "unlike all.."),
        (LONG[0], 39, "looks at the screen and smiles a.. 90%"),
        (LONG[0], 35, "looks at the screen and smiles a.."),
        (LONG[0], 30, "#1"),  # the second label starts like it
        (LONG[1], 34, "looks at the screen and smiles 90%"),
        (LONG[1], 33, "looks at the screen and smiles"),
        (LONG[1], 20, "#2"),
        ("unsure", 6, "unsure"),
        ("unsure", 5, "uns.."),
    ],
)
def test_a_label_is_shortened_to_the_room_and_stays_unique(label, letters, text):
    assert fitted_text(label, LONG, "90%", lambda text: len(text) <= letters) == text


@pytest.mark.parametrize(("width", "text"), [(80, "happy 90%"), (60, "happy"), (40, "happy"), (30, "ha..")])
def test_a_label_that_is_wider_than_the_image_is_shortened(width, text):
    image = annotated((5, 80, 20, 40), width=width)
    (text_width, height), descent = cv2.getTextSize(text, FONT, 0.4, 1)
    assert text_width <= width
    label = np.full((descent // 2 + height + descent + 1, text_width + 1, 3), GREEN, np.uint8)
    cv2.putText(label, text, (0, descent // 2 + height), FONT, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    left = max(0, min(5, width - text_width))
    assert np.array_equal(image[81 - len(label) : 80, left : left + text_width], label[:-1, :-1])
    assert (image[81 - len(label) : 80, left + text_width + 1 :] == GRAY).all()


def test_a_box_that_starts_left_of_the_image_has_its_label_at_the_left_edge():
    width, _, _ = label_size()
    assert changed_box(annotated((-10, 80, 50, 40))[:80])[::2] == (0, width)


def test_text_and_lines_grow_with_the_longer_side_of_the_image():
    image = annotated((300, 400, 200, 200), width=700, height=1400)
    width, height, descent = label_size(scale=2, thickness=4)
    left, top, right, _ = changed_box(image[:390])
    assert (left, top, right) == (300, 400 - descent - height - descent // 2, 300 + width)
    thickness = (image[500, 280:320] == GREEN).all(axis=1).sum()
    assert thickness in (4, 5)  # OpenCV draws an even thickness one pixel wider


def test_every_face_gets_a_box_and_the_frame_stays_as_it_was():
    frame = Frame("fake", 0, flat_image(GRAY, 200, 160))
    faces = tuple(LabeledFace(box, prediction(0.9), 1) for box in ((10, 40, 30, 30), (120, 100, 40, 40)))
    image = annotate(LabeledFrame(frame, faces))
    assert (image[70, 10:41] == GREEN).all()
    assert (image[140, 120:161] == GREEN).all()
    assert (frame.image == GRAY).all()


@pytest.mark.parametrize(
    ("label", "drawn"),
    [
        ("happy", "happy"),
        ("unsure", "unsure"),
        ("über müde", "uber mude"),
        ("groß", "gross"),
        ("たのしい", "#4"),
        ("été", "#5"),  # another label is "ete"
        ("ete", "#6"),
    ],
)
def test_a_label_is_drawn_in_ascii_letters_or_as_its_number(label, drawn):
    assert drawn_label(label, ("happy", "über müde", "groß", "たのしい", "été", "ete")) == drawn


def test_the_captions_of_a_grid_of_disagreements_stay_below_their_face(tmp_path):
    keras_probs, tflite_probs = (np.array([row, row], np.float32) for row in ([0.9, 0.1, 0, 0], [0.1, 0.9, 0, 0]))
    faces = [np.zeros((8, 8), np.uint8)] * 2
    assert write_disagreement_grid(tmp_path / "grid.png", faces, np.array([3, 3]), keras_probs, tflite_probs, LONG) == 2
    captions = read_image(tmp_path / "grid.png")[TILE_PX:]
    assert captions.min() == 0
    assert (captions[:, TILE_PX - 3 : TILE_PX + 4] == 255).all()
    assert (captions[:, -3:] == 255).all()
