"""Runs wait their turn: some at once, fair between people, with a place and an estimate for each."""

from __future__ import annotations

import logging
import math
import statistics
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from allmend.apps.runs import AppRun
from allmend.errors import Unavailable

_log = logging.getLogger(__name__)
MOST_WAITING = 500
_REMEMBERED = 50
MOST_RELEASED = 8
"""Runs that serve pages beside those that run together."""


class Queue:
    """A queue for each visitor, served in turn by `at_once` threads.

    Args:
        carry_out: runs one to its end; whatever it raises is the run's own business.
        at_once: runs that may be under way together.
    """

    def __init__(self, carry_out: Callable[[AppRun], None], *, at_once: int) -> None:
        self._carry_out = carry_out
        self._at_once = at_once
        self._waiting: OrderedDict[str, deque[AppRun]] = OrderedDict()
        self._running: set[AppRun] = set()
        self._released: set[AppRun] = set()
        self._took: deque[float] = deque(maxlen=_REMEMBERED)
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._serve, name=f"run-{n}", daemon=True) for n in range(at_once)]
        for thread in self._threads:
            thread.start()

    def submit(self, run: AppRun) -> None:
        """Put a run at the end of its visitor's queue; raises `Unavailable` when too many wait."""
        with self._changed:
            if self._closed or sum(map(len, self._waiting.values())) >= MOST_WAITING:
                raise Unavailable(f"{MOST_WAITING} runs are waiting already", hint="Try again in a while.")
            self._waiting.setdefault(run.visitor, deque()).append(run)
            self._changed.notify()
        self._tell_places()

    def release(self, run: AppRun) -> bool:
        """Let the next one begin while this one goes on: it serves pages, for hours perhaps.

        False when it is not running or too many do so already; then it keeps its place among those that run together.
        """
        with self._changed:
            if self._closed or run not in self._running or len(self._released) >= MOST_RELEASED:
                return False
            self._running.discard(run)
            self._released.add(run)
            # The thread that carries this run ends with it; another takes its turn.
            threading.Thread(target=self._serve, name="run-more", daemon=True).start()
        return True

    def place(self, run: AppRun) -> int | None:
        """How many runs come before it (0 is next); None when it does not wait."""
        with self._changed:
            order = self._order()
        return order.index(run) if run in order else None

    def estimate(self, run: AppRun) -> float | None:
        """Seconds until it begins, from how long earlier runs took; None before any has ended."""
        place = self.place(run)
        if place is None or not self._took:
            return None
        with self._changed:
            free = self._at_once - len(self._running)
        rounds = math.ceil(max(0, place + 1 - free) / self._at_once)
        return rounds * statistics.median(self._took)

    def close(self) -> None:
        """Take nothing more, stop what runs, and wait for it."""
        with self._changed:
            self._closed = True
            running = [*self._running, *self._released]
            waiting = self._order()
            self._waiting.clear()
            self._changed.notify_all()
        for run in (*waiting, *running):
            run.stop()
        for thread in self._threads:
            thread.join(timeout=30)
        until = time.monotonic() + 30
        while self._released and time.monotonic() < until:
            time.sleep(0.05)

    def _order(self) -> list[AppRun]:
        """The waiting runs as they would be taken: one of each visitor in turn."""
        lanes = [list(lane) for lane in self._waiting.values()]
        return [lane[n] for n in range(max(map(len, lanes), default=0)) for lane in lanes if n < len(lane)]

    def _next(self) -> AppRun | None:
        with self._changed:
            while not self._closed and not self._waiting:
                self._changed.wait()
            if self._closed:
                return None
            visitor, lane = self._waiting.popitem(last=False)
            run = lane.popleft()
            if lane:
                self._waiting[visitor] = lane  # to the back: the others' turn first
            self._running.add(run)
            return run

    def _serve(self) -> None:
        while (run := self._next()) is not None:
            self._tell_places()
            try:
                if run.begin():
                    self._carry_out(run)
            except Exception:  # told in the run; whoever waits behind it must not wait for ever
                _log.exception("a run ended with a bug")
                run.end("failed", "a bug in allmend; the server's log has it")
            finally:
                with self._changed:
                    released = run in self._released
                    self._running.discard(run)
                    self._released.discard(run)
                if run.started_at and run.ended_at and not released:
                    self._took.append(run.ended_at - run.started_at)
            if released:
                return

    def _tell_places(self) -> None:
        with self._changed:
            order = self._order()
        for place, run in enumerate(order):
            run.tell("place", place=place, estimate=self.estimate(run))
