"""When a process that ended is started again: at once, and later each time where it does not come to work at all."""

from __future__ import annotations

import time

PAUSES = (0.0, 0.5, 2.0, 8.0, 30.0, 120.0)
"""Seconds before a process is started again that ended so many times in a row without having been of use."""
_LONG = 60.0
"""Seconds after which a process that waits for work is of use, too."""
TURNED_AWAY = 1.0
"""Seconds; whoever comes in a longer pause is told when to come again, and does not wait here."""


class Restarts:
    """Ends and starts of an engine's process.

    Attributes:
        count: how often it was started again.
        started: `time.monotonic()` of the last time that it was ready.
    """

    def __init__(self) -> None:
        self.count = 0
        self.started = 0.0
        self._in_a_row = 0
        self._next = 0.0

    def came_up(self) -> None:
        """It is ready."""
        self.started, self._next = time.monotonic(), 0.0

    def was_of_use(self) -> None:
        """It has answered somebody."""
        self._in_a_row = 0

    def ended(self, *, ready: bool) -> float:
        """It ended; seconds until it is to be started again.

        Args:
            ready: it had come up before.
        """
        if ready and time.monotonic() - self.started >= _LONG:
            self._in_a_row = 0
        pause = PAUSES[min(self._in_a_row, len(PAUSES) - 1)]
        self._in_a_row += 1
        self._next = time.monotonic() + pause
        return pause

    @property
    def away(self) -> float:
        """Seconds for which who comes is turned away."""
        left = self._next - time.monotonic()
        return left if left > TURNED_AWAY else 0.0
