"""`/v1/files`: what clients leave here for batches, and what batches made. A folder a file, below `ALLMEND_HOME`."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from allmend.serving.faults import Fault, Missing
from allmend.serving.lists import Deleted, Gone, Listed, Page
from allmend.serving.tidying import KEEP, remove_left

_ID = re.compile(r"file-[a-z0-9]{24}\Z")
_CHUNK = 1 << 20
MOST_BYTES = 256 << 20
"""Of one file."""
_MOST_FILES = 10_000
"""Of one owner."""
_MOST_TOGETHER = 64 << 30
"""Bytes of one owner's files."""
_LEAST_FREE = 256 << 20
"""Bytes of the disk that files leave to everything else."""

_OF_BATCHES = ("batch", "batch_output")
Purpose = Literal["batch", "batch_output", "assistants", "user_data", "fine-tune", "vision", "evals"]


class FileObject(BaseModel):
    """A file, as OpenAI has it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: Purpose
    status: Literal["processed"] = "processed"
    expires_at: int | None = None
    """When it is deleted by itself."""


class Expiry(BaseModel):
    """When a file is deleted."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=30 * 24 * 3600)]
    """After it was made."""


class Content(Protocol):
    """Bytes to be kept, read once."""

    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Kept:
    """What limits go by."""

    owner: str
    bytes: int
    expires_at: int | None


