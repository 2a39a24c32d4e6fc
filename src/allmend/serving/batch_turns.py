"""When a request of a batch may begin: behind everybody who waits, and alone where it may end the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from allmend.serving.registry import Registry

_AT_ONCE = 8
"""Requests of batches that run beside each other while nobody else asks anything."""
POLL = 0.05
"""Seconds between two looks at who is there."""


class Turns:
    """Counts the requests of batches that run, beside those of everybody else that `registry` knows of."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._running = 0
        self._alone = False
        """Whether the one that runs may end the engine, so that no other is begun beside it."""
        self._hoping = 0
        """Such ones that wait for the others to end."""

    def share(self, batches: int) -> int:
        """Requests that one of so many batches may have under way."""
        return max(_AT_ONCE // max(batches, 1), 1)

    def is_free(self, alone: bool = False) -> bool:
        """Whether another request may begin: not while somebody waits, and only one beside others that run.

        Args:
            alone: beside no other one of a batch.
        """
        if self._alone or (self._running if alone else self._hoping):
            return False
        others = self._others()
        return others is not None and self._running < (_AT_ONCE if others <= 0 else 1)

    async def wait(self, alone: bool, over: Callable[[], bool]) -> bool:
        """Wait until another request may begin; False where it is `over` before."""
        self._hoping += alone
        try:
            while not self.is_free(alone):
                if over():
                    return False
                await asyncio.sleep(POLL)
            return True
        finally:
            self._hoping -= alone

    @contextmanager
    def taken(self, alone: bool) -> Iterator[bool]:
        """While a request runs; gives whether others do."""
        beside = bool(self._running or self._others())
        self._running += 1
        self._alone = alone
        try:
            yield beside
        finally:
            self._running -= 1
            if alone:
                self._alone = False

    def _others(self) -> int | None:
        """Answers under way that are not of batches; None where somebody waits."""
        others = -self._running
        for base in self._registry.bases():
            running, waiting = base.engine.load()
            others += running
            if waiting:
                return None
        return others
