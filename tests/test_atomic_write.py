import re
import resource

import pytest

from fer_edge.artifacts.atomic_write import atomic_path, atomic_write


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