class Files:
    """Files of everybody, each seen by its owner alone.

    Args:
        keep: seconds after which files of batches are deleted where nobody named a time; 0 keeps them.
    """

    def __init__(self, root: Path, keep: float = KEEP) -> None:
        self._root = root
        self.keep = keep
        self._known: dict[str, _Kept] = {}
        """Of all that were there at the last look: a file never changes, and reading everybody's takes seconds."""
        self._gone = Gone()
        self.promised: Callable[[str], int] = lambda owner: 0
        """Bytes of an owner that are still to come."""

    def add(
        self,
        content: Content,
        *,
        name: str,
        purpose: Purpose,
        owner: str,
        expires: Expiry | None = None,
        ours: bool = False,
        number: str | None = None,
        check: Callable[[], None] | None = None,
    ) -> FileObject:
        """Keep a file; it is there once it is there whole.

        Args:
            ours: it was made here, and limits are for what comes from outside; else `content` can be wound back.
            number: to be part of its id; the file that has it already is given back as it is.
            check: called when all was read, and raises what stands against it.

        Raises:
            Fault: it is too large, or its owner has too many, or the disk is nearly full.
        """
        if not ours:
            self.check_room(owner, _length(content))
        identity = f"file-{number or secrets.token_hex(12)}"
        if number is not None and (there := self._read(self._root / identity)) is not None:
            return there[1]
        made = self._root / f".{identity}"
        shutil.rmtree(made, ignore_errors=True)  # Of an attempt that ended half-way.
        made.mkdir(parents=True)
        try:
            size = 0
            with room(), (made / "content").open("wb") as handle:
                while chunk := content.read(_CHUNK):
                    size += len(chunk)
                    if size > MOST_BYTES and not ours:
                        raise Fault(413, f"A file has at most {MOST_BYTES >> 20} MiB.", code="file_too_large")
                    handle.write(chunk)
                handle.flush()
                os.fsync(handle.fileno())
            if check is not None:
                check()
            now = int(time.time())
            about = FileObject(
                id=identity,
                bytes=size,
                created_at=now,
                filename=shown(name),
                purpose=purpose,
                expires_at=self._expires_at(now, purpose, expires),
            )
            (made / "about.json").write_text(json.dumps({"owner": owner, **about.model_dump()}), "utf-8")
            made.rename(self._root / identity)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        return about

    def _expires_at(self, now: int, purpose: Purpose, expires: Expiry | None) -> int | None:
        if expires is not None:
            return now + expires.seconds
        return now + int(self.keep) if self.keep and purpose in _OF_BATCHES else None

    def is_there(self, identity: str | None) -> bool:
        """Whether a file is still kept, whosever it is."""
        return identity is not None and self._read(self._root / identity) is not None

    def sweep(self) -> None:
        """Delete those whose time has come, and what was not made to its end."""
        now = time.time()
        for name, each in self._look().items():
            if each.expires_at is not None and each.expires_at <= now:
                self._read(self._root / name)
        remove_left(self._root, ".file-*")

    def get(self, identity: str, owner: str) -> FileObject:
        """A file; raises `Missing` for one that is not there or is somebody else's."""
        found = self._read(self._root / identity) if _ID.match(identity) else None
        if found is None or found[0] != owner:
            raise Missing(f"there is no file {identity[:80]!r}")
        return found[1]

    def content(self, identity: str, owner: str) -> Path:
        """Where a file's bytes lie."""
        return self._root / self.get(identity, owner).id / "content"

    def delete(self, identity: str, owner: str) -> Deleted:
        """Delete a file."""
        about = self.get(identity, owner)
        self._gone.note(about)
        if not self._remove(about.id):  # Somebody else did at the same time.
            raise Missing(f"there is no file {identity[:80]!r}")
        return Deleted(id=about.id, object="file")

    def page(self, owner: str, page: Page, purpose: str | None = None) -> Listed[FileObject]:
        """An owner's files."""
        return page.of([about for about in self._of(owner) if purpose in (None, about.purpose)], self._gone)

    def check_room(self, owner: str, needed: int) -> None:
        """Raise `Fault` where `needed` bytes are more than an owner may leave here, or than the disk has."""
        count, size, now = 0, needed + self.promised(owner), time.time()
        for each in self._look().values():
            if each.owner == owner and (each.expires_at is None or each.expires_at > now):
                count, size = count + 1, size + each.bytes
        words = ""
        if count >= _MOST_FILES:
            words = f"{_MOST_FILES} files are kept here; delete some first."
        elif size > _MOST_TOGETHER:
            words = f"{_MOST_TOGETHER >> 30} GiB of files are kept here; delete some first."
        if words:
            raise Fault(400, words, code="storage_limit_exceeded")
        self.check_disk(needed)

    def check_disk(self, needed: int) -> None:
        """Raise `Fault` where the disk has no room for so many bytes."""
        self._root.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self._root).free < needed + _LEAST_FREE:
            raise _disk_full()

    def _remove(self, identity: str) -> bool:
        gone = self._root / f".{identity}.gone"
        try:
            (self._root / identity).rename(gone)
        except OSError:
            return False
        shutil.rmtree(gone, ignore_errors=True)
        return True

    def _look(self) -> dict[str, _Kept]:
        """What is there, whoever put it there, by id; expired ones too."""
        here = {path.name for path in self._root.glob("file-*")}
        before = self._known
        known = {name: before[name] for name in here if name in before}
        for name in here - known.keys():
            if (found := self._read(self._root / name)) is not None:
                known[name] = _Kept(found[0], found[1].bytes, found[1].expires_at)
        self._known = known
        return known

    def _of(self, owner: str) -> Iterator[FileObject]:
        for name, each in self._look().items():
            if each.owner == owner and (found := self._read(self._root / name)) is not None:
                yield found[1]

    def _read(self, folder: Path) -> tuple[str, FileObject] | None:
        try:
            values = json.loads((folder / "about.json").read_text("utf-8"))
            owner, about = str(values.pop("owner")), FileObject.model_validate(values)
        except (OSError, ValueError, KeyError):
            return None
        if about.expires_at is not None and about.expires_at <= time.time():
            self._gone.note(about)
            self._remove(about.id)
            return None
        return owner, about


@contextmanager
def room() -> Iterator[None]:
    """What is written in here and finds the disk full is answered so."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _disk_full() from None


def _disk_full() -> Fault:
    return Fault(507, "The server's disk is nearly full.", type="server_error", code="disk_full")


def _length(content: Any) -> int:
    size = int(content.seek(0, os.SEEK_END))
    content.seek(0)
    return size


def shown(name: str) -> str:
    """A name that is only ever shown: without folders, and what cannot be printed."""
    bare = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(character for character in bare if character.isprintable())[:255] or "unnamed"
