"""Requests that the engine has taken and that have not ended: said to its process, or still waiting for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from allmend.engines.apart.suspects import HELD, MOST, Suspects
from allmend.engines.text import Restarting, Sink, TextRequest

if TYPE_CHECKING:
    from allmend.engines.apart.engine import ApartTicket


@dataclass(frozen=True, slots=True, eq=False)
class Flight:
    """A request that was taken and has not ended."""

    number: int
    request: TextRequest
    message: Any
    """As it is said to the process."""
    sink: Sink
    ticket: ApartTicket
    count: int = 0
    """Ends of the process that it was in flight for when it was taken; `Flights.put` knows."""


class Flights:
    """All of them; whoever calls holds the engine's lock.

    Args:
        say: says a message to the process.
    """

    def __init__(self, say: Callable[[Any], None]) -> None:
        self._say = say
        self._all: dict[int, Flight] = {}
        self._waiting: dict[int, None] = {}
        """Until the process is there, in order."""
        self._held: dict[int, None] = {}
        """Under suspicion, while another one is computed."""
        self._suspects = Suspects()
        self._suspect: int | None = None
        self._up = False

    def counts(self) -> tuple[int, int]:
        """(said to the process, waiting)."""
        waiting = len(self._waiting) + len(self._held)
        return len(self._all) - waiting, waiting

    def put(self, flight: Flight) -> None:
        """Take a request; raises `Restarting` where the process ended each time that it had it."""
        count = self._suspects.count(flight.request)
        if count >= MOST:
            raise Restarting(f"the engine ended each of the last {MOST} times that it had this request", None)
        self._all[flight.number] = replace(flight, count=count)
        if self._up:
            self._send(flight.number)
        else:
            self._waiting[flight.number] = None

    def get(self, number: int) -> Flight | None:
        """One of them."""
        return self._all.get(number)

    def waits(self, number: int) -> bool:
        """Whether it was not said to the process yet."""
        return number in self._waiting or number in self._held

    def land(self, number: int, *, ended: bool = False) -> Flight | None:
        """Take one out.

        Args:
            ended: it came to an end by itself, so it is not what ends the process.
        """
        flight = self._all.pop(number, None)
        if flight is None:
            return None
        self._waiting.pop(number, None)
        self._held.pop(number, None)
        if ended:
            self._suspects.clear(flight.request)
        if number == self._suspect:
            self._suspect = None
            while self._held and self._suspect is None:
                following = next(iter(self._held))
                del self._held[following]
                self._send(following)
        return flight

    def came_up(self) -> None:
        """The process is there: say what waits to it."""
        self._up = True
        waiting, self._waiting = self._waiting, {}
        for number in waiting:
            self._send(number)

    def went_down(self) -> None:
        """The process takes nothing any more: who comes from now on waits for the next one."""
        self._up = False

    def lose(self) -> list[Flight]:
        """The process is gone: take out what it had. The others wait for the next one."""
        self.went_down()
        self._waiting = {**self._held, **self._waiting}
        self._held, self._suspect = {}, None
        lost = [self._all.pop(number) for number in list(self._all) if number not in self._waiting]
        self._suspects.blame((each.request, each.count) for each in lost)
        return lost

    def take_all(self) -> list[Flight]:
        """Take everything out."""
        left = list(self._all.values())
        self._all, self._waiting, self._held, self._suspect = {}, {}, {}, None
        return left

    def _send(self, number: int) -> None:
        """Say it, or hold it back while another one under suspicion is computed."""
        flight = self._all[number]
        if max(flight.count, self._suspects.count(flight.request)) >= HELD:
            if self._suspect is not None:
                self._held[number] = None
                return
            self._suspect = number
        self._say(flight.message)
