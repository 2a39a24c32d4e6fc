"""What a scheduler knows of a worker, and what a worker needs to do its work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from allmend.compute.messages import Event, Finished, Segment, Stepped

Listen = Callable[[Event], None]


class Trainer(Protocol):
    """What does the work, wherever it runs: holds a model, trains segments of trials on it."""

    def run(self, segment: Segment, report: Callable[[Stepped], None], stop: Callable[[], bool]) -> Finished:
        """Train a segment; raises an `AllmendError` where it cannot."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


class Worker(Protocol):
    """Takes one segment at a time; tells what happens to `listen`, on the thread that calls `pump`."""

    name: str

    @property
    def busy(self) -> bool:
        """Whether a segment is under way."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it can take work, now or after the segment under way."""
        ...

    def submit(self, segment: Segment) -> None:
        """Begin a segment; it must not be busy."""
        ...

    def pump(self, listen: Listen, seconds: float) -> None:
        """Wait for events for at most about so long and hand them over; a worker in this process works here."""
        ...

    def stop(self) -> None:
        """Ask for an end after the step under way."""
        ...

    def close(self) -> None:
        """End it, and wait until it is gone."""
        ...
