"""Recording a run as it goes, so that what was known survives whatever ends it."""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from allmend.digests import path_digest
from allmend.errors import AllmendError, Unavailable
from allmend.home import root
from allmend.redaction import redact, redact_values
from allmend.runs.alive import hold, release
from allmend.runs.environment import environment
from allmend.runs.ids import run_id

COMMIT_SECONDS = 0.25
"""Metrics are written at most this often; it is what a kill can cost."""


class Recorder:
    """The record of a run that is going on; made by `record`, used as a context manager.

    Leaving it normally writes `done`; an exception, `failed` with its message; Ctrl-C, `interrupted`. A process
    that dies is seen as `interrupted` by the next reader. Methods may be called from several threads."""

    def __init__(self, verb: str, subject: str | None, settings: Mapping[str, Any]) -> None:
        self.verb = verb
        self.subject = subject
        self.settings = settings
        self.id = ""
        self._lock = -1
        self._pending: list[dict[str, Any]] = []
        self._guard = threading.Condition()
        self._writer: threading.Thread | None = None
        self._closing = False

    @property
    def folder(self) -> Path:
        """The run's own folder, for checkpoints, adapters and logs."""
        return root() / "runs" / self.id

    def __enter__(self) -> Self:
        started = datetime.now(UTC)
        later = 0
        while True:
            later = self._make_folder(started, later)
            try:
                if self._begin(started):
                    return self
            except BaseException:
                release(self._lock)
                shutil.rmtree(self.folder, ignore_errors=True)
                raise
            # Another machine that writes to the same database has that name.
            release(self._lock)
            shutil.rmtree(self.folder)
            later += 1

    def _begin(self, started: datetime) -> bool:
        """Write the row of the run; False when its id is taken."""
        from sqlalchemy import select

        from allmend.database import schema, writing

        values = {
            "id": self.id,
            "verb": self.verb,
            "subject": None if self.subject is None else redact(self.subject),
            "state": "running",
            "started": started.timestamp(),
            "settings": _json(self.settings),
            "environment": _json(environment()),
            "folder": str(self.folder),
        }
        with writing() as connection:
            if connection.execute(select(schema.runs.c.id).where(schema.runs.c.id == self.id)).first():
                return False
            connection.execute(schema.runs.insert().values(values))
        return True

    def _make_folder(self, started: datetime, later: int) -> int:
        """A new folder with its lock held, `later` steps on from the first free id; the folder makes it unique here."""
        place = root() / "runs"
        while True:
            self.id = run_id(self.verb, started, later)
            later += 1
            letters = self.id.rpartition("-")[0].rpartition("-")[2] + self.id[-5:]
            try:
                place.mkdir(parents=True, exist_ok=True)
                if any(name.endswith(letters) for name in os.listdir(place)):  # noqa: PTH208
                    continue
                self.folder.mkdir()
                break
            except FileExistsError:
                continue
            except OSError as error:
                hint = "ALLMEND_HOME names another place for records."
                words = f"the run's folder cannot be made: {error.strerror}"
                raise Unavailable(words, where=str(self.folder), hint=hint) from error
        self._lock = hold(self.folder)
        return later

    def choice(self, name: str, value: Any, reason: str) -> None:
        """Record a value that was chosen automatically, and why."""
        from allmend.database import schema

        shown = redact_values({name: value})[name]
        self._insert(schema.run_choices, name=name, value=json.dumps(_plain(shown)), reason=redact(reason))

    def input(self, path: str | Path, *, name: str | None = None, sha256: str | None = None) -> None:
        """Record a file or folder that is read, with its digest; pass `sha256` when it is known already."""
        from allmend.database import schema

        self._insert(schema.run_inputs, **_file(path, name or Path(path).name, sha256))

    def output(self, name: str, path: str | Path, *, sha256: str | None = None) -> None:
        """Record a file or folder that was made, with its digest if it is there."""
        from allmend.database import schema

        self._insert(schema.run_outputs, **_file(path, name, sha256))

    def metric(self, step: int, values: Mapping[str, float] | None = None, /, **more: float) -> None:
        """Record measured values at `step`: microseconds, for a thread writes them within `COMMIT_SECONDS`."""
        now = time.time()
        rows: list[dict[str, Any]] = []
        for name, given in {**(values or {}), **more}.items():
            value = float(given)
            finite = value if math.isfinite(value) else None
            rows.append({"run_id": self.id, "name": name, "step": step, "value": finite, "time": now})
        with self._guard:
            self._pending += rows
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_metrics, name="allmend-metrics", daemon=True)
                self._writer.start()
            self._guard.notify()

    def _write_metrics(self) -> None:
        while True:
            with self._guard:
                self._guard.wait_for(lambda: self._pending or self._closing)
                if self._closing:
                    return
            try:
                self.flush()
            except AllmendError:
                pass  # Kept in `_pending`; tried again with the next, and at the end, where it is raised.
            with self._guard:
                self._guard.wait_for(lambda: self._closing, COMMIT_SECONDS)

    def flush(self) -> None:
        """Write the metrics that are waiting."""
        from allmend.database import schema, writing

        with self._guard:
            rows, self._pending = self._pending, []
        if not rows:
            return
        try:
            with writing() as connection:
                connection.execute(schema.run_metrics.insert(), rows)
        except BaseException:
            with self._guard:
                self._pending = rows + self._pending
            raise

    def _insert(self, table: Any, **values: Any) -> None:
        from allmend.database import writing

        with writing() as connection:
            connection.execute(table.insert().values(run_id=self.id, **values))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from allmend.database import schema, writing

        state, words = _outcome(error)
        try:
            with self._guard:
                self._closing = True
                self._guard.notify_all()
            if self._writer is not None:
                self._writer.join()
            self.flush()
            with writing() as connection:
                connection.execute(
                    schema.runs.update()
                    .where(schema.runs.c.id == self.id)
                    .values(state=state, ended=time.time(), error=words, environment=_json(environment()))
                )
        except AllmendError:
            # What ended the run matters more than that its end could not be written.
            if error is None:
                raise
        finally:
            release(self._lock)


