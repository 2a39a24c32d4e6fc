"""What was asked for: one run with its state and events, kept in a folder so that it outlives browser and server."""

from __future__ import annotations

import json
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from allmend.nouns.receipt import CellRecord

if TYPE_CHECKING:
    from allmend.box.execute import Outcome

State = Literal["queued", "running", "serving", "finished", "failed", "stopped", "interrupted"]
ENDED = ("finished", "failed", "stopped", "interrupted")
MOST_TEXT = 2_000_000
"""Characters of output that a run's events carry; the executed notebook holds the rest."""
ANSWER_SECONDS = 180.0
TYPING_SECONDS = 600.0
MOST_CALLS = 3
"""Clicks of one run that wait; each holds a thread of the server, and a few hostile runs must not take them all."""
MOST_LINE = 100_000
"""Characters of a line typed for `input()`."""
_RUN_FILE = "run.json"
_EVENTS_FILE = "events.json"
_SHOWN = ("id", "state", "why", "values", "asked_at", "started_at", "ended_at")
_LEFT = "the server ended while it ran"


@dataclass
class Question:
    """Something not permitted that a cell waits for, or (`line`) what a person is to type for `input()`."""

    kind: str
    what: str
    answered: threading.Event = field(default_factory=threading.Event)
    allowed: bool = False
    line: str | None = field(default=None, repr=False)
    """What was typed. Kept nowhere: it may be a password."""


@dataclass
class Call:
    """A function of the notebook that a click in an output of `cell` calls."""

    cell: int
    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    done: threading.Event = field(default_factory=threading.Event)
    data: dict[str, Any] = field(default_factory=dict)
    """Its value, by MIME type."""
    error: str | None = None


