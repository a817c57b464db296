import numpy as np
import pytest

from fer_edge.edge_runtime.cameras.files import read_frames
from fer_edge.edge_runtime.images import read_image, write_image


def test_a_written_image_is_read_unchanged(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    write_image(tmp_path / "p.png", image)
    assert np.array_equal(read_image(tmp_path / "p.png"), image)
    with pytest.raises(ValueError, match=r"cannot write an image as '.txt'"):
        write_image(tmp_path / "p.txt", image)


def test_a_folder_is_searched_and_unreadable_files_are_reported(tmp_path):
    write_image(tmp_path / "a" / "one.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "b.jpg").write_bytes(b"broken")
    (tmp_path / "notes.txt").write_text("not an image")
    messages = []
    frames = list(read_frames(tmp_path, messages.append))
    assert [frame.source.name for frame in frames] == ["one.png"]
    assert len(messages) == 1
    assert "b.jpg" in messages[0]
    with pytest.raises(ValueError, match="cannot decode the image"):
        list(read_frames(tmp_path / "b.jpg"))
    with pytest.raises(ValueError, match="neither an image nor a video"):
        list(read_frames(tmp_path / "notes.txt"))
