"""Control characters and formulas in names and labels: what reaches a terminal and a spreadsheet."""

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from live import LABELS, labeled

from fer_edge.artifacts.printable import csv_cell, printable, printable_lines
from fer_edge.benchmarks.latency_tables import BenchmarkRow, as_csv
from fer_edge.console import ConsoleReporter, echo, note, warn
from fer_edge.edge_runtime.classify import Prediction
from fer_edge.edge_runtime.images import write_image
from fer_edge.edge_runtime.live.pipeline import LabeledFace
from fer_edge.edge_runtime.live.stats import PipelineStats
from fer_edge.edge_runtime.outputs.output import as_json_line, as_text_line
from fer_edge.edge_runtime.outputs.text import CsvFormatter, LogFile, StatusLine, csv_header
from fer_edge.train.synthetic import synthetic_image

TITLE = "\x1b]0;owned\x07"  # changes the title of the window
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain, spaced ünïcode 厨房 😀", "plain, spaced ünïcode 厨房 😀"),
        (TITLE, r"\x1b]0;owned\x07"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x9b31m", r"\x9b31m"),  # one byte that starts an escape sequence
        ("photo\u202egpj.exe", r"photo\u202egpj.exe"),  # turns the direction of the text
        ("name\udcff.png", r"name\udcff.png"),  # a file name that is not UTF-8
        ("न\u094d\u200dय 👨\u200d👩", "न\u094d\u200dय 👨\u200d👩"),
        ("line\u2028break", r"line\u2028break"),
    ],
)
def test_control_characters_are_escaped_and_letters_are_kept(text, expected):
    assert printable(text) == expected


def test_lines_keep_their_breaks():
    assert printable_lines("a\n\tb\x1b[2J\r") == "a\n\tb\\x1b[2J\\r"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1", "'+1"),
        ("-2+3", "'-2+3"),
        ("@SUM(1)", "'@SUM(1)"),
        (" =1", "' =1"),
        ("\t=1", r"\t=1"),
        ("\uff1d1", "'\uff1d1"),
        ("happy", "happy"),
        ("a=b", "a=b"),
        (-5, -5),
        (None, None),
        ("", ""),
    ],
)
def test_a_cell_is_never_a_formula_and_numbers_stay_numbers(value, expected):
    assert csv_cell(value) == expected


def hostile_frame(label="=1+1", source=f"-2{TITLE}.png"):
    frame = labeled(1)
    probabilities = (0.1, 0.8, 0.1)
    face = LabeledFace((-3, 1, 2, 2), Prediction(label, 0.8, probabilities, (LABELS[0], label, LABELS[2])), 1)
    return replace(frame, frame=replace(frame.frame, source=source), faces=(face,))


def test_csv_rows_and_header_contain_no_formula_and_no_control_character():
    text = CsvFormatter((LABELS[0], "=1+1", LABELS[2]))(hostile_frame())
    header, row = csv.reader(io.StringIO(text))
    assert "'=1+1" in header
    assert (row[0], row[4], row[9]) == (r"'-2\x1b]0;owned\x07.png", "-3", "'=1+1")
    assert not CONTROL.search(text)


def test_a_csv_log_with_such_labels_can_be_continued(tmp_path):
    labels = ("=a", "b")
    for _ in range(2):
        LogFile(tmp_path / "log.csv", labels).close(True)
    assert csv_header(labels).endswith(",'=a,b")


def test_a_benchmark_table_as_csv_contains_no_formula():
    row = BenchmarkRow(**dict.fromkeys(BenchmarkRow.__dataclass_fields__, 1))
    (read,) = csv.DictReader(io.StringIO(as_csv([replace(row, network="=HYPERLINK(1)", board="-x")])))
    assert (read["network"], read["board"]) == ("'=HYPERLINK(1)", "'-x")


def test_lines_and_the_status_line_contain_no_control_characters():
    frame = hostile_frame(label=f"happy{TITLE}\n")
    assert not CONTROL.search(as_text_line(frame))
    assert "\n" not in as_text_line(frame)
    assert not CONTROL.search(as_json_line(frame))

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    StatusLine(terminal, PipelineStats()).write(frame)
    assert not CONTROL.search(terminal.getvalue().removeprefix("\r"))


def test_messages_contain_no_control_characters(capfd):
    for write in (echo, note, warn, ConsoleReporter().note, ConsoleReporter().warn, ConsoleReporter().result):
        write(f"a{TITLE}b\udcff")
    out, err = capfd.readouterr()
    assert (out + err).count(r"a\x1b]0;owned\x07b\udcff") == 6
    assert not CONTROL.search(out + err)


def test_run_prints_a_hostile_file_name_escaped(invoke, int8_model, tmp_path):
    write_image(tmp_path / f"=a{TITLE}.png", synthetic_image("happy", seed=0))
    (tmp_path / f"broken{TITLE}.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    common = ("--model", int8_model, "--threads", 1, "--detector", "haar")
    for options in ((), ("--csv",), ("--json",)):
        result = invoke("run", tmp_path, *common, *options)
        assert result.exit_code == 0
        assert "owned" in result.stdout
        assert "owned" in result.stderr
        assert not CONTROL.search(result.stdout + result.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", f"missing{TITLE}.png"),
        ("run", f"--{TITLE}"),
        ("run", "x.png", "--threads", TITLE),
        ("info", TITLE),
        (TITLE,),
        (f"-{TITLE}",),
        ("dev", TITLE),
    ],
)
def test_an_error_prints_a_hostile_argument_escaped(invoke, arguments):
    result = invoke(*arguments)
    assert result.exit_code in (1, 2)
    assert r"\x1b" in result.stderr
    assert not CONTROL.search(result.output)


def test_commands_print_through_the_console_module():
    cli = Path(__file__).parent.parent / "cli"
    printing = [file.name for file in cli.rglob("*.py") if re.search(r"click\.s?echo\(", file.read_text())]
    assert printing == ["console.py"]
