"""What the server says to its engine's process, in order, without ever waiting for it to listen."""

from __future__ import annotations

import queue
import threading
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any


class Line:
    """What is said to one process, written by a thread: one that does not read must not keep the event loop waiting."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=self._write, name="allmend-engine-line", daemon=True).start()

    def say(self, message: Any) -> None:
        """Send it, as `pickled` made it, after what was said before."""
        self._said.put(message)

    def end(self) -> None:
        """Say no more."""
        self._said.put(None)

    def _write(self) -> None:
        try:
            while (message := self._said.get()) is not None:
                self.connection.send_bytes(message)
        except OSError:
            pass  # The process is gone: whoever waits for an answer is told by `ApartEngine._run`.


def pickled(message: Any) -> Any:
    """A message as `Connection.send` would send it; what cannot be sent fails here, where it was said."""
    return ForkingPickler.dumps(message)
