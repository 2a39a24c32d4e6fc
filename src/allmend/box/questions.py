"""Questions to a person while a cell waits: one at a time, each only once, and the waiting is nobody's time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Ask = Callable[[str, str], bool]
"""Asks a person about (`host`, `name:port`) or (`secret`, NAME); True grants it for this run."""

Type = Callable[[str, bool], str | None]
"""Has a person type a line for `input()`: (prompt, hidden as for a password); None when nobody did."""

MOST = 200
"""Questions of one run; a notebook that asks for more is not worth a person's time."""


class Questions:
    """The questions of one run. Thread-safe."""

    def __init__(self, ask: Ask | None = None) -> None:
        self._ask = ask
        self._answers: dict[tuple[str, str], bool] = {}
        self._lines = 0
        self._turn = threading.Lock()
        self._waited = 0.0
        self._since: float | None = None

    def answered_by(self, ask: Ask | None) -> None:
        """Ask this person from now on."""
        self._ask = ask

    @property
    def possible(self) -> bool:
        """Whether there is anybody to ask."""
        return self._ask is not None

    def allowed(self, kind: str, what: str) -> bool:
        """Whether a person allows it; blocks until they have answered. Without a person: no."""
        if self._ask is None:
            return False
        with self._turn:
            if (kind, what) not in self._answers:
                if len(self._answers) >= MOST:
                    return False
                with self._waiting():
                    self._answers[kind, what] = self._ask(kind, what)
            return self._answers[kind, what]

    def typed(self, by: Type, prompt: str, hidden: bool) -> str | None:
        """The line that a person types; blocks until they have. None after the last question that a run may ask."""
        with self._turn:
            if self._lines >= MOST:
                return None
            self._lines += 1
            with self._waiting():
                return by(prompt, hidden)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """What passes inside is nobody's time."""
        begun = self._since = time.monotonic()
        try:
            yield
        finally:
            self._waited += time.monotonic() - begun
            self._since = None

    def has_allowed(self, kind: str, what: str) -> bool:
        """Whether a person has already said yes to it."""
        return self._answers.get((kind, what), False)

    def waited(self) -> float:
        """Seconds that went by while a question was open; limits on time do not count them."""
        since = self._since
        return self._waited + (time.monotonic() - since if since is not None else 0.0)
