"""Pass items between two threads; at most one item waits."""

import threading
import time
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Closed(Exception):  # noqa: N818 - the end of a stream is not an error
    """The other side has closed the mailbox."""


class Mailbox(Generic[Item]):
    """A slot for one item between a producer and a consumer thread.

    queue.Queue cannot replace it: it does not drop old items, and has no shutdown() before Python 3.13.

    Args:
        block_when_full: If True, put() waits until the previous item has been taken. If False, a new item replaces it.

    Attributes:
        dropped: Number of items that were replaced before they were taken.
        waited_s: Total time that get() has waited, seconds.
    """

    def __init__(self, block_when_full: bool) -> None:
        self._block_when_full = block_when_full
        self._changed = threading.Condition()
        self._item: Item | None = None
        self._closed = False
        self._error: BaseException | None = None
        self.dropped = 0
        self.waited_s = 0.0

    def put(self, item: Item) -> None:
        """Store an item.

        Raises:
            Closed: If the mailbox is closed.
        """
        with self._changed:
            while self._block_when_full and self._item is not None and not self._closed:
                self._changed.wait()
            if self._closed:
                raise Closed
            self.dropped += self._item is not None
            self._item = item
            self._changed.notify_all()

    def get(self) -> Item:
        """Wait for an item and take it.

        Raises:
            Closed: If the mailbox is closed and empty.
            BaseException: The error that was passed to close(), once the mailbox is empty.
        """
        start = time.perf_counter()
        with self._changed:
            while self._item is None and not self._closed:
                self._changed.wait()
            self.waited_s += time.perf_counter() - start
            item, self._item = self._item, None
            self._changed.notify_all()
            if item is not None:
                return item
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            raise Closed

    def close(self, error: BaseException | None = None) -> None:
        """Close the mailbox for both sides. The consumer still gets the last item, then ``error`` if given."""
        with self._changed:
            if not self._closed:
                self._closed, self._error = True, error
            self._changed.notify_all()
