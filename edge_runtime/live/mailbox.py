"""How frames go from one thread to the next: never more than one waits."""

import threading
import time
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Closed(Exception):  # noqa: N818 - an end is no error
    """Nothing more will come."""


class Mailbox(Generic[Item]):
    """A place for one item between two threads.

    Args:
        block_when_full: Wait until the last item was taken before the next is put. Otherwise a new item takes the place of one
            that nobody took: the newest is the only one worth having.

    Attributes:
        dropped: Items that were replaced before anybody took them.
        waited_s: Time that get() has waited, seconds.
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
        """Leave an item.

        Raises:
            Closed: If the taker has gone.
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
        """Wait for an item.

        Raises:
            Closed: When the last one was taken and the giver has gone.
            BaseException: What the giver failed with, once everything before it was taken.
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
        """Say that nothing more comes, or that nobody takes any more; an error goes to the taker."""
        with self._changed:
            if not self._closed:
                self._closed, self._error = True, error
            self._changed.notify_all()
