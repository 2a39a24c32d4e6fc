"""Whether the engine's process gets on: it says so in a pipe of its own, and its server looks at that.

A process that is gone closes its socket; one that hangs (a deadlock, a native loop, a stop signal) does not, and would
be waited for without end. So a thread of it tells once a second how far the engine has come, and whether there is
something to come on with. Two things mean that it hangs: nothing is heard at all, or something is to be done and the
engine stays in the same step.

Native code may hold the interpreter as long as it works, and nothing can be told meanwhile: while modules are read and
the engine is built, and where llama.cpp reads a file. There the system is asked whether the process works.

Time is counted by the looks that the server had: where the whole machine slept, or the server itself was stopped,
nothing is counted, since the process had no chance to say anything either.
"""

from __future__ import annotations

import os
import select
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_TOKEN_SECONDS = 1.0
"""Seconds that a step may take longer for each token that it computes."""
_EVERY = 1.0
"""Seconds between beats at most."""
_FIRST = 60.0
"""Seconds at least in which the first one comes: the interpreter and what it reads are on a disk that may be slow."""
_WORK = 5
"""Units of `work` in each second with which a silent process gets on. Each of its threads that waits for the
interpreter looks for it all the time, which is a third of a unit."""
_FORM = struct.Struct("<QIB")


@dataclass(frozen=True, slots=True)
class Beat:
    """What a process says of itself."""

    progress: int
    """Another number than before where the engine has come on."""
    tokens: int = 0
    """Tokens that the step computes in which it is."""
    busy: bool = False
    """Whether something is to be done."""
    counted: bool = True
    """Whether its engine counts steps. Another one gets on as long as it works, also where it cannot say so."""

    def packed(self) -> bytes:
        """As it is written into the pipe."""
        return _FORM.pack(self.progress % 2**64, self.tokens % 2**32, self.busy + 2 * self.counted)

    @classmethod
    def all_in(cls, said: bytes) -> Iterator[Beat]:
        """Those that were written one after the other."""
        for progress, tokens, flags in _FORM.iter_unpack(said[: len(said) // _FORM.size * _FORM.size]):
            yield cls(progress, tokens, bool(flags & 1), bool(flags & 2))


def work(pid: int) -> int:
    """How much a process has done: hundredths of a second of processor time, pages and MiB read from a disk.

    0 where the system does not tell.
    """
    try:
        # Its name, in brackets, may hold anything.
        values = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        done = int(values[9]) + 100 * (int(values[11]) + int(values[12])) // os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0
    try:
        told = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
        return done + int(told["read_bytes"]) // 2**20
    except (OSError, KeyError, ValueError):
        return done  # Not everybody may read that.


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
                os.write(descriptor, found.packed())
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
        done: `work` of the process.
    """

    def __init__(self, limit: float, done: Callable[[], int] = lambda: 0) -> None:
        self._limit, self._done = limit, done
        self._silent = self._still = 0.0
        self._last: Beat | None = None
        self._built = False
        self._before: int | None = None
        """`done` when it was heard last."""

    def built(self) -> None:
        """Its engine is built."""
        self._built, self._silent = True, 0.0

    def heard(self, beat: Beat) -> None:
        """It has told this."""
        self._silent, self._before = 0.0, None
        if self._last is None or beat.progress != self._last.progress or not beat.busy:
            self._still = 0.0
        self._last = beat

    def passed(self, seconds: float) -> str | None:
        """So much time went by; what is wrong with it, once it is taken for hung."""
        self._silent += seconds
        self._still += seconds
        last = self._last
        by_work = not self._built or (last is not None and not last.counted)
        if by_work and self._before is None:
            self._before = self._done()
        if self._silent >= (self._limit if self._built else max(self._limit, _FIRST)):
            if not (by_work and self._has_worked()):
                return f"it has not been heard of for {self._silent:.0f} s"
            self._silent = self._still = 0.0
        # Of one that gets on by its work nothing is known as long as it is silent, for which there is the limit above.
        if last is None or not last.busy or not (last.counted or self._silent <= seconds):
            return None
        if self._still >= self._limit + _TOKEN_SECONDS * last.tokens:
            return f"it has been in one step for {self._still:.0f} s"
        return None

    def _has_worked(self) -> bool:
        before, self._before = self._before or 0, self._done()
        return self._before - before >= _WORK * self._silent


class Watch:
    """Listens to a process, from a thread, until that has ended or hangs.

    Args:
        descriptor: the pipe's end; it is this watch's from now on.
        limit: seconds; 0 never finds that it hangs.
        hung: told once, with why.
        done: `work` of the process.
    """

    def __init__(
        self, descriptor: int, limit: float, hung: Callable[[str], None], done: Callable[[], int] = lambda: 0
    ) -> None:
        self._descriptor, self._limit, self._hung, self._done = descriptor, limit, hung, done
        self._built = threading.Event()
        threading.Thread(target=self._run, name="allmend-engine-watch", daemon=True).start()

    def built(self) -> None:
        """Its engine is built: from now on it is not to be silent for longer than the limit."""
        self._built.set()

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
        tick, patience, before = every(self._limit), Patience(self._limit, self._done), time.monotonic()
        is_built = False
        while True:
            if not is_built and (is_built := self._built.is_set()):
                patience.built()
            if waiting.poll(1000 * tick):
                # Small and whole: what is written at once into a pipe is read so.
                said = os.read(self._descriptor, 64 * _FORM.size)
                if not said:
                    return None
                for beat in Beat.all_in(said):
                    patience.heard(beat)
            now = time.monotonic()
            if why := patience.passed(min(now - before, 2 * tick)):
                return why
            before = now
