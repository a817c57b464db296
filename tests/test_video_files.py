"""Video files: rotation, aspect ratio, damage and names."""

import os
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from media import corner_image, corners, damage, encode, rotate_mp4, set_pixel_aspect, textured_image, write_video

from fer_edge.edge_runtime.cameras import files
from fer_edge.edge_runtime.cameras.capture import UprightCapture
from fer_edge.edge_runtime.cameras.files import read_frames
from fer_edge.edge_runtime.cameras.find_files import find_files
from fer_edge.edge_runtime.cameras.mp4_duration import mp4_duration_s
from fer_edge.edge_runtime.outputs.open import OutputSettings, write_outputs
from fer_edge.edge_runtime.outputs.video import AtomicVideoWriter

BRIGHT_CORNER = {0: 0, 90: 1, 180: 3, 270: 2}


def video(path, count=12, codec="mp4v"):
    write_video(path, [textured_image(64, seed) for seed in range(count)], codec)
    return path


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_the_rotation_tag_of_a_video_is_applied(tmp_path, degrees):
    write_video(tmp_path / "v.mp4", [corner_image(48, 64)])
    rotate_mp4(tmp_path / "v.mp4", degrees)
    (frame,) = read_frames(tmp_path / "v.mp4")
    assert frame.pixels.shape == ((64, 48, 3) if degrees in (90, 270) else (48, 64, 3))
    assert corners(frame.image) == tuple(number == BRIGHT_CORNER[degrees] for number in range(4))
    assert frame.pixels.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize(
    ("aspect", "degrees", "shape"),
    [((1, 2), 0, (96, 64)), ((2, 1), 0, (48, 128)), ((4, 3), 90, (85, 48)), ((1000, 1), 0, (48, 64)), ((0, 0), 0, (48, 64))],
)
def test_pixels_become_square_before_the_rotation(tmp_path, aspect, degrees, shape):
    write_video(tmp_path / "v.mp4", [corner_image(48, 64)])
    rotate_mp4(tmp_path / "v.mp4", degrees)
    set_pixel_aspect(tmp_path / "v.mp4", *aspect)
    (frame,) = read_frames(tmp_path / "v.mp4")
    assert frame.pixels.shape[:2] == shape


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "mp4v"), (".avi", "MJPG"), (".mkv", "mp4v")])
def test_a_video_goes_on_after_a_damaged_part_and_reports_the_lost_frames(tmp_path, suffix, codec):
    path = video(tmp_path / f"v{suffix}", 60, codec)
    messages = []
    assert [frame.number for frame in read_frames(path, messages.append)] == list(range(60))
    assert messages == []
    damage(path, 0.4, 0.6)
    numbers = [frame.number for frame in read_frames(path, messages.append)]
    assert numbers[0] == 0
    assert 40 <= len(numbers) <= 52
    assert sorted(set(numbers)) == numbers
    assert messages == [f"the video '{path}' is damaged: {len(numbers)} of 60 frames can be read"]


def test_the_empty_frames_of_an_avi_file_are_not_damage(tmp_path, monkeypatch):
    path = video(tmp_path / "v.avi", 12, "MJPG")
    open_capture = UprightCapture.__init__

    def with_twice_the_frames(self, *arguments):  # as FFmpeg writes H.264 into AVI
        open_capture(self, *arguments)
        self.frame_count, self.frames_per_second = 24, 20.0

    positions = chain.from_iterable((second, second) for second in [*np.arange(2, 12) / 10, 0.0, 0.0, 0.0])
    monkeypatch.setattr(UprightCapture, "__init__", with_twice_the_frames)
    monkeypatch.setattr(UprightCapture, "position_s", property(lambda self: next(positions)))
    monkeypatch.setattr(files, "MAX_FRAME_S", 0.1)
    messages = []
    assert len(list(read_frames(path, messages.append))) == 12
    assert messages == []


def test_a_video_without_its_index_is_reported(tmp_path):
    path = video(tmp_path / "v.mp4")
    path.write_bytes(path.read_bytes()[:-800])
    with pytest.raises(ValueError, match=r"cannot read any frame of the video .* was cut off while it was recorded"):
        list(read_frames(path))


