"""What a long job says while it runs: notes, warnings, results, progress. The command line prints it; the default is silent."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int], None]


class Reporter:
    """Receives the messages of a job. The base class ignores them; a subclass overrides the methods it needs."""

    def note(self, text: str) -> None:
        """Take a line that explains a choice."""

    def warn(self, text: str) -> None:
        """Take a line about something that makes a result less reliable."""

    def result(self, text: str) -> None:
        """Take a line of results."""

    @contextmanager
    def progress(self, title: str) -> Iterator[Progress]:
        """Report progress while the block runs.

        Args:
            title: What is being done, for people.

        Yields:
            A function of (done, total).
        """
        del title
        yield lambda done, total: None


SILENT = Reporter()
