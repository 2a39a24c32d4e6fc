"""A notebook from its first cell to its receipt, inside a box.

The executed notebook and the receipt are written after every cell, each by rename, so that they are there and say how
far it came whatever ends the run.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from allmend.box.box import Box
from allmend.box.changes import Changes
from allmend.box.execute import Kernel, KernelGone, Outcome
from allmend.box.export import DEFAULT_OUTPUTS, export, matches, why_not
from allmend.box.named import missing_file
from allmend.box.outputs import MOST_OUTPUTS, Shown
from allmend.box.pool import Pool, Ready
from allmend.box.questions import Type
from allmend.box.receipt import difference
from allmend.box.settings import Settings
from allmend.box.web import Web
from allmend.nouns.permissions import Permissions
from allmend.nouns.plan import Plan
from allmend.nouns.receipt import CellRecord, Event, FileWritten, PlanDifference, Receipt

_WRITING_SHARE = 20
"""Writing takes at most one part in so many of the time; a small notebook is written after every cell."""
_MOST_FILES_LISTED = 2000


class Progress(Protocol):
    """Hears how a run goes; the command line and a page each have one.

    One that answers questions may also have `ending()`, called from any thread when the run ends: whoever still waits
    for an answer stops waiting.
    """

    def cell_started(self, cell: int, source: str) -> None:
        """A code cell begins."""

    def output(self, cell: int, shown: Shown) -> None:
        """A piece of output of the running cell."""

    def cell_ended(self, record: CellRecord) -> None:
        """A code cell has ended."""


class Silent:
    """Progress that nobody watches."""

    def cell_started(self, cell: int, source: str) -> None:
        """Nothing."""

    def output(self, cell: int, shown: Shown) -> None:
        """Nothing."""

    def cell_ended(self, record: CellRecord) -> None:
        """Nothing."""


Later = Callable[[int, str], Outcome]
"""Runs code for a cell after the last one; what it puts out joins the cell's outputs, but for its value."""


@dataclass
class Job:
    """One notebook to run."""

    notebook: dict[str, Any]
    """nbformat 4; its outputs are replaced."""
    path: str
    sha256: str
    settings: Settings
    executed: Path
    """Where the executed notebook is written."""
    receipt: Path
    """Where the receipt is written (JSON)."""
    parameters: dict[str, Any] = field(default_factory=dict)
    plan: Plan | None = None
    planned_hosts: list[str] = field(default_factory=list)
    """Hosts the plan needs beyond those it lists by name."""
    serving_hosts: list[str] = field(default_factory=list)
    """Hosts that serve files for those the plan needs; met or not, they are as planned."""
    keep_going: bool = False
    """Run the cells after one that failed."""
    operator_grants: list[str] = field(default_factory=list)
    skip: frozenset[int] = frozenset()
    web: Web | None = None
    """Is told of web servers that the notebook starts."""
    stay: Callable[[Box, Later], None] | None = None
    """Called when every cell ran: returns when the notebook's web servers and what its outputs call, if there are any,
    are no longer wanted."""
    pool: Pool | None = None
    """Kernels started ahead."""
    typed: Type | None = None
    """Has a person type a line for `input()`; without it `input()` fails."""
    kernel: tuple[str, str] = ("started", "for this run")
    """Where the kernel came from, and why; known when the run has begun."""


def run(job: Job, progress: Progress | None = None, box_made: Callable[[Box], None] | None = None) -> Receipt:
    """Run `job`; always writes the executed notebook and the receipt, also when it is interrupted.

    KeyboardInterrupt ends the run as `interrupted` and is not raised again: the receipt says it.
    """
    return _Run(job, progress or Silent(), box_made).carry_out()


