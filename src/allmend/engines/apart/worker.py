"""The engine's process: builds the real engine, and passes requests in and pieces out.

It ends when the server's end of the socket closes, so it never outlives its server. Ctrl-C and SIGTERM are the
server's to act on.
"""

from __future__ import annotations

import importlib
import os
import queue
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from allmend.engines.apart.pulse import Beat, beat
from allmend.engines.apart.wire import AdapterFile, Answer, Build, Call, Cancel, Pieces, Ready, Submit
from allmend.engines.text import Piece, TextEngine, Ticket
from allmend.errors import AllmendError, InputError, Unavailable


def main(descriptor: int, pulse: int, limit: float) -> None:
    """Serve one server, on this end of its socket pair, to its end.

    Args:
        pulse: the pipe in which it tells that it gets on.
        limit: seconds without a word there after which it is killed; 0 for never.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for inherited in (descriptor, pulse):
        # A process that an engine starts must not hold them open when this one is gone.
        os.set_inheritable(inherited, False)
    connection = Connection(descriptor)
    workers: list[_Worker] = []
    if limit:
        # From the beginning: loading takes its time, in which nothing but being alive is asked for.
        beat(pulse, limit, lambda: workers[0].beat() if workers else Beat(0, counted=False))
    build = connection.recv()
    assert isinstance(build, Build)
    try:
        module, _, name = build.function.partition(":")
        engine, about = getattr(importlib.import_module(module), name)(*build.arguments)
    except Exception as error:
        connection.send(Answer(0, error=_portable(error)))
        return
    connection.send(Ready(engine.context, getattr(engine, "memory_tokens", None), about))
    worker = _Worker(engine, connection, limit)
    workers.append(worker)
    worker.run()
    # Whatever threads the engine still has: nobody is left to talk to.
    os._exit(0)


_GRAMMARS_AT_ONCE = 4
"""Grammars that are compiled beside each other."""


class _Worker:
    def __init__(self, engine: TextEngine, connection: Connection, limit: float = 0.0) -> None:
        self._engine, self._connection, self._limit = engine, connection, limit
        self._out: queue.SimpleQueue[tuple[int, Piece] | Answer] = queue.SimpleQueue()
        self._tickets: dict[int, Ticket] = {}
        self._early: dict[int, bool] = {}
        """Requests whose grammar is being compiled: whether they were cancelled meanwhile."""
        self._guard = threading.Lock()
        self._taken = 0
        """Messages."""
        self._taking = False
        self._compiling = ThreadPoolExecutor(_GRAMMARS_AT_ONCE, thread_name_prefix="allmend-grammar")
        threading.Thread(target=self._write, name="allmend-pieces", daemon=True).start()

    def run(self) -> None:
        """Take messages until the server is gone."""
        while True:
            try:
                message = self._connection.recv()
            except (EOFError, OSError):
                return
            self._taken, self._taking = self._taken + 1, True
            if isinstance(message, Submit):
                if message.request.sampling.grammar is None:
                    self._submit(message)
                else:
                    # Compiling one can take seconds, which whoever comes next is not to wait for.
                    self._early[message.number] = False
                    self._compiling.submit(self._submit, message)
            elif isinstance(message, Cancel):
                self._cancel(message.number)
            elif isinstance(message, Call):
                # Reading an adapter takes its time; requests are not to wait for that.
                threading.Thread(target=self._call, args=(message,), daemon=True).start()
            self._taking = False

    def beat(self) -> Beat:
        """How far the engine has come."""
        engine = self._engine
        if getattr(engine, "has_ended", False):
            os._exit(1)  # By a fault of its own: it would refuse all that comes. Another one does not.
        steps = getattr(engine, "steps", None)
        if not any(engine.load()):
            return Beat(self._taken, busy=self._taking, counted=steps is not None)
        if steps is None:
            # One that does not tell its steps works as long as it takes processor time; these words take some, too.
            return Beat(int(1000 * time.process_time() / self._limit), busy=True, counted=False)
        return Beat(steps, getattr(engine, "step_tokens", 0), True)

    def _submit(self, message: Submit) -> None:
        number = message.number
        ended = threading.Event()

        def sink(piece: Piece) -> None:
            if piece.finish is not None:
                ended.set()
            self._out.put((number, piece))

        try:
            ticket = self._engine.submit(message.request, sink)
        except Exception as error:
            self._early.pop(number, None)
            self._out.put(Answer(number, error=_portable(error)))
            return
        with self._guard:
            self._tickets[number] = ticket
            cancelled = self._early.pop(number, False)
        if cancelled:
            ticket.cancel()
        if ended.is_set():
            # Its last piece may have been sent before there was a ticket to take away.
            self._tickets.pop(number, None)
        self._out.put(Answer(number))

    def _cancel(self, number: int) -> None:
        with self._guard:
            ticket = self._tickets.get(number)
            if ticket is None and number in self._early:
                self._early[number] = True
        if ticket is not None:
            ticket.cancel()

    def _call(self, message: Call) -> None:
        try:
            arguments = tuple(_opened(each) for each in message.arguments)
            value = getattr(self._engine, message.method)(*arguments)
            if message.method == "remove_adapter":
                value = None  # What the engine had laid out stays in its process.
        except Exception as error:
            self._out.put(Answer(message.number, error=_portable(error)))
            return
        self._out.put(Answer(message.number, value))

    def _write(self) -> None:
        while True:
            items = [self._out.get()]
            try:
                while len(items) < 1000:
                    items.append(self._out.get_nowait())
            except queue.Empty:
                pass
            pieces: list[tuple[int, Piece]] = []
            answers: list[Answer] = []
            for item in items:
                if isinstance(item, Answer):
                    answers.append(item)
                else:
                    pieces.append(item)
                    if item[1].finish is not None:
                        self._tickets.pop(item[0], None)
            try:
                for answer in answers:
                    self._connection.send(answer)
                if pieces:
                    self._connection.send(Pieces(tuple(pieces)))
            except OSError:
                os._exit(0)


def _opened(argument: Any) -> Any:
    if not isinstance(argument, AdapterFile):
        return argument
    from allmend import adapters

    weights = adapters.read(Path(argument.folder))
    if weights.identity != argument.identity:
        raise InputError("the adapter's files have changed since it was put into service", where=argument.folder)
    return weights


def _portable(error: Exception) -> Exception:
    """The error as it can be sent; others than allmend's own by their words."""
    return error if isinstance(error, AllmendError) else Unavailable(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
