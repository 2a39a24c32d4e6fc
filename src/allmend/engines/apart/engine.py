"""A text engine in a process of its own, as its server sees it."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any

from allmend.engines.apart.flights import Flight, Flights
from allmend.engines.apart.line import Line, pickled
from allmend.engines.apart.process import EngineProcess
from allmend.engines.apart.restarts import Restarts
from allmend.engines.apart.standing import Standing
from allmend.engines.apart.wire import AdapterFile, Answer, Build, Call, Cancel, Pieces, Ready, Submit
from allmend.engines.text import (
    AdapterUse,
    Completion,
    Piece,
    Restarting,
    Scored,
    Sink,
    TextRequest,
    Usage,
    gather,
    together,
)
from allmend.errors import Unavailable

_log = logging.getLogger(__name__)
_CALL_SECONDS = 300.0
_LOOK = 0.5
"""Seconds between looks whether an engine whose process is not there is closed meanwhile."""


class ApartTicket:
    """A request that was handed on.

    Attributes:
        accepted: done when the process has taken it; holds the error where it has not.
        cancelled: its end was asked for.
    """

    def __init__(self, engine: ApartEngine, number: int) -> None:
        self._engine, self.number = engine, number
        self.accepted: Future[None] = Future()
        self.cancelled = False
        # Who waits for it can give up; it is ended once, by the engine alone.
        self.accepted.set_running_or_notify_cancel()

    def cancel(self) -> None:
        """End it soon."""
        self._engine._cancel(self.number)


class ApartEngine:
    """The engine; see `start`."""

    def __init__(self, build: Build, limit: float = 0.0) -> None:
        self._build, self._limit = build, limit
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._flights = Flights(lambda message: self._line.say(message))
        self._calls: dict[int, Future[Any]] = {}
        self._adapters = Standing()
        self._up = threading.Event()
        self._closing = self._failing = False
        self._over = threading.Event()
        self._restarts = Restarts()
        self._process = EngineProcess(build, limit)
        self._ready = self._process.get_ready()
        self._line = Line(self._process.connection)
        self._came_up()
        self._thread = threading.Thread(target=self._run, name="allmend-engine-apart", daemon=True)
        self._thread.start()

    @property
    def about(self) -> dict[str, Any]:
        """What the build function told beside the engine."""
        return self._ready.about

    @property
    def context(self) -> int:
        """Most tokens that prompt and answer may have together."""
        return self._ready.context

    @property
    def memory_tokens(self) -> int | None:
        """Tokens of keys and values that it holds."""
        return self._ready.memory_tokens

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def restarts(self) -> int:
        """How often its process was started again."""
        return self._restarts.count

    @property
    def started(self) -> float:
        """`time.monotonic()` of the last time that its process was ready."""
        return self._restarts.started

    @property
    def away(self) -> float:
        """Seconds until another attempt to start it, where it has ended again and again; else 0."""
        return self._restarts.away

    @property
    def is_up(self) -> bool:
        """Whether the process is there and built."""
        return self._up.is_set()

    def adapters(self) -> tuple[str, ...]:
        """Names that can be used."""
        return self._adapters.names()

    def add_adapter(self, name: str, weights: object) -> None:
        """Make an adapter usable; raises `InputError` where it does not fit the base."""
        folder, identity = getattr(weights, "folder", None), getattr(weights, "identity", None)
        sent = AdapterFile(str(folder), str(identity)) if folder is not None else weights
        self._call("add_adapter", name, sent)
        self._adapters.add(name, sent)

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter; requests that use it run to their end."""
        if self._adapters.remove(name):
            self._call("remove_adapter", name)

    def load(self) -> tuple[int, int]:
        """(answers being generated, answers that wait for the process)."""
        with self._lock:
            return self._flights.counts()

    def submit(self, request: TextRequest, sink: Sink) -> ApartTicket:
        """Take a request; its pieces go to `sink` on a thread of this engine. It waits where the process starts.

        Raises:
            Restarting: the process has ended again and again, or did each time that it had this request.
        """
        self._adapters.check(request.adapters)
        number = next(self._numbers)
        ticket = ApartTicket(self, number)
        message = pickled(Submit(number, request))
        with self._lock:
            if self._closing:
                raise Unavailable("the engine is closed")
            self._check_there()
            self._flights.put(Flight(number, request, message, sink, ticket))
        return ticket

    def generate(self, requests: Sequence[TextRequest]) -> Iterator[tuple[int, Piece]]:
        """Run requests together; (index of the request, piece) as they come. Closing it cancels the rest."""
        return together(self.submit, requests)

    def complete(self, requests: Sequence[TextRequest]) -> list[Completion]:
        """Run requests together and return whole answers, in order."""
        return gather(len(requests), self.generate(requests))

    def score(
        self, prompt: Sequence[int], completions: Sequence[Sequence[int]], adapters: tuple[AdapterUse, ...] = ()
    ) -> list[Scored]:
        """How likely each completion is right after `prompt`."""
        found: list[Scored] = self._call("score", tuple(prompt), tuple(map(tuple, completions)), adapters)
        return found

    def close(self) -> None:
        """Stop; what still runs ends as `cancelled`."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._over.set()
            line, process, is_up = self._line, self._process, self._up.is_set()
        line.end()
        if not is_up:
            process.kill()  # One that still loads does not hear that it is to end.
        process.hang_up()
        process.end()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=30)
        self._fail("cancelled", "the engine is closed")

    def _check_there(self) -> None:
        if away := self._restarts.away:
            raise Restarting("the engine's process ended again and again; it is started later", away)

    def _came_up(self) -> None:
        with self._lock:
            self._restarts.came_up()
            self._flights.came_up()
            self._failing = False
            self._up.set()

    def _run(self) -> None:
        """Hand pieces on; when the process is gone, tell those it left, and start another."""
        while not self._is_closing():
            self._listen(self._line.connection)
            if self._is_closing():
                break
            self._line.end()
            self._process.hang_up()
            with self._lock:
                self._up.clear()
                lost = self._flights.lose()
            self._tell(lost, "lost", "the engine's process ended")
            self._process.end()
            pause = self._restarts.ended(ready=True)
            words = "the engine's process ended (%s) with %d answers under way; it starts again in %.1f s"
            _log.error(words, self._process.why, len(lost), pause)
            if not self._start_again(pause):
                break
        self._line.end()

    def _listen(self, connection: Connection) -> None:
        while True:
            try:
                message = connection.recv()
            except (EOFError, OSError):
                return
            except Exception:
                _log.exception("what the engine's process said cannot be read; the process is ended")
                self._process.kill()
                return
            if isinstance(message, Pieces):
                for number, piece in message.pieces:
                    self._pass_on(number, piece)
            elif isinstance(message, Answer):
                self._answered(message)

    def _pass_on(self, number: int, piece: Piece) -> None:
        if piece.finish == "cancelled" and self._is_failing(number):
            return
        if piece.finish is None:
            known = self._flights.get(number)
        else:
            known = self._land(number, ended=piece.finish in ("stop", "length", "error"))
        if known is None:
            return
        if piece.finish is not None and not known.ticket.accepted.done():
            # The last piece can come before the word that the request was taken; nobody would be left to hear that.
            known.ticket.accepted.set_result(None)
        _hand(known, piece)

    def _is_failing(self, number: int) -> bool:
        """Whether the engine there has cancelled what nobody else did, as its thread does that ends by a fault.

        Its process is ended, and whoever it had is told that it was lost then, as one of them may be why.
        """
        with self._lock:
            known = self._flights.get(number)
            if known is None or known.ticket.cancelled or self._closing:
                return False
            if not self._failing:
                self._failing = True
                self._up.clear()
                self._flights.went_down()
                # It goes by itself, once it has told why.
                threading.Thread(target=self._process.end, name="allmend-engine-end", daemon=True).start()
            return True

    def _land(self, number: int, *, ended: bool) -> Flight | None:
        with self._lock:
            if ended:
                self._restarts.was_of_use()
            return self._flights.land(number, ended=ended)

    def _answered(self, message: Answer) -> None:
        call = self._calls.pop(message.number, None)
        if call is not None:
            if message.error is not None:
                call.set_exception(message.error)
            else:
                call.set_result(message.value)
            return
        known = self._flights.get(message.number)
        if message.error is not None and self._failing:
            return  # It refuses whatever comes; see `_is_failing`.
        if message.error is not None:
            self._land(message.number, ended=True)
        if known is None:
            return
        if message.error is not None:
            known.ticket.accepted.set_exception(message.error)
            # Whoever only listens hears of it too.
            _hand(known, Piece(finish="error", usage=Usage(0, 0), error=str(message.error)))
        else:
            known.ticket.accepted.set_result(None)

    def _start_again(self, pause: float) -> bool:
        while True:
            if self._restarts.away:
                self._fail("absent", "the engine's process ended again and again")
            if self._over.wait(pause):
                return False
            try:
                ready = self._another()
            except Exception as error:
                pause = self._restarts.ended(ready=False)
                if not self._is_closing():
                    why = str(error) or self._process.why
                    _log.error("the engine's process does not start (%s); it is tried again in %.1f s", why, pause)
                    self._fail("absent", f"the engine's process does not start: {why}")
                continue
            with self._lock:
                self._ready, self._line = ready, Line(self._process.connection)
            self._restarts.count += 1
            self._came_up()
            return True

    def _another(self) -> Ready:
        process = EngineProcess(self._build, self._limit)
        with self._lock:
            # From here on it is ended with this engine, also while it loads.
            self._process = process
        if self._is_closing():
            process.kill()
        ready = process.get_ready()
        try:
            self._adapters.put_back(process.connection, self._numbers)
        except BaseException:
            process.hang_up()
            process.end()
            raise
        return ready

    def _is_closing(self) -> bool:
        return self._closing

    def _fail(self, how: Any, why: str) -> None:
        with self._lock:
            left = self._flights.take_all()
        self._tell(left, how, why)

    def _tell(self, flights: Iterable[Flight], how: Any, why: str) -> None:
        for flight in flights:
            if not flight.ticket.accepted.done():
                flight.ticket.accepted.set_result(None)
            _hand(flight, Piece(finish=how, usage=Usage(0, 0), error=why))
        for number in list(self._calls):
            call = self._calls.pop(number, None)
            if call is not None:
                call.set_exception(Unavailable(why, hint="It starts again; try once more."))

    def _call(self, method: str, *arguments: Any) -> Any:
        number = next(self._numbers)
        answer: Future[Any] = Future()
        message = pickled(Call(number, method, arguments))
        until = time.monotonic() + _CALL_SECONDS
        said = False
        while not said:
            self._check_there()
            if self._closing or time.monotonic() >= until:
                raise Unavailable("the engine's process is not there", hint="It starts again; try once more.")
            self._up.wait(_LOOK)
            with self._lock:
                # Either before its end is told to those who wait, or to the next one.
                if said := self._up.is_set() and not self._closing:
                    self._calls[number] = answer
                    self._line.say(message)
        try:
            return answer.result(timeout=_CALL_SECONDS)
        except TimeoutError:
            self._calls.pop(number, None)
            raise Unavailable("the engine's process does not answer") from None

    def _cancel(self, number: int) -> None:
        with self._lock:
            known, waits = self._flights.get(number), self._flights.waits(number)
            if known is None:
                return
            known.ticket.cancelled = True
            if waits:
                self._flights.land(number)
            elif self._up.is_set():
                self._line.say(pickled(Cancel(number)))
        if waits:
            known.ticket.accepted.set_result(None)
            known.sink(Piece(finish="cancelled", usage=Usage(0, 0)))


def _hand(flight: Flight, piece: Piece) -> None:
    """Give it its piece; one that cannot be told keeps nobody else from being told."""
    try:
        flight.sink(piece)
    except Exception:
        _log.exception("a piece of an answer could not be handed on")


def start(function: str, arguments: tuple[Any, ...], *, limit: float = 0.0) -> tuple[ApartEngine, dict[str, Any]]:
    """An engine in a process of its own, which is started again when it ends.

    Args:
        function: `module:function` that the process calls with `arguments`; it gives (engine, what is to be known).
        limit: seconds without a sign of life after which the process is taken for hung and killed; 0 for never.

    Raises whatever the function raises of allmend's errors.
    """
    engine = ApartEngine(Build(function, arguments), limit)
    return engine, engine.about