@pytest.mark.parametrize(
    "name",
    [
        *("14:33:05.mp4", "concat:a.mp4", "pipe:0.mp4", "data:x,y.mp4", "subfile,,start,9:a.mp4", "a%03d.mp4", "-i.mp4"),
        *("e\u0301.mp4", "~x.mp4", "a b'c\".mp4", "?#&.mp4"),
    ],
)
def test_videos_of_any_name_are_read_from_their_own_folder(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    video(tmp_path / "v.mp4", 3).rename(tmp_path / name)
    assert len(list(read_frames(name))) == 3


def test_a_video_in_a_working_folder_that_is_not_utf_8_is_read(tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    monkeypatch.chdir(folder)
    video(tmp_path / "v.mp4", 3).rename(folder / "v.mp4")
    assert len(list(read_frames("v.mp4"))) == 3


def test_a_name_that_is_not_utf_8_is_read(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    video(tmp_path / "v.mp4", 3).rename(path)
    assert [frame.source for frame in read_frames(path)] == [path] * 3


@pytest.mark.parametrize("name", [b"14:33:05.mp4", b"a%03d.mp4", b"caf\xe9.mp4", b"caf\xe9/x.mp4", b"y" * 250 + b".mp4"])
def test_videos_of_any_name_are_written(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = Path(os.fsdecode(name))
    writer = AtomicVideoWriter(path, 10, (64, 48))
    for _ in range(3):
        writer.write(corner_image(48, 64))
    writer.finish()
    assert [frame.source for frame in read_frames(path)] == [path] * 3
    assert [file for file in path.parent.iterdir() if file.name.startswith(".")] == []


def test_copies_of_images_and_videos_of_any_name_are_saved(tmp_path, int8_model):
    import fer_edge

    source = tmp_path / "in"
    source.mkdir()
    data = encode(".jpg", textured_image(64))
    for name in (b"a.jfif", b"b.mpo", b"photo", b"caf\xe9.jpg", b"UP.JPG", b"c.jpe"):
        (source / os.fsdecode(name)).write_bytes(data)
    video(source / "v.mp4", 2).rename(source / "no suffix")
    pipeline = fer_edge.stream(source, int8_model, detector="none", threads=1)
    written = write_outputs(pipeline, source, OutputSettings(text_format="csv", save=tmp_path / "out"))
    expected = ["UP.JPG", "a.jfif.jpg", "b.mpo.jpg", "c.jpe", os.fsdecode(b"caf\xe9.jpg"), "no suffix.mp4", "photo.jpg"]
    assert [path.name for path in written] == expected
    assert len(find_files(tmp_path / "out")[0]) == 7


def test_a_saved_video_is_upright_and_has_square_pixels(tmp_path, int8_model):
    import fer_edge

    write_video(tmp_path / "v.mp4", [corner_image(48, 64)] * 2)
    rotate_mp4(tmp_path / "v.mp4", 90)
    set_pixel_aspect(tmp_path / "v.mp4", 1, 2)
    pipeline = fer_edge.stream(tmp_path / "v.mp4", int8_model, detector="none", threads=1)
    write_outputs(pipeline, tmp_path / "v.mp4", OutputSettings(text_format="csv", save=tmp_path / "out"))
    assert {frame.image.shape for frame in read_frames(tmp_path / "out")} == {(64, 96, 3)}


def test_the_duration_of_a_complete_video_agrees_with_its_frames(tmp_path):
    path = video(tmp_path / "v.mp4", 30)
    assert mp4_duration_s(path) == pytest.approx(3.0)
    messages = []
    assert len(list(read_frames(path, messages.append))) == 30
    assert messages == []


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"RIFF", bytes(100), b"\0\0\0\x08moov", b"\0\0\0\x18moov\0\0\0\x10mvhd" + bytes(4)),
        b"\0\0\0\x01wide" + b"\xff" * 8 + bytes(20),
    ],
)
def test_a_file_without_a_duration_has_none(tmp_path, data):
    (tmp_path / "x.mp4").write_bytes(data)
    assert mp4_duration_s(tmp_path / "x.mp4") is None


def test_the_duration_of_a_long_video_is_read(tmp_path):
    header = bytes([1]) + bytes(19) + (1000).to_bytes(4, "big") + (2**33).to_bytes(8, "big")
    box = (len(header) + 8).to_bytes(4, "big") + b"mvhd" + header
    (tmp_path / "x.mov").write_bytes(b"\0\0\0\x08wide" + (len(box) + 8).to_bytes(4, "big") + b"moov" + box)
    assert mp4_duration_s(tmp_path / "x.mov") == 2**33 / 1000


def test_frames_carry_the_number_of_frames_of_their_video(tmp_path):
    assert {frame.frame_count for frame in read_frames(video(tmp_path / "v.mp4"))} == {12}


def test_a_file_of_jpeg_images_is_a_video_by_its_suffix(tmp_path):
    data = b"".join(encode(".jpg", textured_image(64, seed)) for seed in range(5))
    (tmp_path / "v.mjpg").write_bytes(data)
    (tmp_path / "v.jpg").write_bytes(data)
    assert [frame.number for frame in read_frames(tmp_path / "v.mjpg")] == [0, 1, 2, 3, 4]
    assert [frame.number for frame in read_frames(tmp_path / "v.jpg")] == [None]
    assert np.ptp(next(read_frames(tmp_path / "v.jpg")).image) > 200
