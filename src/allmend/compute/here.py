"""A worker in this process: it works while it is pumped."""

from __future__ import annotations

from collections.abc import Callable

from allmend.compute.messages import Failed, Segment
from allmend.compute.worker import Listen, Trainer
from allmend.errors import AllmendError, TrainingDiverged


class HereWorker:
    """Does its segment inside `pump`, on the caller's thread.

    Args:
        stopping: asked between two steps, besides `stop`: signals are heard by the caller's thread.
    """

    def __init__(self, trainer: Trainer, name: str = "here", stopping: Callable[[], bool] = lambda: False) -> None:
        self.name = name
        self._trainer, self._stopping = trainer, stopping
        self._segment: Segment | None = None
        self._asked = False

    @property
    def busy(self) -> bool:
        """Whether a segment waits for `pump`."""
        return self._segment is not None

    @property
    def alive(self) -> bool:
        """Always."""
        return True

    def submit(self, segment: Segment) -> None:
        """Keep it for `pump`."""
        assert self._segment is None
        self._segment, self._asked = segment, False

    def pump(self, listen: Listen, seconds: float) -> None:
        """Do the segment, all of it."""
        segment = self._segment
        if segment is None:
            return
        try:
            done = self._trainer.run(segment, listen, lambda: self._asked or self._stopping())
        except AllmendError as error:
            self._segment = None
            listen(failure(segment, error))
            return
        self._segment = None
        listen(done)

    def stop(self) -> None:
        """Ask for an end after the step under way."""
        self._asked = True

    def close(self) -> None:
        """Give the trainer back."""
        self._trainer.close()


def failure(segment: Segment, error: AllmendError) -> Failed:
    """An error as a message."""
    where = f"{error.where}: " if error.where else ""
    return Failed(
        trial=segment.trial,
        diverged=isinstance(error, TrainingDiverged),
        message=f"{where}{error.message}",
        hint=error.hint or "",
    )
