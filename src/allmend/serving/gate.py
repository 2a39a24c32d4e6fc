"""Whose answer is next: a fair queue before each engine, with a place and an estimate, that says no in time.

An engine computes at most so many answers at once, with so many tokens of keys and values. What comes beyond waits
here: higher priority first; among equals the key that has had the least, by the tokens it asked for (start-time fair
queueing: Goyal, Vin, Cheng 1996). So a key that sends a thousand requests delays its own, not another's.

A queue that only grows is a collapse in slow motion. Whoever would wait longer than they want to, or than the server
lets anybody wait, is told at once when to come again. How long that is follows from what runs: each of the answers
that are computed has begun at a known time, and is expected to take as long as the last ones did, and somewhat longer
(mean and mean deviation, as TCP estimates its timeouts: Jacobson 1988). The mean rate of departures would not do: few
large answers that began together leave together, and whoever comes next waits for all of one.

Everything here runs on the server's event loop; there are no locks.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

_SMOOTH = 0.2
"""Weight of the newest answer in the estimate of how long one takes, and of how far that is off."""
_FIRST_GUESS = 1.0
_MOST_LEFT = 64
"""Places that were given up and may lie in the queue until they would have come in: clients that come and go while
one waits long would fill memory with theirs."""
_OVERDUE = 0.25
"""What an answer that has taken as long as they do is given still, in parts of that."""


class Overloaded(Exception):
    """There is no room in time.

    Attributes:
        retry_after: seconds after which there may be.
        place: the place it would have had.
    """

    def __init__(self, words: str, *, retry_after: float, place: int) -> None:
        super().__init__(words)
        self.words = words
        self.retry_after = retry_after
        self.place = place


class TooLate(Exception):
    """The deadline came while it waited."""


@dataclass(order=True)
class Place:
    """One request in the queue, or through it."""

    order: tuple[int, float, int]
    """(minus priority, start time in the key's own share, number)."""
    key: str = field(compare=False)
    answers: int = field(compare=False)
    tokens: int = field(compare=False)
    admitted: asyncio.Future[None] = field(compare=False)
    position: int = field(compare=False, default=0)
    """Place when it came; 0 is at once."""
    estimate: float = field(compare=False, default=0.0)
    """Seconds it was expected to wait when it came."""
    began: float = field(compare=False, default=0.0)
    gone: bool = field(compare=False, default=False)

    @property
    def is_in(self) -> bool:
        """Whether its answers may run."""
        return self.admitted.done() and not self.admitted.cancelled()


class Gate:
    """The queue before one engine.

    Args:
        answers: most answers at once.
        tokens: tokens of keys and values that the engine holds; None where it has no such bound. May be changed:
            another model under the same name, or a process that was started again, can hold another number.
        longest: seconds that anybody is let wait.
        queue: answers that may wait at once.
    """

    def __init__(
        self,
        answers: int,
        *,
        tokens: int | None = None,
        longest: float = 10.0,
        queue: int = 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tokens = tokens
        self._answers, self._longest, self._queue = answers, longest, queue
        self._clock = clock
        self._heap: list[Place] = []
        self._waiting = self._left = 0
        self._running = self._held = 0
        self._finish: dict[str, float] = {}
        self._active: Counter[str] = Counter()
        self._virtual = 0.0
        self._number = itertools.count()
        self._inside: dict[int, Place] = {}
        self._seconds, self._spread = _FIRST_GUESS, 0.0
        self.refused = 0

    @property
    def waiting(self) -> int:
        """Answers that wait."""
        return self._waiting

    def enter(
        self, key: str, *, answers: int = 1, tokens: int = 0, priority: int = 0, deadline: float | None = None
    ) -> Place:
        """Take a place; `wait` for it, and `leave` it whatever happens. Raises `Overloaded`.

        Args:
            tokens: most tokens that prompt and answers can need together.
            deadline: by the clock, when it is of no use any more.
        """
        start = max(self._virtual, self._finish.get(key, 0.0))
        order = (-priority, start, next(self._number))
        place = Place(order, key, answers, tokens, asyncio.get_running_loop().create_future())
        if not self._heap and self._fits(place):
            self._account(place, start)
            self._admit(place)
            return place
        place.position, place.estimate = self._expect(order, answers, deadline)
        self._account(place, start)
        heapq.heappush(self._heap, place)
        self._waiting += answers
        return place

    def check(self, key: str, *, answers: int = 1, priority: int = 0, deadline: float | None = None) -> None:
        """Raise `Overloaded` where `enter` would, whatever memory there is: before a request has cost anything."""
        if not self._heap and (not self._running or self._running + answers <= self._answers):
            return
        start = max(self._virtual, self._finish.get(key, 0.0))
        self._expect((-priority, start, next(self._number)), answers, deadline)

    def _expect(self, order: tuple[int, float, int], answers: int, deadline: float | None) -> tuple[int, float]:
        """(place, seconds to wait) of who would come with `order`; raises `Overloaded`."""
        before = [each for each in self._heap if not each.gone and each.order < order]
        position = 1 + len(before)
        estimate = self.estimate(sum(each.answers for each in before) + min(answers, self._answers))
        patience = self._longest if deadline is None else min(self._longest, deadline - self._clock())
        if self._waiting + answers > self._queue or estimate > patience:
            self.refused += 1
            words = f"The server is busy: about {estimate:.1f} s to wait, at place {position}."
            # Until the queue is as short as it may be, and not before the next answer has left.
            after = max(estimate - max(patience, 0.0), min(self.estimate(1), 1.0), 0.05)
            raise Overloaded(words, retry_after=after, place=position)
        return position, estimate

    async def wait(self, place: Place, *, deadline: float | None = None, at_most: float | None = None) -> bool:
        """Wait until it is in; False when `at_most` seconds have passed before. Raises `TooLate`."""
        left = None if deadline is None else deadline - self._clock()
        if left is not None and left <= 0 and not place.is_in:
            raise TooLate
        times = [each for each in (left, at_most) if each is not None]
        await asyncio.wait({place.admitted}, timeout=min(times) if times else None)
        if not place.is_in and left is not None and (at_most is None or left <= at_most):
            raise TooLate
        return place.is_in

    def leave(self, place: Place, *, learn: bool = True) -> None:
        """Give the place up, or free what it held; the next ones come in.

        Args:
            learn: how long it took says how long answers take: not where its engine hung, for minutes perhaps.
        """
        if place.gone:
            return
        place.gone = True
        self._active[place.key] -= 1
        if not self._active[place.key]:
            del self._active[place.key]
            if len(self._finish) > 10_000:
                self._finish = {key: self._finish[key] for key in self._active if key in self._finish}
        if place.is_in:
            self._running -= place.answers
            self._held -= place.tokens
            del self._inside[place.order[2]]
            if learn:
                off = self._clock() - place.began - self._seconds
                self._seconds += _SMOOTH * off
                self._spread += _SMOOTH * (abs(off) - self._spread)
        else:
            place.admitted.cancel()
            self._waiting -= place.answers
            self._left += 1
        self._let_in()
        if self._left > _MOST_LEFT and self._left > len(self._heap) // 2:
            self._heap = [each for each in self._heap if not each.gone]
            heapq.heapify(self._heap)
            self._left = 0

    def position(self, place: Place) -> int:
        """Its place now, from 1; 0 when it is in."""
        if place.is_in:
            return 0
        return 1 + sum(1 for each in self._heap if not each.gone and each.order < place.order)

    def estimate(self, count: int) -> float:
        """Seconds until `count` of the answers that wait may have come in."""
        now = self._clock()
        run = [now - place.began for place in self._inside.values() for _ in range(min(place.answers, self._answers))]
        # Where those that run have taken longer than usual already, answers have become longer.
        usual = max(self._seconds + self._spread, sum(run) / max(len(run), 1))
        left = [max(usual - seconds, _OVERDUE * usual) for seconds in run]
        if not left:
            return (count - 1) // self._answers * usual
        # Each that leaves makes room for one, which takes its time in turn.
        rounds, which = divmod(max(count, 1) - 1, len(left))
        return rounds * usual + sorted(left)[which]

    def _account(self, place: Place, start: float) -> None:
        self._finish[place.key] = start + max(place.tokens, 1)
        self._active[place.key] += 1

    def _fits(self, place: Place) -> bool:
        if self._running == 0:
            return True  # Alone, a request may be larger than all the room: the engine takes it piece by piece.
        if self._running + place.answers > self._answers:
            return False
        return self.tokens is None or self._held + place.tokens <= self.tokens

    def _admit(self, place: Place) -> None:
        self._running += place.answers
        self._held += place.tokens
        self._virtual = max(self._virtual, place.order[1])
        self._inside[place.order[2]] = place
        place.began = self._clock()
        place.admitted.set_result(None)

    def _let_in(self) -> None:
        while self._heap:
            place = self._heap[0]
            if not place.gone:
                if not self._fits(place):
                    return
                self._waiting -= place.answers
                self._admit(place)
            else:
                self._left -= 1
            heapq.heappop(self._heap)
