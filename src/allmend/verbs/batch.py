"""A notebook over the rows of a table: several at once, each held as `run` holds it, and taken up where it stopped."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from allmend.apps.table import Row
    from allmend.box.box import Box
    from allmend.nouns.permissions import Permissions
    from allmend.nouns.receipt import Receipt
    from allmend.verbs.run import Prepared

_MOST_RESULT = 1000


@dataclass
class BatchResult:
    """What came of a batch."""

    folder: Path
    table: Path
    """CSV: a line a row, in order."""
    finished: int = 0
    failed: int = 0
    kept: int = 0
    """Rows that an earlier run had finished."""
    not_run: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)


def batch(
    prepared: Prepared,
    permissions: Permissions,
    table: Path,
    *,
    at_once: int = 2,
    tell: Callable[[dict[str, Any]], None] | None = None,
) -> BatchResult:
    """Run `prepared` once for each row of `table`.

    Every row has a folder of its own under `prepared.folder`; a row that finished before, with the same notebook and
    values, is not run again. Ctrl-C stops what runs and keeps what finished; `results.csv` is written after every row.

    Args:
        tell: hears each row's line of the results as it is known.
    """
    from allmend.apps.parameters import settable
    from allmend.apps.table import read_rows

    parameters = settable(prepared.plan.parameters)
    rows = read_rows(table, parameters)
    names = [parameter.name for parameter in parameters if any(parameter.name in row.values for row in rows)]
    prepared.folder.mkdir(parents=True, exist_ok=True)
    work = _Batch(prepared, permissions, names, tell or (lambda line: None))
    try:
        with ThreadPoolExecutor(at_once, thread_name_prefix="row") as pool:
            try:
                for done in [pool.submit(work.row, row) for row in rows]:
                    done.result()
            except KeyboardInterrupt:
                work.stop()  # Before the pool is left, which waits for every row.
                raise
    finally:
        work.write()
    return work.result


class _Batch:
    def __init__(
        self, prepared: Prepared, permissions: Permissions, names: list[str], tell: Callable[[dict[str, Any]], None]
    ) -> None:
        self.prepared = prepared
        self.permissions = permissions
        self.names = names
        self.tell = tell
        self.result = BatchResult(prepared.folder, prepared.folder / "results.csv")
        self.stopped = False
        self._boxes: set[Box] = set()
        self._lock = threading.Lock()

    def row(self, row: Row) -> None:
        """Run one row, or take what an earlier run made of it."""
        folder = self.prepared.folder / f"{row.number:05d}-{row.digest(self.prepared.document.sha256)}"
        if self._finished(folder):
            self._add(row, folder, "finished", kept=True)
            return
        if self.stopped:
            self._add(row, folder, "not-run")
            return
        from allmend.errors import AllmendError

        try:
            receipt = self._run(row, folder)
        except AllmendError as error:
            self._add(row, folder, "failed", error=error.message)
        else:
            state = "finished" if receipt.ended == "finished" else "stopped" if self.stopped else "failed"
            self._add(row, folder, state, error="" if state == "finished" else receipt.ended_why)

    def stop(self) -> None:
        """End the rows that run; those that wait are not begun."""
        with self._lock:
            self.stopped = True
            boxes = list(self._boxes)
        for box in boxes:
            box.stop("interrupted", "the batch was stopped")

    def write(self) -> None:
        """The table of results, in the order of the rows."""
        from allmend.apps.table import write_results

        with self._lock:
            write_results(self.result.table, self.names, sorted(self.result.rows, key=lambda line: line["row"]))

    def _run(self, row: Row, folder: Path) -> Receipt:
        from allmend.verbs import run as running

        settings = self.prepared.settings.model_copy(update={"output": folder, "batch": None})
        prepared = running.prepare(self.prepared.document.path, settings, self.prepared.plan)
        prepared.give(row.values)
        files = self.permissions.files.model_copy(update={"write": str(folder / "outputs")})
        made: list[Box] = []

        def box_made(box: Box) -> None:
            made.append(box)
            with self._lock:
                self._boxes.add(box)
            if self.stopped:
                box.stop("interrupted", "the batch was stopped")

        try:
            return running.carry_out(prepared, self.permissions.model_copy(update={"files": files}), box_made=box_made)
        finally:
            with self._lock:
                self._boxes -= set(made)

    def _finished(self, folder: Path) -> bool:
        try:
            return bool(json.loads((folder / "receipt.json").read_text())["ended"] == "finished")
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _add(self, row: Row, folder: Path, state: str, *, error: str = "", kept: bool = False) -> None:
        line: dict[str, Any] = {"row": row.number, **row.values, "state": state, "error": error, "folder": folder.name}
        if state == "finished":
            line |= _made(folder, self.prepared.document.path.stem)
        with self._lock:
            self.result.rows.append(line)
            name = {"finished": "finished", "failed": "failed"}.get(state, "not_run")
            setattr(self.result, name, getattr(self.result, name) + 1)
            self.result.kept += kept
        self.write()
        self.tell(line)


def _made(folder: Path, stem: str) -> dict[str, Any]:
    """What a finished row left: its time, its files, and the last value or text that its notebook showed."""
    receipt = json.loads((folder / "receipt.json").read_text())
    outputs = folder / "outputs"
    files = sorted(str(path.relative_to(outputs)) for path in outputs.rglob("*") if path.is_file())
    cells = json.loads((folder / f"{stem}.ipynb").read_text())["cells"]
    shown = [output for cell in cells for output in cell.get("outputs", [])]
    result = ""
    for output in reversed(shown):
        text = output.get("data", {}).get("text/plain") or (
            output.get("text") if output.get("name") == "stdout" else ""
        )
        if text:
            result = "".join(text).strip().split("\n")[-1][:_MOST_RESULT]
            break
    return {"seconds": receipt["seconds"], "outputs": " ".join(files), "result": result}