class AppRun:
    """One run. Its events are numbered from 0; `watch` hears of every new one."""

    def __init__(self, folder: Path, *, visitor: str, values: dict[str, Any], uploads: tuple[str, ...] = ()) -> None:
        self.id = folder.name
        self.folder = folder
        self.visitor = visitor
        self.values = values
        self.uploads = uploads
        self.state: State = "queued"
        self.why = ""
        self.asked_at = time.time()
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self.events: list[dict[str, Any]] = []
        self.cells: dict[int, list[dict[str, Any]]] = {}
        self.questions: list[Question] = []
        self._calls: queue.Queue[Call] = queue.Queue()
        self._lock = threading.Lock()
        self._watchers: set[Callable[[], None]] = set()
        self._told = 0
        self._stop: Callable[[], None] | None = None
        self._stop_wanted = self._asks_no_more = False
        self.over = False
        """Whether its last event is there; its state says that it ended a moment before."""
        self.unsaved = ""
        """Why its record could not be written, when it could not."""

    @classmethod
    def new(cls, root: Path, *, visitor: str, values: dict[str, Any], uploads: tuple[str, ...]) -> AppRun:
        """A run with a folder of its own; its id cannot be guessed, so that a link is what lets a person see it."""
        name = time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(6)
        folder = root / name
        folder.mkdir(parents=True, mode=0o700)
        made = cls(folder, visitor=visitor, values=values, uploads=uploads)
        made._write(_RUN_FILE, made.shown() | {"visitor": visitor, "uploads": list(uploads)})
        return made

    @classmethod
    def load(cls, folder: Path) -> AppRun | None:
        """A run that an earlier server left, `interrupted` if it was not finished; None when it cannot be read."""
        try:
            saved = json.loads((folder / _RUN_FILE).read_text())
            made = cls(folder, visitor=saved["visitor"], values=saved["values"], uploads=tuple(saved["uploads"]))
            made.state, made.why = saved["state"], saved["why"]
            made.asked_at, made.started_at, made.ended_at = saved["asked_at"], saved["started_at"], saved["ended_at"]
            made.events = json.loads((folder / _EVENTS_FILE).read_text()) if (folder / _EVENTS_FILE).is_file() else []
            made.cells = {int(number): outputs for number, outputs in _read_cells(folder).items()}
        except (OSError, ValueError, KeyError, TypeError):
            return None
        made.over = made.state in ENDED
        if not made.over:
            made.end("interrupted", _LEFT)
        return made

    @classmethod
    def summary(cls, folder: Path) -> dict[str, Any] | None:
        """A run of an earlier server as the API shows it, without reading what it printed."""
        try:
            saved = json.loads((folder / _RUN_FILE).read_text())
            shown = {name: saved[name] for name in _SHOWN}
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if shown["state"] not in ENDED:
            shown |= {"state": "interrupted", "why": _LEFT}
        return shown

    def save(self) -> None:
        """Write what is known, by rename. A disk that takes nothing more loses the record, never the run."""
        try:
            self._write(_RUN_FILE, self.shown() | {"visitor": self.visitor, "uploads": list(self.uploads)})
            self._write(_EVENTS_FILE, self.events)
        except OSError as error:
            self.unsaved = str(error.strerror)

    def _write(self, name: str, value: object) -> None:
        temporary = self.folder / f".{name}.{os.getpid()}.part"
        temporary.write_text(json.dumps(value))
        temporary.replace(self.folder / name)

    def shown(self) -> dict[str, Any]:
        """The run as the API shows it."""
        return {name: getattr(self, name) for name in _SHOWN}

    # --- what happens to it

    def begin(self) -> bool:
        """It starts now; False when it was stopped while it waited."""
        with self._lock:
            if self._stop_wanted or self.state != "queued":
                return False
            self.state, self.started_at = "running", time.time()
        self.tell("started")
        self.save()
        return True

    def end(self, state: State, why: str) -> None:
        """It is over."""
        with self._lock:
            if self.state in ENDED:
                return
            self.state, self.why, self.ended_at = state, why, time.time()
        self.save()
        if self.unsaved:
            self.why = why = f"{why}{'; ' if why else ''}its record could not be written ({self.unsaved})"
        self.tell("ended", state=state, why=why)
        self.save()

    def serving(self, *, buttons: bool) -> None:
        """Every cell ran; what is open now is the notebook's own web server, or what buttons in its outputs call."""
        with self._lock:
            if self.state != "running":
                return
            self.state = "serving"
        self.tell("serving", buttons=buttons)
        self.save()

    def can_be_stopped_by(self, stop: Callable[[], None]) -> None:
        """Take the way to stop it; it is used at once when a stop was asked for before."""
        with self._lock:
            self._stop = stop
            wanted = self._stop_wanted
        if wanted:
            stop()

    def stop(self) -> None:
        """Stop it, running or waiting."""
        with self._lock:
            self._stop_wanted = True
            stop, waiting = self._stop, self.state == "queued"
        self.ending()
        if waiting:
            self.end("stopped", "it was stopped before it began")
        elif stop is not None:
            stop()

    @property
    def stop_wanted(self) -> bool:
        """Whether a person has asked for a stop."""
        return self._stop_wanted

    # --- what is heard of it

    def tell(self, kind: str, **more: Any) -> None:
        """Add an event and wake who watches."""
        with self._lock:
            self.events.append({"event": kind, **more})
            self.over = self.over or kind == "ended"
            watchers = list(self._watchers)
        for wake in watchers:
            wake()

    def watch(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have `wake` called (from any thread) at every event; returns how to end that."""
        with self._lock:
            self._watchers.add(wake)

        def leave() -> None:
            with self._lock:
                self._watchers.discard(wake)

        return leave

    def cell_started(self, cell: int, source: str) -> None:
        """A code cell begins."""
        first = next((line for line in source.split("\n") if line.strip()), "")
        self.tell("cell_started", cell=cell, line=first.strip()[:120])

    def output(self, cell: int, text: str) -> None:
        """Output of the running cell, as text."""
        room = MOST_TEXT - self._told
        if room > 0 and text:
            self._told += len(text)
            self.tell("output", cell=cell, text=text[:room])

    def cell_ended(self, record: CellRecord, outputs: list[dict[str, Any]]) -> None:
        """A code cell has ended."""
        self.cells[record.cell] = outputs
        self.tell("cell_ended", cell=record.cell, status=record.status, seconds=record.seconds)

    def ending(self) -> None:
        """The run ends now: open questions are answered with no, and those that still come."""
        self._asks_no_more = True
        for question in self.questions:
            question.answered.set()

    def _put(self, question: Question) -> Question:
        """Open a question; one that comes when the run ends is answered with no at once."""
        self.questions.append(question)
        if self._asks_no_more:
            question.answered.set()
        return question

    def ask(self, kind: str, what: str) -> bool:
        """Ask whoever watches; the cell waits for the answer, a few minutes at most, and silence is a no."""
        question = self._put(Question(kind, what))
        self.tell("asked", question=len(self.questions) - 1, wants=kind, what=what)
        question.answered.wait(ANSWER_SECONDS)
        self.tell("answered", question=self.questions.index(question), allowed=question.allowed)
        return question.allowed

    def type_line(self, prompt: str, hidden: bool) -> str | None:
        """Have whoever watches type a line for `input()`; None after ten minutes of silence, or when the run ends."""
        question = self._put(Question("line", prompt))
        number = len(self.questions) - 1
        self.tell("asked", question=number, wants="line", what=prompt, hidden=hidden)
        question.answered.wait(TYPING_SECONDS)
        self.tell("answered", question=number, allowed=question.line is not None)
        line, question.line = question.line, None
        return line

    def answer(self, number: int, *, allowed: bool) -> bool:
        """Permit or refuse what a question asks for; False when there is no such open one."""
        question = self._open_question(number)
        if question is None or question.kind == "line":
            return False
        question.allowed = allowed
        question.answered.set()
        return True

    def answer_line(self, number: int, line: str) -> bool:
        """Give the line that a cell waits for; False when no such question is open."""
        question = self._open_question(number)
        if question is None or question.kind != "line":
            return False
        question.line = line
        question.answered.set()
        return True

    # --- what its outputs call when every cell ran

    def call(self, cell: int, name: str, args: list[Any], kwargs: dict[str, Any], *, seconds: float) -> Call | None:
        """Have a function of the notebook called for a click in a cell's output, and wait for what it gives.

        None when the run takes no more: it is over, or too many calls wait, or none came up in time.
        """
        made = Call(cell, name, args, kwargs)
        with self._lock:
            if self.state != "serving" or self._calls.qsize() >= MOST_CALLS or cell not in self.cells:
                return None
            self._calls.put(made)
        until = time.monotonic() + seconds
        while not made.done.wait(0.2):
            if self.state != "serving" or time.monotonic() > until:
                return None
        return made

    def next_call(self, seconds: float) -> Call | None:
        """The oldest call that waits, or None after so many seconds."""
        try:
            return self._calls.get(timeout=seconds)
        except queue.Empty:
            return None

    def called(self, call: Call, outcome: Outcome) -> None:
        """A call has ended; the cell's outputs have grown by what it put out."""
        value = next((one for one in outcome.outputs if one["output_type"] == "execute_result"), None)
        call.data = value["data"] if value is not None else {}
        call.error = outcome.error
        call.done.set()
        self.tell("added", cell=call.cell, outputs=len(self.cells[call.cell]))

    def _open_question(self, number: int) -> Question | None:
        inside = 0 <= number < len(self.questions) and not self.questions[number].answered.is_set()
        return self.questions[number] if inside else None


def _read_cells(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """Outputs by cell from the executed notebook, where there is one."""
    for path in folder.glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        return {n: cell["outputs"] for n, cell in enumerate(cells) if cell.get("outputs")}
    return {}
