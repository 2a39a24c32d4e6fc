"""The time a verb may take, all of it: what is left of a budget, without what was spent waiting for downloads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Runs from the moment it is made."""

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self._started = time.monotonic()
        self._paused = 0.0

    @property
    def passed(self) -> float:
        """Seconds that count so far."""
        return time.monotonic() - self._started - self._paused

    @property
    def left(self) -> float:
        """Seconds of the budget that are left; less than none when it is overdrawn."""
        return self.budget - self.passed

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._paused += time.monotonic() - begun
