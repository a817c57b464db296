"""bench on boards: the ssh client is a script that runs the commands here, in the home folder of a board."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from records import PC, latency

from fer_edge.artifacts.latency_records import read_latency_records
from fer_edge.artifacts.reporter import Reporter
from fer_edge.artifacts.typed_json import to_data
from fer_edge.deploy import connection
from fer_edge.deploy.remote_bench import bench_on_boards

# The last two arguments are host and command. The name of the host chooses its behavior.
SSH = """#!/bin/sh
while [ $# -gt 2 ]; do shift; done
case $1 in
*lost) echo "client_loop: send disconnect: Broken pipe" >&2; exit 255 ;;
*stranger) echo "Host key verification failed." >&2; exit 255 ;;
esac
export HOME=$BOARDS/${1#*@}
exec sh -c "$2"
"""
FER_EDGE = """#!/bin/sh
echo "measuring $*" >&2
[ "$2" = ./bad.tflite ] && { echo "Error: no file" >&2; exit 1; }
cat *.tflite > $HOME/received
while [ "$1" != --record ]; do shift; done
cp $HOME/record.jsonl $2
pwd > $HOME/folder
"""


def record_of(name):
    return latency(network="cnn", file="cnn.tflite", samples=(9.0,), environment=replace(PC, cpu=f"the {name}"))


class Lines(Reporter):
    """Keeps what the boards print."""

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


@pytest.fixture
def boards(tmp_path, monkeypatch):
    """A folder of the home folders of boards; call it with a name to deploy fer-edge there."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "ssh").write_text(SSH)
    (tools / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("BOARDS", str(tmp_path))

    def deploy(name):
        program = tmp_path / name / "fer-edge-deploy/current/env/bin/fer-edge"
        program.parent.mkdir(parents=True)
        program.write_text(FER_EDGE)
        program.chmod(0o755)
        (tmp_path / name / "record.jsonl").write_text(json.dumps(to_data(record_of(name))) + "\n")
        return tmp_path / name

    return deploy


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"\x00model\xff" * 100_000)
    return path


def test_the_records_of_each_board_are_returned(boards, model):
    kitchen, hall = boards("kitchen"), boards("hall")
    reporter = Lines()
    records = bench_on_boards(["pi@kitchen", "hall"], [model], ["--threads", "1,2"], reporter)
    assert records == {"pi@kitchen": [record_of("kitchen")], "hall": [record_of("hall")]}
    assert (kitchen / "received").read_bytes() == (hall / "received").read_bytes() == model.read_bytes()
    expected = "measuring bench ./m.tflite --threads 1,2 --record records.jsonl"
    assert sorted(reporter.lines) == [f"hall: {expected}", f"pi@kitchen: {expected}"]
    assert not Path((hall / "folder").read_text().strip()).exists()


def test_names_with_spaces_and_signs_are_not_commands(boards, tmp_path):
    home = boards("hall")
    model = tmp_path / "$(touch ran) 'x'.tflite"
    model.write_bytes(b"1")
    assert len(bench_on_boards(["hall"], [model])["hall"]) == 1
    assert (home / "received").read_bytes() == b"1"


def test_a_link_to_a_model_is_followed(boards, model, tmp_path):
    (tmp_path / "links").mkdir()
    link = tmp_path / "links/n.tflite"
    link.symlink_to(model)
    home = boards("hall")
    assert len(bench_on_boards(["hall"], [link])["hall"]) == 1
    assert (home / "received").read_bytes() == model.read_bytes()


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("empty", "fer-edge is not deployed on empty. Deploy it first: fer-edge deploy empty"),
        ("pi@lost", r"the connection to pi@lost was lost \(client_loop: .*Broken pipe\)\. Measure again"),
        ("stranger", "the host key of stranger is not known here"),
        ("-oProxyCommand=x", r"a board is \[USER@\]HOST"),
        ("hall", "bench on hall failed: Error: no file. If its fer-edge is older, deploy this one: fer-edge deploy hall"),
    ],
)
def test_the_cause_of_a_failure_and_its_remedy_are_named(boards, tmp_path, host, message):
    boards("hall")
    (tmp_path / "empty").mkdir()
    model = tmp_path / "bad.tflite"
    model.write_bytes(b"1")
    with pytest.raises((OSError, RuntimeError, ValueError), match=message):
        bench_on_boards([host], [model])


def test_a_board_or_a_file_name_cannot_be_given_twice(boards, model, tmp_path):
    with pytest.raises(ValueError, match=r"each board can be measured only once\. Received twice: 'hall'"):
        bench_on_boards(["hall", "hall"], [model])
    (tmp_path / "other").mkdir()
    (tmp_path / "other/m.tflite").write_bytes(b"2")
    with pytest.raises(ValueError, match=r"each file name can be measured only once\. Received twice: 'm\.tflite'"):
        bench_on_boards(["hall"], [model, tmp_path / "other/m.tflite"])


def test_without_an_ssh_client_the_package_is_named(boards, model, monkeypatch):
    monkeypatch.setattr(connection.shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"no ssh client found\. Install OpenSSH"):
        bench_on_boards(["hall"], [model])


def test_the_command_shows_a_column_per_board_and_appends_the_records(boards, model, tmp_path, invoke):
    boards("kitchen"), boards("hall")
    records = tmp_path / "records.jsonl"
    result = invoke("bench", model, "--host", "kitchen,pi@hall", "--threads", "2", "--min-runs", "7", "--record", records)
    assert result.exit_code == 0, result.stderr
    assert [line for line in result.stdout.splitlines() if line[1:3] == ": "] == ["A: the kitchen", "B: the hall"]
    assert "A p50 ms" in result.stdout
    assert "B p50 ms" in result.stdout
    assert read_latency_records(records) == [record_of("kitchen"), record_of("hall")]
    words = (
        "bench ./m.tflite --threads 2 --backend xnnpack --detector auto --min-runs 7 --min-seconds 1.5 --record records.jsonl"
    )
    assert f"note: kitchen: measuring {words}" in result.stderr


@pytest.mark.parametrize("option", [("--data", "x.zip"), ("--from", "x.jsonl"), ("--ferplus", "x.csv")])
def test_boards_measure_only_latency(option, error_of):
    assert "--host measures the latency of boards. Remove --from, --data or --ferplus" in error_of(
        "bench", "--host", "pi", *option
    )


def test_modelled_times_are_a_column(error_of):
    assert "--modelled adds a column to the default ones" in error_of("bench", "cnn_nano", "--modelled", "--columns", "p50")
