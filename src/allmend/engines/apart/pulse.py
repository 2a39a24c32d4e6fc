"""Whether the engine's process gets on: it says so in a pipe of its own, and its server looks at that.

A process that is gone closes its socket; one that hangs (a deadlock, a native loop, a stop signal) does not, and would
be waited for without end. So a thread of it tells once a second how far the engine has come, and whether there is
something to come on with. Two things mean that it hangs: nothing is heard at all, or something is to be done and the
engine stays in the same step.

Time is counted by the looks that the server had: where the whole machine slept, or the server itself was stopped,
nothing is counted, since the process had no chance to say anything either.
"""

from __future__ import annotations

import os
import select
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

_TOKEN_SECONDS = 1.0
"""Seconds that a step may take longer for each token that it computes."""
_EVERY = 1.0
"""Seconds between beats at most."""
_FIRST = 60.0
"""Seconds at least in which the first one comes: the interpreter and what it reads are on a disk that may be slow."""
_FORM = struct.Struct("<QI?")


@dataclass(frozen=True, slots=True)
class Beat:
    """What a process says of itself."""

    progress: int
    """Another number than before where the engine has come on."""
    tokens: int = 0
    """Tokens that the step computes in which it is."""
    busy: bool = False
    """Whether something is to be done."""


def every(limit: float) -> float:
    """Seconds between beats, where so many without a sign of life end a process."""
    return min(_EVERY, limit / 8)


def beat(descriptor: int, limit: float, look: Callable[[], Beat]) -> None:
    """Tell what `look` finds, from a thread; where nobody listens any more, this process ends.

    Args:
        descriptor: the pipe's end; it is this function's from now on.
        limit: as `Watch` has it.
    """
    os.set_blocking(descriptor, False)

    def run() -> None:
        while True:
            found = look()
            try:
                os.write(descriptor, _FORM.pack(found.progress % 2**64, found.tokens % 2**32, found.busy))
            except BlockingIOError:
                pass  # The server is stopped. A later beat says all that this one would have.
            except OSError:
                os._exit(1)  # The server is gone, perhaps while this process still loads.
            time.sleep(every(limit))

    threading.Thread(target=run, name="allmend-pulse", daemon=True).start()


class Patience:
    """How long a process has not come on.

    Args:
        limit: seconds without a sign of life after which it is taken for hung.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._silent = self._still = 0.0
        self._last: Beat | None = None

    def heard(self, beat: Beat) -> None:
        """It has told this."""
        self._silent = 0.0
        if self._last is None or beat.progress != self._last.progress or not beat.busy:
            self._still = 0.0
        self._last = beat

    def passed(self, seconds: float) -> str | None:
        """So much time went by; what is wrong with it, once it is taken for hung."""
        self._silent += seconds
        if self._silent >= (max(self._limit, _FIRST) if self._last is None else self._limit):
            return f"it has not been heard of for {self._silent:.0f} s"
        if self._last is not None and self._last.busy:
            self._still += seconds
            if self._still >= self._limit + _TOKEN_SECONDS * self._last.tokens:
                return f"it has been in one step for {self._still:.0f} s"
        return None


class Watch:
    """Listens to a process, from a thread, until that has ended or hangs.

    Args:
        descriptor: the pipe's end; it is this watch's from now on.
        limit: seconds; 0 never finds that it hangs.
        hung: told once, with why.
    """

    def __init__(self, descriptor: int, limit: float, hung: Callable[[str], None]) -> None:
        self._descriptor, self._limit, self._hung = descriptor, limit, hung
        threading.Thread(target=self._run, name="allmend-engine-watch", daemon=True).start()

    def _run(self) -> None:
        try:
            why = self._listened() if self._limit else None
        finally:
            os.close(self._descriptor)
        if why is not None:
            self._hung(why)

    def _listened(self) -> str | None:
        waiting = select.poll()
        waiting.register(self._descriptor, select.POLLIN)
        tick, patience, before = every(self._limit), Patience(self._limit), time.monotonic()
        while True:
            if waiting.poll(1000 * tick):
                # Small and whole: what is written at once into a pipe is read so.
                said = os.read(self._descriptor, 64 * _FORM.size)
                if not said:
                    return None
                for values in _FORM.iter_unpack(said[: len(said) // _FORM.size * _FORM.size]):
                    patience.heard(Beat(*values))
            now = time.monotonic()
            if why := patience.passed(min(now - before, 2 * tick)):
                return why
            before = now
