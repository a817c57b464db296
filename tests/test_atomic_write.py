import os
import re
import resource
from contextlib import nullcontext

import pytest

from fer_edge.artifacts.atomic_write import atomic_path, atomic_write, check_writable


def test_a_full_disk_leaves_the_old_file_and_no_temporary_file(tmp_path):
    target = tmp_path / "model.bin"
    atomic_write(target, b"old")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            atomic_write(target, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["model.bin"]


def test_an_error_while_writing_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="half way"), atomic_path(tmp_path / "new" / "file.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError("half way")
    assert not list((tmp_path / "new").iterdir())


def test_the_temporary_name_keeps_the_suffix_and_text_is_utf8(tmp_path):
    with atomic_path(tmp_path / "a.png") as temporary:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"1")
    atomic_write(tmp_path / "b.txt", "ä")
    assert (tmp_path / "b.txt").read_bytes() == b"\xc3\xa4"


@pytest.mark.parametrize("name", ["14:33.png", "x" * 251 + ".png", "a b%d\udce9.png", "-i.png"])
def test_the_temporary_name_is_short_and_plain_whatever_the_name(tmp_path, name):
    with atomic_path(tmp_path / name) as temporary:
        assert re.fullmatch(r"\.[0-9a-f]{8}-[A-Za-z0-9._-]{1,60}", temporary.name)
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"1")
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("file.txt", None, None),
        ("new/folders/file.txt", None, None),
        ("folder", IsADirectoryError, "folder' is a folder. Name a file in it"),
        ("folder/a.txt/b.txt", NotADirectoryError, "a.txt' is not a folder, so '.*b.txt' cannot be written"),
        ("closed/c.txt", PermissionError, "c.txt' cannot be written: no permission in '.*closed'. Choose another folder"),
    ],
)
def test_a_file_that_cannot_be_written_is_rejected_without_a_trace(tmp_path, monkeypatch, path, error, message):
    monkeypatch.setattr(os, "access", lambda folder, mode: folder.name != "closed")
    for name in ("folder", "closed"):
        (tmp_path / name).mkdir()
    (tmp_path / "folder" / "a.txt").write_text("earlier")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message) if error else nullcontext():
        check_writable(tmp_path / path)
    assert sorted(tmp_path.rglob("*")) == before
