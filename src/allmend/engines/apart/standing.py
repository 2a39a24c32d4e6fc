"""Adapters that the engine's process has, and is given again whenever it starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

from allmend.engines.apart.wire import Answer, Call
from allmend.engines.text import AdapterUse
from allmend.errors import AllmendError, NotFound, Unavailable, nearest


class Standing:
    """By their names, each with what the process is sent for it."""

    def __init__(self) -> None:
        self._sent: dict[str, object] = {}
        self._refused: dict[str, AllmendError] = {}
        """Those that could not be had again when the process was started again, and why."""
        self._last_tried: str | None = None

    def names(self) -> tuple[str, ...]:
        """Names that can be used."""
        return tuple(self._sent)

    def add(self, name: str, sent: object) -> None:
        """The process has it."""
        self._sent[name] = sent
        self._refused.pop(name, None)

    def remove(self, name: str) -> bool:
        """Forget one; whether the process has it. Raises `NotFound`."""
        if self._refused.pop(name, None) is not None:
            return False
        if name not in self._sent:
            raise self._missing(name)
        del self._sent[name]
        return True

    def check(self, uses: Sequence[AdapterUse]) -> None:
        """Raise why one of them cannot be used."""
        for use in uses:
            if use.name not in self._sent:
                # The same error for everybody who asks: it must not gather all of their frames.
                why = self._refused.get(use.name)
                raise why.with_traceback(None) if why is not None else self._missing(use.name)

    def put_back(self, connection: Connection, numbers: Iterator[int]) -> None:
        """Before anything else is sent: requests that wait may name them. One that cannot be had is forgotten.

        Raises `EOFError` or `OSError` where the process ends meanwhile.
        """
        for name, sent in list(self._sent.items()):
            try:
                connection.send(Call(next(numbers), "add_adapter", (name, sent)))
                answer = connection.recv()
            except (EOFError, OSError):
                if self._last_tried == name:
                    # Twice in a row: without it the process may come up.
                    self._refuse(name, Unavailable(f"the engine's process ends where it takes the adapter {name!r}"))
                self._last_tried = name
                raise
            if isinstance(answer, Answer) and answer.error is not None:
                why = answer.error
                self._refuse(name, why if isinstance(why, AllmendError) else Unavailable(str(why)))
        self._last_tried = None

    def _refuse(self, name: str, why: AllmendError) -> None:
        self._sent.pop(name, None)
        self._refused[name] = why

    def _missing(self, name: str) -> NotFound:
        return NotFound(f"there is no adapter {name!r}", hint=nearest(name, self._sent) or None)
