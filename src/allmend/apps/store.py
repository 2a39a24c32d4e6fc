"""Where runs and uploads are kept, and how a run is carried out there.

    runs/SLUG/ID/       a run: run.json, events.json, the executed notebook, the receipt, outputs/
    visitors/NAME/SLUG  the ids of a visitor's runs, one a line
    keys/DIGEST         the run that an idempotency key started
    uploads/ID/NAME     files for `files.upload()`; gone a day after they came, unless a run waits for them

Nothing is read at the start: a run is loaded when somebody asks for it, and only some that have ended stay in memory.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from allmend.apps.notebook import NotebookApp, Task
from allmend.apps.runs import ENDED, AppRun, State
from allmend.apps.servers import Registry
from allmend.apps.serving import RunServers
from allmend.apps.staying import stay
from allmend.errors import AllmendError, InputError, NotFound, Unavailable

MOST_UPLOAD = 2 * 2**30
UPLOAD_SECONDS = 24 * 3600.0
"""How long an upload stays that no run waits for."""
MOST_IN_MEMORY = 30
_MOST_HISTORY = 100
_NAME = re.compile(r"[\w-]{1,80}\Z")
_ENDED: dict[str, State] = {"finished": "finished", "interrupted": "stopped"}


class Store:
    """The folder of one server's runs.

    Args:
        registry: where web servers of runs are shown; None shows none.
        keep_days: runs older than this are removed at the start; None keeps all.
    """

    def __init__(self, root: Path, *, registry: Registry | None = None, keep_days: float | None = None) -> None:
        self.root = root
        self.registry = registry
        self._active: dict[tuple[str, str], AppRun] = {}
        self._ended: OrderedDict[tuple[str, str], AppRun] = OrderedDict()
        self._lock = threading.Lock()
        threading.Thread(target=self._sweep, args=(keep_days,), name="sweep", daemon=True).start()

    def start(
        self, slug: str, *, visitor: str, values: dict[str, Any], uploads: list[str], key: str | None
    ) -> tuple[AppRun, bool]:
        """A new run, or the one that the same key started; whether it is new."""
        for upload in uploads:
            self._upload(upload)
        place = self.root / "keys" / hashlib.sha256(f"{slug}\0{visitor}\0{key}".encode()).hexdigest()
        with self._lock:
            if key and place.is_file():
                return self._find(slug, place.read_text()), False
            try:
                run = AppRun.new(self.root / "runs" / slug, visitor=visitor, values=values, uploads=tuple(uploads))
                self._note(slug, run)
                if key:
                    place.parent.mkdir(exist_ok=True)
                    place.write_text(run.id)
            except OSError as error:
                hint = "Make room on the disk that ALLMEND_HOME lies on."
                raise Unavailable(f"the run cannot be kept ({error.strerror})", hint=hint) from None
            self._active[slug, run.id] = run
        return run, True

    def _note(self, slug: str, run: AppRun) -> None:
        mine = self.root / "visitors" / run.visitor
        mine.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (mine / slug).open("a") as file:
            file.write(f"{run.id}\n")

    def find(self, slug: str, run_id: str) -> AppRun:
        """A run by its id; raises `NotFound`."""
        with self._lock:
            return self._find(slug, run_id)

    def _find(self, slug: str, run_id: str) -> AppRun:
        key = (slug, run_id)
        found = self._active.get(key) or self._ended.get(key)
        if found is None:
            found = AppRun.load(self.root / "runs" / slug / run_id) if _NAME.match(run_id) else None
            if found is None:
                raise NotFound("there is no such run")
        if found.state in ENDED:
            # Ended ones are kept a while for whoever still looks; the disk has them all.
            self._active.pop(key, None)
            self._ended[key] = found
            self._ended.move_to_end(key)
            while len(self._ended) > MOST_IN_MEMORY:
                self._ended.popitem(last=False)
        return found

    def of(self, slug: str, visitor: str) -> list[dict[str, Any]]:
        """A visitor's last runs as the API shows them, newest first."""
        try:
            names = (self.root / "visitors" / visitor / slug).read_text().split()[-_MOST_HISTORY:]
        except (OSError, UnicodeDecodeError):
            return []
        found = []
        for name in reversed(names):
            with self._lock:
                run = self._active.get((slug, name)) or self._ended.get((slug, name))
            shown = run.shown() if run is not None else AppRun.summary(self.root / "runs" / slug / name)
            if shown is not None:
                found.append(shown)
        return found

    async def upload(self, name: str, parts: AsyncIterator[bytes]) -> str:
        """Keep a file under a new id; raises `InputError` for a bad name or one that is too large."""
        plain = Path(name).name.strip()
        if not plain or plain in (".", "..") or len(plain.encode("utf-8", "replace")) > 200 or "\0" in plain:
            raise InputError("that is no name for a file")
        self._sweep_uploads()
        made = secrets.token_hex(12)
        folder = self.root / "uploads" / made
        size = 0
        try:
            folder.mkdir(parents=True, mode=0o700)
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
            raise NotFound(f"there is no upload {name[:40]!r}", hint="Uploads are kept for a day; send it again.")
        return found

    def _sweep(self, keep_days: float | None) -> None:
        self._sweep_uploads()
        if keep_days is None:
            return
        for file in (self.root / "runs").glob("*/*/run.json"):
            _remove_older(file.parent, keep_days * 86400)

    def _sweep_uploads(self) -> None:
        with self._lock:
            wanted = {name for run in self._active.values() if run.state not in ENDED for name in run.uploads}
        for folder in (self.root / "uploads").glob("*"):
            if folder.name not in wanted:
                _remove_older(folder, UPLOAD_SECONDS)

    def carry_out(
        self, run: AppRun, apps: Mapping[str, NotebookApp], *, may_ask: bool, release: Callable[[], object]
    ) -> None:
        """Run it to its end. Whatever goes wrong is told in the run."""
        app = apps[run.folder.parent.name]
        try:
            try:
                receipt = app.run(self._task(run, app, may_ask=may_ask, release=release))
            finally:
                # Before it is told that the run is over: what is over shows no servers.
                if self.registry is not None:
                    self.registry.forget(run.id)
        except AllmendError as error:
            run.end("failed", f"{error.message}. {error.hint or ''}".strip())
        except OSError as error:
            run.end("failed", f"the disk or system refused: {error.strerror}")
        except Exception as error:
            run.end("failed", f"a bug in allmend ({type(error).__name__}); the server's log has it")
            raise
        else:
            was_serving = run.state == "serving" and receipt.ended in ("finished", "interrupted")
            state: State = "stopped" if run.stop_wanted else _ENDED.get(receipt.ended, "failed")
            run.end("finished" if was_serving else state, "" if state == "finished" else receipt.ended_why)

    def _task(self, run: AppRun, app: NotebookApp, *, may_ask: bool, release: Callable[[], object]) -> Task:
        web = None
        if self.registry is not None:
            expected = any(effect.kind == "serve" for effect in app.plan.effects)
            hosts = tuple(app.permissions.network.hosts)
            web = RunServers(self.registry, run, hosts=hosts, expected=expected, release=release)
        return Task(
            values=run.values,
            uploads=tuple(self._upload(each) for each in run.uploads),
            folder=run.folder,
            hears=run,
            ask=run.ask if may_ask else None,
            typed=run.type_line,
            stay=lambda box, later: stay(run, box, later, web, release),
            stopper=run.can_be_stopped_by,
            web=web,
        )


def _remove_older(folder: Path, seconds: float) -> None:
    try:
        old = time.time() - folder.stat().st_mtime > seconds
    except OSError:
        return
    if old:
        shutil.rmtree(folder, ignore_errors=True)
