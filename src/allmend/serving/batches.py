"""`/v1/batches`: a file of requests, worked through when nobody waits. Survives a restart at any point."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from allmend.errors import InputError, UsageError
from allmend.serving.batch_api import OPEN, Batch, BatchError, BatchErrors, BatchRequest, Line, Status, ended_at, used
from allmend.serving.claims import Claims
from allmend.serving.faults import Missing
from allmend.serving.files import Expiry, Files
from allmend.serving.lists import Listed, Page
from allmend.serving.tidying import remove_left
from allmend.serving.tries import Tries

_ID = re.compile(r"batch_[a-z0-9]{24}\Z")
_DAY = 24 * 3600
_MOST_LINES = 50_000
_MOST_LINE = 4 << 20
_SHOWN_ERRORS = 50
_MOST_OPEN = 1000
"""Of one owner."""


@dataclass(frozen=True)
class Place:
    """Where a request stands in a batch's file, in bytes."""

    custom_id: str
    start: int
    length: int


class Batches:
    """Batches of everybody.

    `ID.json` is the batch, `ID.in` its requests, `ID.out` and `ID.err` what was answered so far, a line each,
    `ID.try` what was being answered.
    """

    def __init__(self, root: Path, files: Files) -> None:
        self.files = files
        self.claims = Claims(root)
        self._root = root
        self._lock = threading.Lock()
        self._over: set[str] = set()
        """Names of those that ended: they are not looked at again."""

    def create(self, body: BatchRequest, owner: str, principal: Any = None) -> Batch:
        """Take a batch on; its file is looked at before its first request.

        Raises:
            Missing: there is no such file.
            UsageError: the file is for something else, or too many batches are open.
        """
        about = self.files.get(body.input_file_id, owner)
        if about.purpose != "batch":
            raise UsageError(f"the file's purpose is {about.purpose!r}, not 'batch'", where="input_file_id")
        if sum(1 for found, _ in self._open() if found["owner"] == owner) >= _MOST_OPEN:
            raise UsageError(f"{_MOST_OPEN} batches are open; wait for some of them")
        now = int(time.time())
        made = Batch(
            id=f"batch_{secrets.token_hex(12)}",
            endpoint=body.endpoint,
            input_file_id=body.input_file_id,
            completion_window=body.completion_window,
            status="validating",
            created_at=now,
            expires_at=now + _DAY,
            metadata=body.metadata,
        )
        self._root.mkdir(parents=True, exist_ok=True)
        keep = body.output_expires_after.model_dump() if body.output_expires_after else None
        self._hold(made.id, self.files.content(body.input_file_id, owner))
        who = {"key": getattr(principal, "key", None), "user": getattr(principal, "user", None)}
        self._write({"owner": owner, **who, "keep": keep, "server": self.claims.enter()}, made)
        return made

    def get(self, identity: str, owner: str | None = None) -> Batch:
        """A batch; raises `Missing` for one that is not there or is somebody else's."""
        found, batch = self._known(identity)
        if owner not in (None, found["owner"]):
            raise Missing(f"there is no batch {identity[:80]!r}")
        return batch

    def owner(self, identity: str) -> str:
        """Whose it is; raises `Missing`."""
        return str(self._known(identity)[0]["owner"])

    def maker(self, identity: str) -> tuple[str | None, str | None]:
        """Public name of the key that made it, and the user behind that; raises `Missing`."""
        found, _ = self._known(identity)
        return found.get("key"), found.get("user")

    def page(self, owner: str, page: Page) -> Listed[Batch]:
        """An owner's batches."""
        here = [path.stem for path in self._root.glob("batch_*.json")]
        return page.of([batch for found, batch in self._readable(here) if found["owner"] == owner])

    def cancel(self, identity: str, owner: str) -> Batch:
        """Begin no more of its requests; raises `UsageError` where it has ended."""
        self.get(identity, owner)
        with self._lock, self.claims.alone():
            batch = self.get(identity, owner)
            if batch.status not in OPEN:
                raise UsageError(f"the batch is {batch.status}; it cannot be cancelled")
            return self._change(identity, {"status": "cancelling", "cancelling_at": int(time.time())})

    def open(self) -> list[tuple[str, Batch]]:
        """(owner, batch) of those that are not over and that no other server has taken on, oldest first."""
        free: dict[str | None, bool] = {}
        mine = []
        for found, batch in self._open():
            server = found.get("server")
            if server not in free:
                free[server] = self.claims.is_free(server)
            if free[server]:
                mine.append((str(found["owner"]), batch))
        return sorted(mine, key=lambda each: (each[1].created_at, each[1].id))

    def _open(self) -> Iterator[tuple[dict[str, Any], Batch]]:
        here = {path.stem for path in self._root.glob("batch_*.json")}
        self._over &= here
        for found, batch in self._readable(here - self._over):
            if batch.status in OPEN:
                yield found, batch
            else:
                self._over.add(batch.id)

    def sweep(self) -> None:
        """Forget batches that ended long ago and whose files are gone, and delete what a crash left of others."""
        now = time.time()
        for path in self._root.glob("batch_*"):
            with suppress(OSError):  # It cannot be read now.
                self._forget(path, now)
        remove_left(self._root, ".batch_*")
        self.claims.sweep()

    def _forget(self, path: Path, now: float) -> None:
        found = self._read(path.stem)
        batch = found[1] if found else None
        if path.suffix != ".json":
            # What an ended batch, or none, has no use for: a server was ended before it could put it away.
            ended = batch is not None and batch.status not in OPEN
            if ended or not path.with_suffix(".json").exists():
                remove_left(self._root, path.name)
            return
        if batch is None or batch.status in OPEN or not self.files.keep:
            return
        if any(self.files.is_there(name) for name in (batch.output_file_id, batch.error_file_id)):
            return
        if now >= ended_at(batch) + self.files.keep:
            path.unlink(missing_ok=True)

    def take(self, identity: str) -> Batch | None:
        """Take a batch on; None for one that has ended, or that another server has."""
        with self._lock, self.claims.alone():
            if (known := self._read(identity)) is None:
                return None
            found, batch = known
            if batch.status not in OPEN or not self.claims.is_free(found.get("server")):
                return None
            self._write({**found, "server": self.claims.enter()}, batch)
            return batch

    def update(self, identity: str, **changes: Any) -> Batch:
        """Write changes down; a batch that is being cancelled stays so until it is cancelled."""
        with self._lock, self.claims.alone():
            return self._change(identity, changes)

    def _change(self, identity: str, changes: dict[str, Any]) -> Batch:
        found, batch = self._known(identity)
        if batch.status == "cancelling" and changes.get("status") in ("in_progress", "finalizing"):
            changes.pop("status")
        made = batch.model_copy(update=changes)
        self._write(found, made)
        return made

    def lines(self, batch: Batch) -> list[Place]:
        """Where the file's requests stand: it may be larger than memory should hold.

        Raises:
            Invalid: some are not requests; says which.
        """
        problems: list[BatchError] = []
        found: list[Place] = []
        seen: set[str] = set()
        start = 0
        with self._input(batch) as handle:
            for number, raw in enumerate(iter(lambda: handle.readline(_MOST_LINE + 1), b""), 1):
                start += len(raw)
                if not raw.strip() and number <= 2 * _MOST_LINES:  # A file of gigabytes may hold nothing else.
                    continue
                try:
                    line = _line(raw, batch.endpoint, seen)
                    found.append(Place(line.custom_id, start - len(raw), len(raw)))
                except InputError as error:
                    problems.append(BatchError(code="invalid_json_line", message=error.message, line=number))
                if len(problems) >= _SHOWN_ERRORS:
                    break
                if len(found) > _MOST_LINES:
                    words = f"A batch has at most {_MOST_LINES} requests."
                    problems.append(BatchError(code="too_many_requests", message=words, line=number))
                    break
        if not found and not problems:
            problems.append(BatchError(code="empty_file", message="The file holds no requests."))
        if problems:
            raise Invalid(problems)
        return found

    def line(self, batch: Batch, place: Place) -> Line:
        """One of them."""
        with self._input(batch) as handle:
            handle.seek(place.start)
            return _line(handle.read(place.length), batch.endpoint, set())

    def _hold(self, identity: str, content: Path) -> None:
        """Keep a file's bytes until the batch has ended: its owner may delete it, and it may expire before."""
        kept = self._root / f"{identity}.in"
        try:
            os.link(content, kept)
        except FileNotFoundError:
            raise Missing("the file was deleted") from None
        except OSError:  # Not every disk has links.
            shutil.copyfile(content, kept)

    def _input(self, batch: Batch) -> IO[bytes]:
        try:
            return (self._root / f"{batch.id}.in").open("rb")
        except FileNotFoundError:  # One that was made before files were held.
            return self.files.content(batch.input_file_id, self.owner(batch.id)).open("rb")

    def answered(self, batch: Batch) -> tuple[dict[str, bool], int, int]:
        """({custom_id: whether it went well}, good, bad) of what was answered before. A torn last line is cut off, and
        what was given up: the batch had come to its end, which was not written down."""
        done: dict[str, bool] = {}
        for ending, good in (("out", True), ("err", False)):
            path = self._root / f"{batch.id}.{ending}"
            if not path.is_file():
                continue
            kept = 0
            with path.open("rb+") as handle:
                for raw in handle:
                    if not raw.endswith(b"\n"):  # even where it reads as JSON: the cut removes it
                        break
                    try:
                        line = json.loads(raw)
                        if line["error"] is not None:  # given up when the batch expired, which is done anew
                            break
                        done[line["custom_id"]] = good
                    except (ValueError, KeyError, TypeError):
                        break
                    kept += len(raw)
                handle.truncate(kept)
        well = sum(done.values())
        return done, well, len(done) - well

    def note(self, batch: Batch, custom_id: str, status: int, request_id: str, body: Any) -> bool:
        """Write an answer down, for good; whether it went well."""
        good = status == 200
        response = {"status_code": status, "request_id": request_id, "body": body}
        self._append(batch, "out" if good else "err", [_answer(custom_id, response=response)])
        return good

    def give_up(self, batch: Batch, custom_ids: Sequence[str], code: str, message: str) -> None:
        """Write down why these have no answer."""
        why = {"code": code, "message": message}
        self._append(batch, "err", [_answer(custom_id, error=why) for custom_id in custom_ids])

    def tries(self, batch: Batch) -> Tries:
        """What is known of requests that were being answered when a server or an engine ended."""
        return Tries(self._root / f"{batch.id}.try")

    def _append(self, batch: Batch, ending: str, lines: Sequence[dict[str, Any]]) -> None:
        with (self._root / f"{batch.id}.{ending}").open("ab") as handle:
            for line in lines:
                handle.write(json.dumps(line, ensure_ascii=False).encode(errors="replace") + b"\n")
            handle.flush()
            os.fsync(handle.fileno())

    def finish(self, batch: Batch, status: Status) -> Batch:
        """Make the answers into files and end the batch."""
        found, _ = self._known(batch.id)
        owner, keep = str(found["owner"]), found.get("keep")
        expires = Expiry.model_validate(keep) if keep else None
        changes: dict[str, Any] = {"status": status, f"{status}_at": int(time.time())}
        for ending, name in (("out", "output"), ("err", "error")):
            path = self._root / f"{batch.id}.{ending}"
            if path.is_file() and (size := path.stat().st_size):
                title = f"{batch.id}_{name}.jsonl"
                # Where what follows fails, the next time finds the file that was made this time.
                number = hashlib.sha256(f"{title} {size}".encode()).hexdigest()[:24]
                with path.open("rb") as handle:
                    made = self.files.add(
                        handle,
                        name=title,
                        purpose="batch_output",
                        owner=owner,
                        expires=expires,
                        ours=True,
                        number=number,
                    )
                changes[f"{name}_file_id"] = made.id
                if ending == "out":
                    with path.open("rb") as handle:
                        changes["usage"] = used(json.loads(line)["response"]["body"] for line in handle)
        ended = self.update(batch.id, **changes)
        for ending in ("in", "out", "err", "try"):
            (self._root / f"{batch.id}.{ending}").unlink(missing_ok=True)
        return ended

    def fail(self, batch: Batch, problems: list[BatchError]) -> Batch:
        """End a batch whose file cannot be worked through."""
        return self.finish(self.update(batch.id, errors=BatchErrors(data=problems)), "failed")

    def _known(self, identity: str) -> tuple[dict[str, Any], Batch]:
        found = self._read(identity) if _ID.match(identity) else None
        if found is None:
            raise Missing(f"there is no batch {identity[:80]!r}")
        return found

    def _readable(self, identities: Iterable[str]) -> Iterator[tuple[dict[str, Any], Batch]]:
        """Of those that are there: one that is broken is no reason to keep the others from anybody."""
        for identity in identities:
            try:
                if (found := self._read(identity)) is not None:
                    yield found
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):  # None could be read now.
                    raise

    def _read(self, identity: str) -> tuple[dict[str, Any], Batch] | None:
        """What is written of a batch, and itself; None where there is none, or something else by its name.

        Raises:
            OSError: it cannot be read at the moment: that says nothing about whose it is.
        """
        try:
            values = json.loads((self._root / f"{identity}.json").read_bytes())
            owner, batch = values["owner"], Batch.model_validate(values["batch"])
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None
        return (values, batch) if isinstance(owner, str) and batch.id == identity else None

    def _write(self, found: dict[str, Any], batch: Batch) -> None:
        path = self._root / f"{batch.id}.json"
        hidden = path.with_name(f".{path.name}.new")
        with hidden.open("w", encoding="utf-8") as handle:
            handle.write(json.dumps({**found, "batch": batch.model_dump()}))
            handle.flush()
            os.fsync(handle.fileno())  # An empty file after a power cut would be a batch that nobody knows of.
        hidden.replace(path)


class Invalid(Exception):
    """A batch's file cannot be worked through."""

    def __init__(self, problems: list[BatchError]) -> None:
        super().__init__("invalid")
        self.problems = problems


def _answer(custom_id: str, *, response: Any = None, error: Any = None) -> dict[str, Any]:
    return {"id": f"batch_req_{secrets.token_hex(12)}", "custom_id": custom_id, "response": response, "error": error}


def _line(raw: bytes, endpoint: str, seen: set[str]) -> Line:
    if len(raw) > _MOST_LINE:
        raise InputError(f"a line has at most {_MOST_LINE >> 20} MiB")
    try:
        line = Line.model_validate(json.loads(raw))
    except (ValueError, RecursionError) as error:
        first = str(error).splitlines()
        raise InputError(f"not a request: {' '.join(first[1:3]) or first[0]}"[:300]) from None
    if line.url != endpoint:
        raise InputError(f"its url is {line.url[:80]!r}, and the batch is for {endpoint}")
    if line.custom_id in seen:
        raise InputError(f"the custom_id {line.custom_id[:80]!r} was used before")
    if line.body.get("stream"):
        raise InputError("a request of a batch has no stream")
    seen.add(line.custom_id)
    return line
