"""Which files of a folder are read, and which are reported as left out."""

import os
import sys

import pytest
from media import corner_image, encode, write_video

from fer_edge.edge_runtime.cameras import source
from fer_edge.edge_runtime.cameras.files import read_frames
from fer_edge.edge_runtime.cameras.find_files import find_files
from fer_edge.edge_runtime.cameras.source import open_source
from fer_edge.edge_runtime.file_types import file_type

JPEG = encode(".jpg", corner_image())


def names_in(folder):
    files, left_out = find_files(folder)
    return [str(file.path.relative_to(folder)) for file in files], str(left_out)


@pytest.mark.parametrize(
    ("head", "name", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG", "image"),
        (b"MM\0*", "TIFF", "image"),
        (b"RIFF\x10\0\0\0WEBP", "WebP", "image"),
        (b"P6\n", "PNM", "image"),
        (b"\0\0\0\x20ftypisom", "MP4", "video"),
        (b"\0\0\0\x14ftypqt  ", "MP4", "video"),
        (b"\0\0\0\x08wide", "MP4", "video"),
        (b"RIFF\x10\0\0\0AVI ", "AVI", "video"),
        (b"\x1aE\xdf\xa3", "Matroska", "video"),
        (b"\0\0\x01\xba", "MPEG", "video"),
        ((b"\x47" + bytes(187)) * 3, "MPEG transport stream", "video"),
        ((bytes(4) + b"\x47" + bytes(187)) * 3, "MPEG transport stream", "video"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMV", "video"),
        (b"FLV\x01", "FLV", "video"),
        (b"\0\0\0\x01\x67", "H.264 or H.265", "video"),
        (b"\0\0\0\x18ftypheic", "HEIC", "other"),
        (b"\0\0\0\x1cftypavif", "AVIF", "other"),
        (b"GIF89a", "GIF", "other"),
        (b"ffconcat version 1.0", "a playlist", "other"),
        (b"v=0\r\no=-", "a playlist", "other"),
    ],
)
def test_the_first_bytes_decide_what_a_file_is(head, name, kind):
    found = file_type(head + bytes(500))
    assert (found.name, found.kind) == (name, kind)


@pytest.mark.parametrize("text", [b"BMW is a car", b"P1x", b"Good morning", b"\x47" * 10, b""])
def test_text_is_not_taken_for_a_format_with_a_short_mark(text):
    assert file_type(text) is None


def test_images_and_videos_are_found_by_content_and_the_rest_is_named(tmp_path):
    for name in ("a.jfif", "b.mpo", "c.JPE", "no suffix", "wrong.png"):
        (tmp_path / name).write_bytes(JPEG)
    write_video(tmp_path / "clip.mp4", [corner_image()])
    (tmp_path / "clip.mp4").rename(tmp_path / "clip.m4v")
    for name, content in {"x.heic": b"\0\0\0\x18ftypheic", "y.gif": b"GIF89a", "z.gif": b"GIF89a", "n.txt": b"note"}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    (tmp_path / ".hidden.jpg").write_bytes(JPEG)
    files, left_out = names_in(tmp_path)
    assert files == ["a.jfif", "b.mpo", "c.JPE", "clip.m4v", "no suffix", "wrong.png"]
    assert left_out == "2 GIF (y.gif, z.gif); 1 HEIC (x.heic); 1 damaged (bad.jpg); 1 of other types (n.txt)"


def test_links_are_followed_once_and_loops_end(tmp_path):
    album, elsewhere = tmp_path / "album", tmp_path / "elsewhere"
    for folder in (album / "sub", elsewhere):
        folder.mkdir(parents=True)
        (folder / "a.jpg").write_bytes(JPEG)
    (album / "linked").symlink_to(elsewhere)
    (album / "again").symlink_to(elsewhere)
    (album / "first").symlink_to(album / "sub")
    (elsewhere / "loop").symlink_to(album)
    (album / "b.jpg").symlink_to(elsewhere / "a.jpg")
    (album / "gone.jpg").symlink_to(tmp_path / "nowhere")
    assert names_in(album) == (["again/a.jpg", "b.jpg", "sub/a.jpg"], "1 broken link (gone.jpg)")


def test_folders_of_nas_boxes_and_bins_are_skipped_and_reported(tmp_path):
    for folder in ("@eaDir", "$RECYCLE.BIN", "__MACOSX", "sub/@eaDir", "sub"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "a.jpg").write_bytes(JPEG)
    files, left_out = names_in(tmp_path)
    assert files == ["sub/a.jpg"]
    assert left_out.startswith("4 skipped folder (")


def test_an_end_report_counts_what_a_folder_lost(tmp_path):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    (tmp_path / "b.jpg").write_bytes(JPEG[: len(JPEG) // 2])
    (tmp_path / "c.gif").write_bytes(b"GIF89a")
    messages = []
    assert [frame.source.name for frame in read_frames(tmp_path, messages.append)] == ["a.jpg"]
    assert [message.partition(" ")[0] for message in messages] == ["skipped:", "left"]
    assert messages[1] == f"left out 2 of 3 in '{tmp_path}': 1 GIF (c.gif); 1 damaged (b.jpg)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"#EXTM3U\nother.mp4\n", "is a playlist, not an image or video that fer-edge reads. Pass the file"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "is a playlist"),
        (b"\0\0\0\x18ftypheic", "is HEIC, not an image or video that fer-edge reads. Convert it to JPEG, PNG or MP4"),
        (b"", "is empty"),
        (b"words", "is neither an image nor a video, or damaged"),
    ],
)
def test_a_file_that_is_not_a_video_is_named_and_opens_nothing_else(tmp_path, content, message):
    write_video(tmp_path / "other.mp4", [corner_image()])
    (tmp_path / "list.mp4").write_bytes(content)
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        open_source(tmp_path / "list.mp4")


def test_a_folder_without_images_names_what_it_contains(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(ValueError, match=r"contains no images or videos that can be read\. It contains: 1 HEIC \(a\.heic\)"):
        open_source(tmp_path)


def test_a_pipe_is_rejected_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(ValueError, match="is a pipe, a socket or a device"):
        open_source(tmp_path / "pipe.mp4")


def test_an_existing_path_precedes_a_camera_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2024").mkdir()
    (tmp_path / "2024" / "a.jpg").write_bytes(JPEG)
    assert open_source("2024").live is False
    assert open_source("2025").name == "/dev/video2025"
    assert open_source("/dev/v4l/by-id/usb-camera").name == "/dev/v4l/by-id/usb-camera"


def test_a_path_with_the_name_of_a_camera_is_named_in_the_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "picamera2", None)
    monkeypatch.setattr(source, "video_devices", list)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("auto", "rpicam", "picamera2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(JPEG)
        with pytest.raises((ValueError, OSError), match=rf"pass \./{name}"):
            open_source(name)
        assert open_source(f"./{name}").live is False
