"""A notebook from its first cell to its receipt, inside a box.

The executed notebook and the receipt are written after every cell, each by rename, so that they are there and say how
far it came whatever ends the run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from allmend.box.box import Box
from allmend.box.changes import Changes
from allmend.box.execute import Kernel, KernelGone, Outcome
from allmend.box.interrupts import terminated_as_interrupted, undisturbed
from allmend.box.job import Job, Progress, Silent
from allmend.box.named import missing_file
from allmend.box.outputs import MOST_OUTPUTS, Shown
from allmend.box.pool import Ready
from allmend.box.receipt import difference
from allmend.box.taking_out import take_out
from allmend.nouns.permissions import Permissions
from allmend.nouns.receipt import CellRecord, Event, FileWritten, PlanDifference, Receipt

_WRITING_SHARE = 20
"""Writing takes at most one part in so many of the time; a small notebook is written after every cell, a large one as
soon as it is due, also while a long cell runs."""


def run(job: Job, progress: Progress | None = None, box_made: Callable[[Box], None] | None = None) -> Receipt:
    """Run `job`; always writes the executed notebook and the receipt, also when it is interrupted.

    KeyboardInterrupt ends the run as `interrupted` and is not raised again: the receipt says it.
    """
    return _Run(job, progress or Silent(), box_made).carry_out()


class _Run:
    """The run under way; `written` is its receipt as it was last written."""

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
        self.owes = False
        """Whether something has happened that is not written yet."""

    def carry_out(self) -> Receipt:
        """Run with SIGTERM treated like Ctrl-C, so that it too leaves the receipt."""
        with terminated_as_interrupted():
            return self._carry_out()

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
                self._write(force=self.owes)
                job.stay(self.box, partial(self._later, kernel))
        except KernelGone as error:
            box.stop("kernel-died", str(error))
        except KeyboardInterrupt:
            box.stop("interrupted", "it was interrupted from outside")
        finally:
            with undisturbed():
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
                source,
                show=show,
                seconds=box.limits.cell_time,
                waited=box.questions.waited,
                typed=typed,
                meanwhile=self._write_owed,
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
            for file in take_out(box, self.changes, permissions):
                self.files.append(file)
        finally:
            self._write(force=True)
            box.close()

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

    def _write_owed(self) -> None:
        """While a cell runs: what a kill would take with it otherwise."""
        if self.owes:
            self._write()

    def _write(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now < self.write_again_at:
            self.owes = True
            return
        self.owes = False
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


def write_atomically(path: Path, text: str) -> None:
    """Write by rename; lone surrogates from hostile output become `?`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_bytes(text.encode("utf-8", "replace"))
    temporary.replace(path)
