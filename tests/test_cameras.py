import numpy as np
import pytest
from live import FakeCamera, InstantStop, flat_image, lost

from fer_edge.edge_runtime.cameras.camera import CameraError, frames_with_reconnect
from fer_edge.edge_runtime.cameras.frame import Frame, frame_bytes, from_buffer


def test_a_lost_camera_is_reopened_with_growing_delays():
    camera = FakeCamera([flat_image(1), None, lost(), lost(), lost(), flat_image(2), None, flat_image(3)])
    stop, messages = InstantStop(), []
    frames = list(frames_with_reconnect(camera, stop, messages.append, delays_s=(0.5, 1, 2)))
    assert [int(frame.pixels[0, 0, 0]) for frame in frames] == [1, 2, 3]
    assert [frame.number for frame in frames] == [0, 1, 2]
    assert stop.delays == [0.5, 1, 2, 2, 0.5]  # a frame resets them
    assert messages[0] == "fake camera is lost (it delivers no more frames); trying again in 0.5 s"
    assert "it is gone" in messages[1]
    assert messages.count("fake camera is back") == 2


def test_delays_keep_growing_for_a_camera_that_opens_without_frames():
    camera = FakeCamera([flat_image(), None, None, None, flat_image()])
    stop = InstantStop()
    assert len(list(frames_with_reconnect(camera, stop, delays_s=(0.5, 1, 2)))) == 2
    assert stop.delays == [0.5, 1, 2]


def test_a_camera_that_never_opened_raises_at_once():
    camera = FakeCamera([lost()])
    with pytest.raises(CameraError, match="it is gone"):
        list(frames_with_reconnect(camera, InstantStop()))
    assert camera.closed == 1


def test_stop_ends_the_frames_of_a_lost_camera_and_closes_it():
    camera, stop = FakeCamera([flat_image(), None, *[lost()] * 3, flat_image()]), InstantStop()
    messages = []

    def on_message(text):
        messages.append(text)
        if len(messages) == 2:
            stop.set()

    assert len(list(frames_with_reconnect(camera, stop, on_message))) == 1
    assert camera.closed >= 2


@pytest.mark.parametrize("pixel_format", ["rgb", "bgr", "i420", "i420-full", "yuyv", "gray"])
def test_every_pixel_format_gives_the_same_colors(pixel_format):
    import cv2

    color = np.full((4, 6, 3), (200, 40, 60), np.uint8)
    codes = {"bgr": cv2.COLOR_RGB2BGR, "i420": cv2.COLOR_RGB2YUV_I420, "gray": cv2.COLOR_RGB2GRAY}
    if pixel_format == "yuyv":
        y, u, v = cv2.cvtColor(color, cv2.COLOR_RGB2YUV_I420).reshape(-1)[[0, 24, 30]]
        pixels = np.stack([np.full((4, 6), y), np.tile([u, v], (4, 3))], axis=2).astype(np.uint8)
    elif pixel_format == "i420-full":
        y, v, u = cv2.cvtColor(color, cv2.COLOR_RGB2YCrCb)[0, 0]
        pixels = np.repeat(np.uint8([y, u, v]), [24, 6, 6]).reshape(6, 6)
    else:
        pixels = color if pixel_format == "rgb" else cv2.cvtColor(color, codes[pixel_format])
    frame = Frame("x", 0, pixels, pixel_format)
    assert (frame.width, frame.height) == (6, 4)
    assert frame.image.shape == (4, 6, 3)
    if pixel_format != "gray":
        assert np.abs(frame.image.astype(int) - color).max() <= 6
    assert frame.gray.shape == (4, 6)
    assert len(pixels.tobytes()) == frame_bytes(6, 4, pixel_format)
    assert np.array_equal(from_buffer(pixels.tobytes(), 6, 4, pixel_format), pixels)


def test_the_crop_source_of_a_yuv_frame_is_its_y_plane_without_a_copy():
    pixels = np.arange(36, dtype=np.uint8).reshape(6, 6)  # 4 rows of Y, 2 of U and V
    frame = Frame("x", 0, pixels, "i420")
    assert np.array_equal(frame.crop_source, pixels[:4])
    assert frame.crop_source.base is not None  # not a copy
