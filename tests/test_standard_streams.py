"""Closed standard streams, and the messages of C libraries."""

import os
import subprocess
import sys

import pytest
from conftest import json_lines
from media import encode, textured_image

from fer_edge.standard_streams import without_library_messages

COMMAND = [sys.executable, "-c", "from fer_edge.main import main; main()"]


@pytest.fixture
def image(tmp_path):
    (tmp_path / "a.png").write_bytes(encode(".png", textured_image(64)))
    return tmp_path / "a.png"


def test_a_run_with_closed_streams_writes_the_log_and_nothing_else_into_it(int8_model, image):
    words = ["run", image, "--log", image.with_name("l.jsonl"), "--model", int8_model, "--detector", "none", "--threads", "1"]
    done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *COMMAND, *map(str, words)], check=False)
    assert done.returncode == 0
    (line,) = json_lines(image.with_name("l.jsonl").read_text())
    assert line["source"] == str(image)


def test_errors_with_closed_streams_give_the_usual_status():
    done = subprocess.run(["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *COMMAND, "unknown"], check=False)
    assert done.returncode == 2


def test_a_character_that_the_terminal_cannot_show_is_escaped():
    code = "from fer_edge.standard_streams import open_standard_streams\nopen_standard_streams()\nprint('caf\\u00e9 \\udce9')"
    for encoding, shown in (("ascii", rb"caf\xe9 \udce9"), ("utf-8", b"caf\xc3\xa9 \\udce9")):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        assert done.stdout == shown + b"\n"


@pytest.mark.parametrize("debug", ["", "1"])
def test_messages_of_libraries_are_hidden_and_those_of_python_pass(debug):
    code = (
        "import os, sys\nfrom fer_edge.standard_streams import without_library_messages\n"
        "with without_library_messages():\n    os.write(2, b'libpng warning\\n'); print('ours', file=sys.stderr)\n"
        "print('after', file=sys.stderr)\nos.write(2, b'end\\n')"
    )
    environment = {**os.environ, "FER_EDGE_DEBUG": debug}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.split() == (["libpng", "warning"] if debug else []) + ["ours", "after", "end"]


def test_a_replaced_standard_error_stays_as_it_is(capsys):
    with without_library_messages():
        print("ours", file=sys.stderr)
    assert capsys.readouterr().err == "ours\n"
