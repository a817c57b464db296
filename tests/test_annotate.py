"""Where annotate() draws the box and the label of a face, to the pixel."""

import cv2
import numpy as np
import pytest
from live import flat_image, prediction

from fer_edge.edge_runtime.cameras.frame import Frame
from fer_edge.edge_runtime.live.pipeline import LabeledFace, LabeledFrame
from fer_edge.edge_runtime.outputs.annotate import GREEN, annotate
from fer_edge.edge_runtime.outputs.drawn_label import drawn_label

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


def test_a_label_that_is_wider_than_the_image_starts_at_its_left_edge():
    width, height, descent = label_size()
    image = annotated((5, 80, 20, 40), width=40)
    top = 80 - descent - height - descent // 2
    assert width > 40
    assert np.array_equal(image[top:80, :40], label_image()[:-1, :40])


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
