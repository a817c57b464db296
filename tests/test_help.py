import shlex

import click
import pytest

from fer_edge.commands import dev, export
from fer_edge.edge_runtime.images import read_image
from fer_edge.main import COMMANDS, main

ALL_COMMANDS = (
    [()]
    + [(name,) for name in COMMANDS]
    + [("train", "detector"), ("convert", "detector")]
    + [(group, name) for group, commands in (("dev", dev.COMMANDS), ("export", export.COMMANDS)) for name in commands]
)


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        ("predict face.png", "run"),
        ("benchmark", "bench"),
        ("quantize", "convert"),
        ("photo.png", "run photo.png"),
        ("CLIP.MP4", "run CLIP.MP4"),
        ("rtsp://camera.local/1", "run rtsp://camera.local/1"),
        ("model.tflite", "info model.tflite"),
        ("trian", "train"),
        ("dev drawface", "draw-face"),
    ],
)
def test_an_unknown_command_gets_a_suggestion(invoke, words, suggestion):
    result = invoke(*words.split())
    assert result.exit_code == 2
    assert f" {suggestion}'?" in result.stderr


def test_a_file_that_exists_is_suggested_as_a_source(invoke, tmp_path):
    file = tmp_path / "capture.raw"
    file.touch()
    assert f"run {file}'?" in invoke(file).stderr


def test_an_unknown_command_without_a_similar_one_points_to_the_help(invoke):
    result = invoke("zzzz")
    assert result.exit_code == 2
    assert "unknown command 'zzzz'. See 'main --help'." in result.stderr


def test_the_main_help_does_not_list_dev(invoke):
    assert "dev" not in invoke("--help").stdout.split()
    assert "draw-face" in invoke("dev", "--help").stdout


@pytest.mark.parametrize("words", ALL_COMMANDS, ids=" ".join)
def test_the_help_of_a_command_ends_with_two_examples_that_parse(invoke, words):
    *_, examples = invoke(*words, "--help").stdout.partition("Examples:\n")
    lines = [shlex.split(line, comments=True) for line in examples.splitlines()]
    assert len(lines) == 2
    for line in lines:
        command, arguments = main, line[line.index("fer-edge") + 1 :]  # a prefix such as taskset is allowed
        assert arguments[: len(words)] == list(words)
        while isinstance(command, click.Group):
            name, command, arguments = command.resolve_command(click.Context(command), arguments)
        command.make_context(name, arguments)


def test_draw_face_writes_an_image(invoke, error_of, tmp_path):
    file = tmp_path / "face.png"
    assert invoke("dev", "draw-face", "happy", file).stdout == f"{file}\n"
    assert read_image(file).shape == (480, 640, 3)
    assert "unknown label 'hapy'; choose one of: angry" in error_of("dev", "draw-face", "hapy", file)
