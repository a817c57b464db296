"""An event loop in a thread of its own."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

ANSWER_SECONDS = 10


class LoopThread:
    """Runs an event loop in a separate thread: the calling thread may already run one, for example in a notebook.

    Args:
        name: Name of the thread.

    Attributes:
        loop: The event loop.
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wait_for(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the loop and return its result.

        Args:
            coroutine: The coroutine. It must end within ANSWER_SECONDS.
        """
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=ANSWER_SECONDS)

    def end(self) -> None:
        """Stop and close the loop."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