def record(verb: str, *, settings: Any = None, subject: str | Path | None = None) -> Recorder:
    """Begin a record: `with record("tune", settings=…, subject=…) as run:`.

    Args:
        verb: the verb that works, one or two words. settings: a mapping, a Pydantic model or None. Values under
        names such as `token` or `api_key`, fields marked
            `secret` and texts that have the form of a credential are not written.
        subject: what the verb is about.
    """
    return Recorder(verb, None if subject is None else str(subject), _settings(settings))


def _settings(settings: Any) -> Mapping[str, Any]:
    if settings is None:
        return {}
    fields = getattr(type(settings), "model_fields", None)
    if fields is None:
        return dict(settings)
    marked = {name for name, field in fields.items() if (getattr(field, "json_schema_extra", None) or {}).get("secret")}
    values: dict[str, Any] = settings.model_dump(mode="json")
    return {
        name: "[hidden]" if name in marked and values[name] is not None else value for name, value in values.items()
    }


def _outcome(error: BaseException | None) -> tuple[str, str | None]:
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "done", None
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", None
    words = str(error) if isinstance(error, AllmendError) else f"{type(error).__name__}: {error}"
    return "failed", redact(words)[:4000]


def _file(path: str | Path, name: str, sha256: str | None) -> dict[str, Any]:
    if sha256 is None and str(path) != "-" and Path(path).exists():
        sha256 = path_digest(Path(path))
    shown = str(path) if str(path) == "-" or "://" in str(path) else str(Path(path).absolute())
    return {"name": name, "path": redact(shown), "sha256": sha256}


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(_plain(redact_values(values)), ensure_ascii=False)


def _plain(value: Any) -> Any:
    """JSON without numbers that JSON lacks."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
