"""A terminal while a notebook runs: its outputs stream, and what is not permitted is asked about, once.

The notebook's text is hostile. It carries no control characters, and every line of it, also one that the terminal
would break, begins with a bar: a line that begins without one is allmend's own and cannot be made up. While a
question is open nothing else is written, and what was typed before it was asked does not answer it.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import sys
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from allmend.box.outputs import Shown
    from allmend.nouns.receipt import CellRecord

BAR = "│ "
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.")
_MOST_TYPED = 10_000
_MOST_OPEN_LINE = 4000
"""Characters of an unfinished line that are kept; a progress bar is short."""


def plain(text: str) -> str:
    """Text from inside without terminal controls and direction marks; line ends and returns are kept."""
    text = _ESCAPES.sub("", text)
    return "".join(c for c in text if c in "\n\r\t" or c.isprintable())


def question(text: str) -> bool:
    """Ask before anything runs; everything but a typed yes is a no."""
    try:
        return input(f"{text} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


class Terminal:
    """Progress of a run on a stream (stderr), and the questions a running cell waits for."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self._open_line = ""
        self._writing = threading.Lock()
        self._over = threading.Event()

    def cell_started(self, cell: int, source: str) -> None:
        """Its number and first line."""
        first = next((line for line in source.split("\n") if line.strip()), "")
        with self._writing:
            self._own_line(f"[{cell}] {plain(first).expandtabs()[:70]}")

    def output(self, cell: int, shown: Shown) -> None:
        """A piece of output; waits while a question is open."""
        text = plain(shown.text)
        if not text:
            return
        with self._writing:
            if shown.kind == "note":
                for line in text.splitlines():
                    self._own_line(line)
                return
            if shown.kind in ("result", "error") and not text.endswith("\n"):
                text += "\n"
            self._stream(text)

    def cell_ended(self, record: CellRecord) -> None:
        """How it ended and how long it took."""
        with self._writing:
            self._own_line(f"[{record.cell}] {record.status} in {record.seconds:.2f} s")

    def ending(self) -> None:
        """The run ends: an open question is answered with no."""
        self._over.set()

    def ask(self, kind: str, what: str) -> bool:
        """Something not permitted, while a cell waits for the answer."""
        with self._writing:
            shown = plain(what).replace("\n", " ").replace("\r", " ")[:300]
            self._own_line(f"The running cell wants {kind} {shown}, which is not permitted.")
            _forget_what_was_typed()
            self.stream.write("Allow it for this run? [y/N] ")
            self.stream.flush()
            answer = self._typed()
        return answer.strip().lower() in ("y", "yes")

    def type_line(self, prompt: str, hidden: bool) -> str | None:
        """A line for a cell that called `input()`; None when the input (Ctrl-D) or the run ends first.

        The prompt is the notebook's own words and stands behind its bar. What `getpass()` reads is not echoed.
        """
        with self._writing:
            words = "something secret" if hidden else "a line"
            self._own_line(f"The running cell asks you to type {words}. What you type goes to the notebook.")
            for line in plain(prompt).splitlines():
                self._write_line(_last_state(line))
            _forget_what_was_typed()
            self.stream.write("> ")
            self.stream.flush()
            with _unseen() if hidden else nullcontext():
                answer = self._typed()
            if hidden:
                self.stream.write("\n")
        return answer.rstrip("\r\n") if answer else None

    def _typed(self) -> str:
        """One typed line with its end; empty when the input or the run ends first."""
        fd = sys.stdin.fileno()
        while not self._over.is_set():
            if select.select([fd], [], [], 0.2)[0]:
                return os.read(fd, _MOST_TYPED).decode("utf-8", "replace")
        self.stream.write("\n")
        return ""

    # -- writing, with the lock held -----------------------------------------------------------------------------

    def _own_line(self, text: str) -> None:
        self._end_line()
        self.stream.write(f"{text}\n")
        self.stream.flush()

    def _end_line(self) -> None:
        """Finish the notebook's unfinished line."""
        if self._open_line:
            self.stream.write("\n" if self.live else f"{BAR}{_last_state(self._open_line)}\n")
            self._open_line = ""

    def _stream(self, text: str) -> None:
        """The notebook's own text. On a terminal an unfinished line is drawn again as it grows or is replaced;
        elsewhere it is written when it is finished, so that a log holds only a progress bar's last state."""
        *finished, rest = text.replace("\r\n", "\n").split("\n")
        if self.live and self._open_line:
            self.stream.write("\r\x1b[K")
        for line in finished:
            self._write_line(_last_state(self._open_line + line))
            self._open_line = ""
        whole = self._open_line + rest
        returns = "\r" if whole.endswith("\r") else ""
        self._open_line = _last_state(whole)[-_MOST_OPEN_LINE:]
        if self.live and self._open_line:
            *full, last = _broken(self._open_line, self._width())
            for part in full:
                self.stream.write(f"{BAR}{part}\n")
            self._open_line = last
            self.stream.write(BAR + last)
        self._open_line += returns
        self.stream.flush()

    def _write_line(self, line: str) -> None:
        for part in _broken(line, self._width()) if self.live else [line]:
            self.stream.write(f"{BAR}{part}\n")

    def _width(self) -> int:
        return max(4, shutil.get_terminal_size().columns - len(BAR) - 1)


def _forget_what_was_typed() -> None:
    """Before a question is shown: what a person typed ahead was no answer to it."""
    import termios

    termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


@contextmanager
def _unseen() -> Iterator[None]:
    """The terminal does not show what is typed."""
    import termios

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(fd, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _last_state(line: str) -> str:
    """What a line shows after its returns: a progress bar writes over itself."""
    return line.rstrip("\r").rpartition("\r")[2] if "\r" in line else line


def _broken(line: str, width: int) -> list[str]:
    """A line as pieces that fit, so that no piece of it begins where allmend's own lines do."""
    line = line.expandtabs()
    if len(line) <= width and line.isascii():
        return [line]
    pieces: list[str] = []
    piece: list[str] = []
    used = 0
    for c in line:
        wide = 0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WFA" else 1
        if used + wide > width:
            pieces.append("".join(piece))
            piece, used = [], 0
        piece.append(c)
        used += wide
    return [*pieces, "".join(piece)]
