import click
import pytest
from click.testing import CliRunner

from fer_edge.console import ConsoleReporter, FiniteRange, friendly_errors


def run(function, *arguments):
    """Run a function as a command; return its result."""
    return CliRunner().invoke(click.command()(lambda: function(*arguments)))


@pytest.mark.parametrize("error", [ValueError("bad value"), OSError("bad value"), MemoryError("bad value")])
def test_a_library_error_becomes_one_line_and_exit_code_1(error):
    @friendly_errors
    def fail():
        raise error

    result = run(fail)
    assert (result.exit_code, result.stderr) == (1, "Error: bad value\n")


def test_an_error_without_a_message_is_reported_by_its_type():
    @friendly_errors
    def fail():
        raise MemoryError

    assert run(fail).stderr == "Error: MemoryError\n"


@pytest.mark.parametrize(("module", "extras"), [("sklearn.metrics", "bench"), ("keras", "train,convert,bench")])
def test_a_missing_module_is_reported_with_the_extra_that_installs_it(module, extras):
    @friendly_errors
    def fail():
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)

    assert f"pip install 'fer-edge[{extras}]'" in run(fail).stderr


def test_the_debug_variable_shows_the_traceback(monkeypatch):
    @friendly_errors
    def fail():
        raise ValueError("bad value")

    monkeypatch.setenv("FER_EDGE_DEBUG", "1")
    assert isinstance(run(fail).exception, ValueError)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_finite_range_rejects_numbers_that_are_not_finite(text):
    with pytest.raises(click.BadParameter, match=f"'{text}' is not"):
        FiniteRange(min=float("-inf")).convert(text, None, None)


def test_a_reporter_prints_results_apart_from_notes_and_warnings():
    def report():
        reporter = ConsoleReporter()
        reporter.note("seed 0")
        reporter.warn("leaky split")
        reporter.result("accuracy 0.5")
        with reporter.progress("training") as update:
            update(1, 2)

    result = run(report)
    assert result.exit_code == 0
    assert (result.stdout, result.stderr) == ("accuracy 0.5\n", "note: seed 0\nwarning: leaky split\n")
