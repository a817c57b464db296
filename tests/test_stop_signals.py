"""A signal ends a command, its children and its temporary files."""

import os
import signal
import subprocess
import sys

import pytest
from live import wait_until

COMMAND = """
import subprocess, sys, tempfile, time
from fer_edge.console import friendly_errors

@friendly_errors
def command():
    with tempfile.TemporaryDirectory(dir=sys.argv[1]):
        try:
            subprocess.run(["sh", "-c", "sleep 0.5; echo $$; exec sleep 60"])
        finally:
            print("unwinding", flush=True)
            time.sleep(float(sys.argv[2]))

command()
"""
RUN = """
import sys, threading
from fer_edge.stop_signals import stop_on_signals

stopped = threading.Event()
with stop_on_signals(stopped.set) as interrupted:
    print("ready", flush=True)
    sys.stdin.readline()
print(interrupted.is_set(), stopped.is_set())
"""


def start(program, *arguments, **options):
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)


def is_running(process):
    """Whether a process exists: the init process needs a moment to collect an ended one."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_children_of_a_command_and_removes_its_temporary_files(tmp_path, number):
    # nohup would have ignored SIGHUP for all processes below it.
    with start(COMMAND, tmp_path, 0, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL)) as process:
        child = int(process.stdout.readline())
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(number)
        assert process.wait(30) == -number  # as if nothing had caught it
    wait_until(lambda: not is_running(child))
    assert not list(tmp_path.iterdir())


def test_a_second_signal_ends_a_command_at_once(tmp_path):
    with start(COMMAND, tmp_path, 60) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "unwinding\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM


@pytest.mark.parametrize(("ignored", "output"), [(True, "False False\n"), (False, "True True\n")])
def test_a_run_under_nohup_survives_the_end_of_its_session(ignored, output):
    handler = signal.SIG_IGN if ignored else signal.SIG_DFL
    with start(RUN, preexec_fn=lambda: signal.signal(signal.SIGHUP, handler)) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        assert process.communicate("\n", timeout=30)[0] == output