class _Run:
    def __init__(self, job: Job, progress: Progress, box_made: Callable[[Box], None] | None) -> None:
        self.job = job
        self.progress = progress
        self.ready: Ready | None = None
        if job.pool is not None:
            self.ready, why = job.pool.take(job.path, job.settings)
            job.kernel = ("ready" if self.ready else "started", why)
        self.box = self.ready.box if self.ready else Box(job.settings)
        self.box.on_end = getattr(self.progress, "ending", None)
        self.box.web = job.web
        if box_made:
            box_made(self.box)
        self.cells: list[CellRecord] = []
        self.files: list[FileWritten] = []
        self.began = time.monotonic()
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.write_again_at = 0.0

    def carry_out(self) -> Receipt:
        """Run with SIGTERM treated like Ctrl-C, so that it too leaves the receipt."""
        if threading.current_thread() is not threading.main_thread():
            return self._carry_out()
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            return self._carry_out()
        finally:
            signal.signal(signal.SIGTERM, before)

    def _carry_out(self) -> Receipt:
        box, job = self.box, self.job
        kernel = self.ready.kernel if self.ready else None
        if self.ready:
            box.begin(job.settings.ask)
        else:
            box.start()
        self.changes = Changes(box.scratch.content)
        try:
            self._write(force=True)
            self.changes.start()
            if kernel is None:
                kernel = Kernel(box.connection, lambda: box.ended is not None)
                kernel.wait_until_ready()
            self._cells(kernel)
            if self.box.ended is None and job.stay is not None:
                job.stay(self.box, partial(self._later, kernel))
        except KernelGone as error:
            box.stop("kernel-died", str(error))
        except KeyboardInterrupt:
            box.stop("interrupted", "it was interrupted from outside")
        finally:
            with _undisturbed():
                if kernel is not None:
                    kernel.close()
                self._finish(job.settings.permissions)
        return self.written

    def _cells(self, kernel: Kernel) -> None:
        failed = False
        for place, cell in enumerate(self.job.notebook["cells"]):
            if cell.get("cell_type") != "code":
                continue
            source = _source(cell)
            cell["outputs"], cell["execution_count"] = [], None
            if failed or place in self.job.skip or self.box.ended is not None or not source.strip():
                if source.strip():
                    self.cells.append(CellRecord(cell=place, status="not-run"))
                continue
            outcome = self._cell(kernel, place, cell, source)
            if self.box.services.ends_itself and self.box.ended is None:
                self.box.stop("finished", f"cell {place} gave its runtime back")
            failed = outcome.status != "ok" and not self.job.keep_going
            if outcome.status == "died":
                failed = True
        if failed or any(cell.status == "error" for cell in self.cells):
            with_error = next((c for c in self.cells if c.status in ("error", "interrupted")), None)
            if self.box.ended is None and with_error is not None:
                self.box.stop("failed", f"cell {with_error.cell} failed: {with_error.error or with_error.status}"[:500])

    def _cell(self, kernel: Kernel, place: int, cell: dict[str, Any], source: str) -> Outcome:
        box, record = self.box, self.box.record
        record.cell = place
        self.progress.cell_started(place, source)

        def show(shown: Shown) -> None:
            self.progress.output(place, shown)

        typed = None if self.job.typed is None else partial(box.questions.typed, self.job.typed)
        try:
            outcome = kernel.run(
                source, show=show, seconds=box.limits.cell_time, waited=box.questions.waited, typed=typed
            )
        except KeyboardInterrupt:
            if self.box.on_end is not None:
                self.box.on_end()
            self._close_cell(place, cell, Outcome("interrupted", error="interrupted from outside"))
            raise KeyboardInterrupt from None
        except KernelGone as error:
            box.stop("cell-time-limit", f"cell {place}: {error}")
            outcome = Outcome("died", error=str(error))
        self._close_cell(place, cell, outcome)
        return outcome

    def _later(self, kernel: Kernel, place: int, source: str) -> Outcome:
        """As `Later`."""
        box = self.box
        box.record.cell = place
        try:
            outcome = kernel.run(
                source, show=lambda shown: None, seconds=box.limits.cell_time, waited=box.questions.waited
            )
        except KernelGone as error:
            box.stop("cell-time-limit", f"called from cell {place}: {error}")
            outcome = Outcome("died", error=str(error))
        box.flush_reports()
        box.record.cell = -1
        outputs = self.job.notebook["cells"][place]["outputs"]
        more = [output for output in outcome.outputs if output["output_type"] != "execute_result"]
        outputs.extend(more[: max(0, MOST_OUTPUTS - len(outputs))])
        return outcome

    def _close_cell(self, place: int, cell: dict[str, Any], outcome: Outcome) -> None:
        box = self.box
        box.flush_reports()
        if outcome.status == "died" and box.ended_why:
            outcome.error = box.ended_why
        for denial in dict.fromkeys((d.what, d.advice) for d in box.record.denials(place)):
            text = f"allmend refused: {denial[0]}. {denial[1]}\n"
            outcome.outputs.append({"output_type": "stream", "name": "stderr", "text": text})
            self.progress.output(place, Shown("note", text))
        beside = missing_file(outcome.error or "", self.job.settings.folder, self.job.path)
        if beside is not None and self.job.settings.level != "D":
            text = f"allmend: {beside} lies beside the notebook and was not shown to it; --allow read:{beside} does.\n"
            outcome.outputs.append({"output_type": "stream", "name": "stderr", "text": text})
            self.progress.output(place, Shown("note", text))
        if outcome.status == "died" and outcome.error:
            text = f"allmend: this cell was ended: {outcome.error}\n"
            outcome.outputs.append({"output_type": "stream", "name": "stderr", "text": text})
        cell["outputs"], cell["execution_count"] = outcome.outputs, outcome.execution_count
        self.changes.look(place)
        seconds = round(outcome.seconds, 3)
        self.cells.append(CellRecord(cell=place, status=outcome.status, seconds=seconds, error=outcome.error))
        self.progress.cell_ended(self.cells[-1])
        box.record.cell = -1
        self._write()

    def _finish(self, permissions: Permissions) -> None:
        """End everything inside, then take the outputs out; each step's trouble is kept from hiding the
        receipt."""
        box = self.box
        try:
            if box.ended is None:
                box.stop("finished", "every cell ran")
            box.finish()
            self.changes.look(-1)
            self._take_out(permissions)
        finally:
            self._write(force=True)
            box.close()

    def _take_out(self, permissions: Permissions) -> None:
        if self.job.settings.level == "D":
            return  # it worked in the notebook's own folder
        globs = [*DEFAULT_OUTPUTS, *permissions.files.outputs, *map(_escape, self.box.services.downloads)]
        results = {}
        if permissions.files.write is not None:
            destination = (self.job.settings.folder / Path(permissions.files.write).expanduser()).absolute()
            found = export(self.box.scratch.content, destination, globs, most_bytes=self.box.limits.disk)
            results = {item.path: item for item in found}
        for path, (size, cell) in sorted(self.changes.by_path.items())[:_MOST_FILES_LISTED]:
            result = results.pop(path, None)
            declared = matches(path, globs)
            reason = result.refused if result else ("no folder to write to was permitted" if declared else None)
            reason = reason or (why_not(path) if declared and result is None else None)
            exported = result is not None and result.refused is None
            self.files.append(FileWritten(path=path, bytes=size, cell=cell, exported=exported, why_not=reason))
        rest = [(item.path, item) for item in results.values()]
        if self.box.interior.drive_copy is not None and permissions.drive is not None:
            drive = (self.job.settings.folder / Path(permissions.drive.folder).expanduser()).resolve()
            most = self.box.limits.disk
            taken = export(self.box.interior.drive_copy, drive, ["**"], most_bytes=most, changed_only=True)
            rest += [(f"drive/MyDrive/{item.path}", item) for item in taken]
        for path, item in rest:
            self.files.append(
                FileWritten(path=path, bytes=item.bytes, cell=-1, exported=item.refused is None, why_not=item.refused)
            )

    def receipt(self) -> Receipt:
        """The receipt as it stands now."""
        box, job = self.box, self.job
        events = box.record.events()
        unseen = ["files read inside the box, where the box permits them"] if not job.settings.trace else []
        if box.settings.level == "D":
            unseen = ["everything but the cells and their outputs"]
        if self.changes.incomplete:
            unseen.append("files beyond the first 50,000 of the working folder, or more than 100 folders deep")
        environment = job.settings.environment
        return Receipt(
            notebook=job.path,
            sha256=job.sha256,
            started=self.started,
            seconds=round(time.monotonic() - self.began, 3),
            ended=box.ended or "unfinished",
            ended_why=box.ended_why
            or "this was written while it ran: the supervisor was killed, or it is still running",
            enforcement=box.enforcement(),
            profile=environment.profile + (f" of {environment.dated}" if environment.dated else ""),
            python=environment.version,
            parameters=job.parameters,
            permissions=job.settings.permissions.to_dict(),
            operator_grants=job.operator_grants,
            limits=box.limits.records,
            cells=self.cells,
            events=events,
            events_dropped=box.record.dropped,
            hosts=box.record.hosts(),
            files=self.files,
            secrets_used=sorted({e.target for e in events if e.kind == "secret" and e.verdict == "allowed"}),
            peak_memory_bytes=box.peak_memory,
            difference=self._difference(events),
            not_recorded=unseen,
        )

    def _difference(self, events: list[Event]) -> PlanDifference | None:
        """None without a plan, and without a box: there nothing was seen, which says nothing."""
        job = self.job
        if job.plan is None or job.settings.level == "D":
            return None
        cells = enumerate(job.notebook["cells"])
        sources = {place: _source(cell) for place, cell in cells if cell.get("cell_type") == "code"}
        return difference(job.plan, events, job.planned_hosts, job.serving_hosts, sources)

    def _write(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now < self.write_again_at:
            return
        metadata = self.job.notebook.setdefault("metadata", {})
        lock = before.get("lock") if isinstance(before := metadata.get("allmend"), dict) else None
        metadata["allmend"] = {"receipt": self.job.receipt.name, "level": self.job.settings.level}
        if lock is not None:
            metadata["allmend"]["lock"] = lock
        write_atomically(self.job.executed, json.dumps(self.job.notebook, indent=1, ensure_ascii=False) + "\n")
        self.written = self.receipt()
        write_atomically(self.job.receipt, self.written.to_json() + "\n")
        done = time.monotonic()
        self.write_again_at = done + _WRITING_SHARE * (done - now) if done - now > 0.02 else 0.0


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"]) if isinstance(cell["source"], list) else str(cell["source"])


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold off Ctrl-C and SIGTERM while the receipt is written; a second one must not lose it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _escape(path: str) -> str:
    """A path as a glob that matches it alone."""
    return path if not set(path) & set("*?") else "".join("?" if c in "*?" else c for c in path)


def write_atomically(path: Path, text: str) -> None:
    """Write by rename; lone surrogates from hostile output become `?`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_bytes(text.encode("utf-8", "replace"))
    temporary.replace(path)
