"""What a worker's process makes in tests: trials on a two-layer model."""

from __future__ import annotations

import time
from collections.abc import Callable

import training
from allmend.adapters import LoraConfig
from allmend.compute import Finished, Segment, Stepped
from allmend.search.trainer import Shared, Siblings

ROWS, SELECT = 96, 12


def siblings(threads: int | None = None, wait: float = 0.0) -> Siblings:
    """A trainer; `wait` seconds pass after each step, so that a test can be in the middle of one."""
    shared = Shared(LoraConfig(alpha=8), seed=3, pack_tokens=512, threads=1, digests=True)
    made = _Slow if wait else Siblings
    trainer = made(training.loaded(), training.rows(ROWS), training.rows(SELECT, seed=9), shared)
    if isinstance(trainer, _Slow):
        trainer.wait = wait
    return trainer


class _Slow(Siblings):
    wait = 0.0

    def run(self, segment: Segment, report: Callable[[Stepped], None], stop: Callable[[], bool]) -> Finished:
        def later(event: Stepped) -> None:
            report(event)
            time.sleep(self.wait)

        return super().run(segment, later, stop)


def broken() -> Siblings:
    """Nothing: the process dies while it starts."""
    raise SystemExit(3)
