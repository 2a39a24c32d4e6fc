"""A text engine in a process of its own, as its server sees it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any

from allmend.engines.apart.line import Line, pickled
from allmend.engines.apart.process import EngineProcess
from allmend.engines.apart.wire import AdapterFile, Answer, Build, Call, Cancel, Pieces, Submit
from allmend.engines.text import (
    AdapterUse,
    Completion,
    Piece,
    Scored,
    Sink,
    TextRequest,
    Usage,
    gather,
    together,
)
from allmend.errors import AllmendError, NotFound, Unavailable, nearest

_PAUSES = (0.0, 0.5, 2.0, 8.0, 30.0)
"""Seconds before each further attempt to start a process that does not come up."""
_CALL_SECONDS = 300.0
_LOOK = 0.5
"""Seconds between looks whether an engine whose process is not there is closed meanwhile."""


class ApartTicket:
    """A request that was handed on.

    Attributes:
        accepted: done when the process has taken it; holds the error where it has not.
    """

    def __init__(self, engine: ApartEngine, number: int) -> None:
        self._engine, self.number = engine, number
        self.accepted: Future[None] = Future()
        # Who waits for it can give up; it is ended once, by the engine alone.
        self.accepted.set_running_or_notify_cancel()

    def cancel(self) -> None:
        """End it soon."""
        self._engine._cancel(self.number)


class ApartEngine:
    """The engine; see `start`.

    Attributes:
        restarts: how often its process was started again.
        started: `time.monotonic()` of the last time that it was ready.
    """

    def __init__(self, build: Build) -> None:
        self._build = build
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._sinks: dict[int, tuple[Sink, ApartTicket]] = {}
        self._calls: dict[int, Future[Any]] = {}
        self._adapters: dict[str, object] = {}
        self._refused: dict[str, AllmendError] = {}
        """Adapters that could not be had again when the process was started again, and why."""
        self._up = threading.Event()
        self._waiting: list[tuple[int, Any]] = []
        self._closing = False
        self.restarts = 0
        self.started = 0.0
        self._process = EngineProcess(build)
        self._line = Line(self._process.connection)
        self._came_up()
        self._thread = threading.Thread(target=self._run, name="allmend-engine-apart", daemon=True)
        self._thread.start()

    @property
    def about(self) -> dict[str, Any]:
        """What the build function told beside the engine."""
        return self._process.ready.about

    @property
    def context(self) -> int:
        """Most tokens that prompt and answer may have together."""
        return self._process.ready.context

    @property
    def memory_tokens(self) -> int | None:
        """Tokens of keys and values that it holds."""
        return self._process.ready.memory_tokens

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def is_up(self) -> bool:
        """Whether the process is there and built."""
        return self._up.is_set()

    def adapters(self) -> tuple[str, ...]:
        """Names that can be used."""
        return tuple(self._adapters)

    def add_adapter(self, name: str, weights: object) -> None:
        """Make an adapter usable; raises `InputError` where it does not fit the base."""
        folder, identity = getattr(weights, "folder", None), getattr(weights, "identity", None)
        sent = AdapterFile(str(folder), str(identity)) if folder is not None else weights
        self._call("add_adapter", name, sent)
        self._adapters[name] = sent
        self._refused.pop(name, None)

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter; requests that use it run to their end."""
        if self._refused.pop(name, None) is not None:
            return
        if name not in self._adapters:
            raise self._no_adapter(name)
        del self._adapters[name]
        self._call("remove_adapter", name)

    def load(self) -> tuple[int, int]:
        """(answers being generated, answers that wait for the process)."""
        with self._lock:
            return len(self._sinks) - len(self._waiting), len(self._waiting)

    def submit(self, request: TextRequest, sink: Sink) -> ApartTicket:
        """Take a request; its pieces go to `sink` on a thread of this engine. It waits where the process starts."""
        for use in request.adapters:
            if use.name not in self._adapters:
                # The same error for everybody who asks: it must not gather all of their frames.
                why = self._refused.get(use.name)
                raise why.with_traceback(None) if why is not None else self._no_adapter(use.name)
        number = next(self._numbers)
        ticket = ApartTicket(self, number)
        message = pickled(Submit(number, request))
        with self._lock:
            if self._closing:
                raise Unavailable("the engine is closed")
            self._sinks[number] = (sink, ticket)
            if self._up.is_set():
                self._line.say(message)
            else:
                self._waiting.append((number, message))
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
        self._line.hang_up()
        self._process.end()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=30)
        self._fail("cancelled", "the engine is closed")

    def _no_adapter(self, name: str) -> NotFound:
        return NotFound(f"there is no adapter {name!r}", hint=nearest(name, self._adapters) or None)

    def _came_up(self) -> None:
        self.started = time.monotonic()
        with self._lock:
            waiting, self._waiting = self._waiting, []
            for _, message in waiting:
                self._line.say(message)
            self._up.set()

    def _run(self) -> None:
        """Hand pieces on; when the process is gone, tell those it left, and start another."""
        while not self._is_closing():
            self._listen(self._line.connection)
            self._up.clear()
            if self._is_closing():
                return
            self._line.hang_up()
            self._fail("lost", "the engine's process ended")
            self._process.end()
            if not self._start_again():
                return

    def _listen(self, connection: Connection) -> None:
        while True:
            try:
                message = connection.recv()
            except (EOFError, OSError):
                return
            if isinstance(message, Pieces):
                for number, piece in message.pieces:
                    self._pass_on(number, piece)
            elif isinstance(message, Answer):
                self._answered(message)

    def _pass_on(self, number: int, piece: Piece) -> None:
        with self._lock:
            known = self._sinks.pop(number, None) if piece.finish is not None else self._sinks.get(number)
        if known is None:
            return
        if piece.finish is not None and not known[1].accepted.done():
            # The last piece can come before the word that the request was taken; nobody would be left to hear that.
            known[1].accepted.set_result(None)
        known[0](piece)

    def _answered(self, message: Answer) -> None:
        call = self._calls.pop(message.number, None)
        if call is not None:
            if message.error is not None:
                call.set_exception(message.error)
            else:
                call.set_result(message.value)
            return
        with self._lock:
            known = self._sinks.get(message.number)
            if message.error is not None:
                self._sinks.pop(message.number, None)
        if known is None:
            return
        if message.error is not None:
            known[1].accepted.set_exception(message.error)
            # Whoever only listens hears of it too.
            known[0](Piece(finish="error", usage=Usage(0, 0), error=str(message.error)))
        else:
            known[1].accepted.set_result(None)

    def _start_again(self) -> bool:
        for attempt in itertools.count():
            time.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
            if self._is_closing():
                return False
            try:
                process = EngineProcess(self._build)
            except Exception as error:
                self._fail("lost", f"the engine's process does not start: {error}")
                continue
            with self._lock:
                self._process, self._line = process, Line(process.connection)
                if self._is_closing():
                    self._line.hang_up()
                    process.end()
                    return False
            self.restarts += 1
            self._put_adapters_back(process.connection)
            self._came_up()
            return True
        return False

    def _put_adapters_back(self, connection: Connection) -> None:
        """Before anything else is sent: requests that wait may name them. One that cannot be had is forgotten."""
        for name, weights in list(self._adapters.items()):
            number = next(self._numbers)
            try:
                connection.send(Call(number, "add_adapter", (name, weights)))
                answer = connection.recv()
            except (EOFError, OSError):
                return  # It ended again; `_run` sees that too.
            if isinstance(answer, Answer) and answer.error is not None:
                self._adapters.pop(name, None)
                why = answer.error
                self._refused[name] = why if isinstance(why, AllmendError) else Unavailable(str(why))

    def _is_closing(self) -> bool:
        return self._closing

    def _fail(self, how: Any, why: str) -> None:
        with self._lock:
            left, self._sinks = self._sinks, {}
            self._waiting = []
        for sink, ticket in left.values():
            if not ticket.accepted.done():
                ticket.accepted.set_result(None)
            sink(Piece(finish=how, usage=Usage(0, 0), error=why))
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
            known = self._sinks.get(number)
            waits = [each for each in self._waiting if each[0] == number]
            if known is None:
                return
            if waits:
                self._waiting.remove(waits[0])
                del self._sinks[number]
            elif self._up.is_set():
                self._line.say(pickled(Cancel(number)))
        if waits:
            known[1].accepted.set_result(None)
            known[0](Piece(finish="cancelled", usage=Usage(0, 0)))


def start(function: str, arguments: tuple[Any, ...]) -> tuple[ApartEngine, dict[str, Any]]:
    """An engine in a process of its own, which is started again when it ends.

    Args:
        function: `module:function` that the process calls with `arguments`; it gives (engine, what is to be known).

    Raises whatever the function raises of allmend's errors.
    """
    engine = ApartEngine(Build(function, arguments))
    return engine, engine.about
