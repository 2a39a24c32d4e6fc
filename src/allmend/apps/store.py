"""Where runs and uploads are kept, and how a run is carried out there."""

from __future__ import annotations

import re
import secrets
import shutil
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from allmend.apps.notebook import NotebookApp, Task
from allmend.apps.runs import AppRun, State
from allmend.errors import AllmendError, InputError, NotFound

MOST_UPLOAD = 2 * 2**30
_NAME = re.compile(r"[\w-]{1,80}\Z")
_ENDED: dict[str, State] = {"finished": "finished", "interrupted": "stopped"}


class Store:
    """A folder: `runs/SLUG/ID/` for each run, `uploads/ID/NAME` for each file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._runs: dict[tuple[str, str], AppRun] = {}
        self._keys: dict[tuple[str, str, str], str] = {}
        self._lock = threading.Lock()
        for folder in sorted((root / "runs").glob("*/*")):
            found = AppRun.load(folder)
            if found is not None:
                self._runs[folder.parent.name, found.id] = found

    def start(
        self, slug: str, *, visitor: str, values: dict[str, Any], uploads: list[str], key: str | None
    ) -> tuple[AppRun, bool]:
        """A new run, or the one that the same key started; whether it is new."""
        for upload in uploads:
            self._upload(upload)
        with self._lock:
            known = self._keys.get((slug, visitor, key)) if key else None
            if known is not None:
                return self._runs[slug, known], False
            run = AppRun.new(self.root / "runs" / slug, visitor=visitor, values=values, uploads=tuple(uploads))
            self._runs[slug, run.id] = run
            if key:
                self._keys[slug, visitor, key] = run.id
        return run, True

    def find(self, slug: str, run_id: str) -> AppRun:
        """A run by its id; raises `NotFound`."""
        found = self._runs.get((slug, run_id))
        if found is None:
            raise NotFound("there is no such run")
        return found

    def of(self, slug: str, visitor: str) -> list[AppRun]:
        """A visitor's runs, newest first."""
        mine = [run for (each, _), run in self._runs.items() if each == slug and run.visitor == visitor]
        return sorted(mine, key=lambda run: run.asked_at, reverse=True)

    async def upload(self, name: str, parts: AsyncIterator[bytes]) -> str:
        """Keep a file under a new id; raises `InputError` for a bad name or one that is too large."""
        plain = Path(name).name.strip()
        if not plain or plain in (".", "..") or len(plain.encode()) > 200 or "\0" in plain:
            raise InputError("that is no name for a file")
        made = secrets.token_hex(12)
        folder = self.root / "uploads" / made
        folder.mkdir(parents=True, mode=0o700)
        size = 0
        try:
            with (folder / plain).open("xb") as file:
                async for part in parts:
                    size += len(part)
                    if size > MOST_UPLOAD:
                        raise InputError(f"larger than {MOST_UPLOAD >> 30} GiB")
                    file.write(part)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise InputError(f"the file cannot be kept ({error.strerror})") from None
            raise
        return made

    def _upload(self, name: str) -> Path:
        found = next((self.root / "uploads" / name).glob("*"), None) if _NAME.match(name) else None
        if found is None:
            raise NotFound(f"there is no upload {name[:40]!r}")
        return found

    def carry_out(self, run: AppRun, apps: Mapping[str, NotebookApp], *, may_ask: bool) -> None:
        """Run it to its end. Whatever goes wrong is told in the run."""
        app = apps[run.folder.parent.name]
        task = Task(
            values=run.values,
            uploads=tuple(self._upload(each) for each in run.uploads),
            folder=run.folder,
            hears=run,
            ask=run.ask if may_ask else None,
            stopper=run.can_be_stopped_by,
        )
        try:
            receipt = app.run(task)
        except AllmendError as error:
            run.end("failed", f"{error.message}. {error.hint or ''}".strip())
        except OSError as error:
            run.end("failed", f"the disk or system refused: {error.strerror}")
        except Exception as error:
            run.end("failed", f"a bug in allmend ({type(error).__name__}); the server's log has it")
            raise
        else:
            state: State = "stopped" if run.stop_wanted else _ENDED.get(receipt.ended, "failed")
            run.end(state, "" if state == "finished" else receipt.ended_why)
