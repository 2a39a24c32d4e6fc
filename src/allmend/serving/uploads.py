"""`/v1/uploads`: large files in parts. A folder an upload, whose parts become a file of `/v1/files` in the end."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from allmend.serving.faults import Fault, Missing
from allmend.serving.files import Expiry, FileObject, Files, Purpose, room, shown
from allmend.serving.tidying import remove_left

_ID = re.compile(r"upload_[a-z0-9]{24}\Z")
_PART = re.compile(r"part_[a-z0-9]{24}\Z")
_CHUNK = 1 << 20
MOST_BYTES = 8 << 30
"""Of one file, as OpenAI has it."""
MOST_PART = 64 << 20
"""Bytes of one part."""
_MOST_PARTS = 10_000
_MOST_PENDING = 100
"""Uploads of one owner that are under way."""
_LASTS = 3600
"""Seconds from its beginning to its end, whether it is complete or not."""
_PATIENCE = 2.0
"""Seconds that one waits for others who change the same upload."""
_REMEMBERED = 24 * 3600
"""Seconds that an upload's end is known for."""


class CreateUpload(BaseModel):
    """The body of `/v1/uploads`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    bytes: Annotated[int, Field(ge=0, le=MOST_BYTES)]
    """Of the whole file."""
    filename: Annotated[str, Field(min_length=1, max_length=1024)]
    mime_type: Annotated[str, Field(max_length=256)]
    """Accepted; what a file is, its name says."""
    purpose: Purpose
    expires_after: Expiry | None = None
    """When the file is deleted."""


class CompleteUpload(BaseModel):
    """The body of `/v1/uploads/ID/complete`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    part_ids: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=_MOST_PARTS)]
    """In the file's order."""
    md5: Annotated[str, Field(max_length=64)] | None = None
    """Of the whole file, in hexadecimal."""


class Upload(BaseModel):
    """A file that comes in parts, as OpenAI has it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: Purpose
    status: Literal["pending", "completed", "cancelled", "expired"] = "pending"
    file: FileObject | None = None
    """What it became."""


class UploadPart(BaseModel):
    """A part of a file."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


class Uploads:
    """Uploads of everybody, each seen by its owner alone. All of it is on disk, so a restart changes nothing.

    Args:
        root: where they lie.
        files: what they become part of, whose limits hold for both together.
    """

    def __init__(self, root: Path, files: Files) -> None:
        self._root, self._files = root, files
        self._over: set[str] = set()
        """Names of those that ended: they are not looked at again."""
        files.promised = self.promised

    def create(self, body: CreateUpload, owner: str) -> Upload:
        """Begin one; room is set aside for all of it.

        Raises:
            Fault: the owner has too much here, or the disk is nearly full.
        """
        if sum(1 for _ in self._of(owner)) >= _MOST_PENDING:
            words = f"{_MOST_PENDING} uploads are under way; complete or cancel some first."
            raise Fault(400, words, code="storage_limit_exceeded")
        self._files.check_room(owner, body.bytes)
        identity, now = f"upload_{secrets.token_hex(12)}", int(time.time())
        about = Upload(
            id=identity,
            bytes=body.bytes,
            created_at=now,
            expires_at=now + _LASTS,
            filename=shown(body.filename),
            purpose=body.purpose,
        )
        hidden = self._root / f".{identity}"
        (hidden / "parts").mkdir(parents=True)
        expiry = body.expires_after.model_dump() if body.expires_after else None
        self._write(hidden, {"owner": owner, "expires_after": expiry}, about)
        hidden.rename(self._root / identity)
        return about

    def add(self, identity: str, content: IO[bytes], owner: str) -> UploadPart:
        """Keep a part; several may come at once, in any order.

        Its id follows from its bytes: a client that heard no answer sends it again, and it is here once.
        """
        size = content.seek(0, os.SEEK_END)
        content.seek(0)
        if size > MOST_PART:
            raise Fault(413, f"A part has at most {MOST_PART >> 20} MiB.", code="file_too_large")
        self._pending(identity, owner)
        self._files.check_disk(size)
        hidden = self._root / identity / "parts" / f".{secrets.token_hex(12)}"
        try:
            part = f"part_{_kept(content, hidden)}"
            with self._alone(identity):
                _, about = self._pending(identity, owner)
                parts = (self._root / identity / "parts").glob("part_*")
                sizes = [each.stat().st_size for each in parts if each.name != part]
                if sum(sizes) + size > about.bytes:
                    words = f"The parts have more than the {about.bytes} bytes that this upload was begun with."
                    raise Fault(400, words, param="data", code="invalid_value")
                if len(sizes) >= _MOST_PARTS:
                    raise Fault(400, f"An upload has at most {_MOST_PARTS} parts.", code="storage_limit_exceeded")
                hidden.rename(hidden.with_name(part))
        except FileNotFoundError:
            raise _missing(identity) from None
        finally:
            hidden.unlink(missing_ok=True)
        return UploadPart(id=part, created_at=int(time.time()), upload_id=identity)

    def complete(self, identity: str, body: CompleteUpload, owner: str) -> Upload:
        """Make its parts a file; asked again it answers the same.

        Raises:
            Fault: parts are missing, or they are not what was announced; it can be tried again.
        """
        self._get(identity, owner)
        with self._alone(identity):
            kept, about = self._get(identity, owner)
            if about.status == "completed":
                return about
            self._check_pending(about)
            parts = self._chosen(identity, body.part_ids)
            size = sum(part.stat().st_size for part in parts)
            if size != about.bytes:
                words = f"The parts have {size} bytes together; {about.bytes} were announced."
                raise Fault(400, words, param="part_ids", code="invalid_value")
            whole = _Joined(parts)

            def check() -> None:
                if body.md5 is not None and body.md5.strip().lower() != whole.md5.hexdigest():
                    words = f"The parts' md5 is {whole.md5.hexdigest()}, not {body.md5.strip()}."
                    raise Fault(400, words, param="md5", code="invalid_checksum")

            self._files.check_disk(size)
            expiry = Expiry.model_validate(kept["expires_after"]) if kept.get("expires_after") else None
            # Under the upload's own number: if this ends before the next lines, asking again makes no second file.
            made = self._files.add(
                whole, name=about.filename, purpose=about.purpose, owner=owner, expires=expiry, ours=True,
                number=identity.removeprefix("upload_"), check=check,
            )  # fmt: skip
            about = about.model_copy(update={"status": "completed", "file": made})
            return self._end(identity, kept, about)

    def cancel(self, identity: str, owner: str) -> Upload:
        """Take no more parts, and forget those that came."""
        self._get(identity, owner)
        with self._alone(identity):
            kept, about = self._get(identity, owner)
            if about.status == "cancelled":
                return about
            self._check_pending(about)
            return self._end(identity, kept, about.model_copy(update={"status": "cancelled"}))

    def promised(self, owner: str) -> int:
        """Bytes that an owner's uploads have room set aside for."""
        return sum(about.bytes for about in self._of(owner))

    def sweep(self) -> None:
        """Delete the parts of what nobody completed in time, what ended long ago, and what was left half-written."""
        self._files.sweep()
        remove_left(self._root, ".upload_*")
        now = time.time()
        for folder in self._root.glob("upload_*"):
            found = self._read(folder)
            if found is None or now < found[1].expires_at:
                continue
            with suppress(Missing, Fault, OSError), self._alone(folder.name):
                found = self._read(folder)
                if found is None:
                    continue
                if found[1].status == "expired":
                    shutil.rmtree(folder / "parts", ignore_errors=True)
                if now > found[1].expires_at + _REMEMBERED:
                    shutil.rmtree(folder, ignore_errors=True)

    def _pending(self, identity: str, owner: str) -> tuple[dict[str, Any], Upload]:
        found = self._get(identity, owner)
        self._check_pending(found[1])
        return found

    def _check_pending(self, about: Upload) -> None:
        if about.status != "pending":
            raise Fault(400, f"This upload is {about.status}.", code=f"upload_{about.status}")

    def _chosen(self, identity: str, part_ids: Sequence[str]) -> list[Path]:
        parts = []
        for part_id in part_ids:
            path = self._root / identity / "parts" / part_id
            if not _PART.match(part_id) or not path.is_file():
                words = f"This upload has no part {part_id!r}."
                raise Fault(400, words, param="part_ids", code="invalid_value")
            parts.append(path)
        return parts

    def _end(self, identity: str, kept: dict[str, Any], about: Upload) -> Upload:
        self._write(self._root / identity, kept, about)
        shutil.rmtree(self._root / identity / "parts", ignore_errors=True)
        return about

    def _get(self, identity: str, owner: str) -> tuple[dict[str, Any], Upload]:
        found = self._read(self._root / identity) if _ID.match(identity) else None
        if found is None or found[0]["owner"] != owner:
            raise _missing(identity)
        return found

    def _of(self, owner: str) -> Iterator[Upload]:
        """An owner's uploads that are under way."""
        here = {folder.name for folder in self._root.glob("upload_*")}
        self._over &= here
        for name in here - self._over:
            if (found := self._read(self._root / name)) is None:
                continue
            if found[1].status != "pending":
                self._over.add(name)
            elif found[0]["owner"] == owner:
                yield found[1]

    def _read(self, folder: Path) -> tuple[dict[str, Any], Upload] | None:
        try:
            values = json.loads((folder / "about.json").read_text("utf-8"))
            kept = {"owner": str(values.pop("owner")), "expires_after": values.pop("expires_after")}
            about = Upload.model_validate(values)
        except (OSError, ValueError, KeyError):
            return None
        if about.status == "pending" and about.expires_at <= time.time():
            about.status = "expired"
        return kept, about

    def _write(self, folder: Path, kept: dict[str, Any], about: Upload) -> None:
        hidden = folder / ".about.json"
        with hidden.open("w", encoding="utf-8") as handle:
            json.dump({**kept, **about.model_dump()}, handle)
            handle.flush()
            os.fsync(handle.fileno())
        hidden.replace(folder / "about.json")

    @contextmanager
    def _alone(self, identity: str) -> Iterator[None]:
        """While nobody else, in this server or another on the same home, changes the upload.

        Who meets a long completion does not wait for it: the threads of the server are everybody's.
        """
        until = time.monotonic() + _PATIENCE
        try:
            with (self._root / identity / ".lock").open("ab") as lock:
                while True:
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        if time.monotonic() > until:
                            words, again = "This upload is being completed.", {"retry-after": "5"}
                            raise Fault(409, words, code="upload_busy", headers=again) from None
                        time.sleep(0.02)
                yield
        except FileNotFoundError:
            raise _missing(identity) from None


class _Joined:
    """Parts as one file that is read once, from its beginning, with its checksum."""

    def __init__(self, parts: Sequence[Path]) -> None:
        self._left = list(parts)
        self._open: IO[bytes] | None = None
        self.md5 = hashlib.md5(usedforsecurity=False)

    def read(self, size: int) -> bytes:
        """The next bytes; fewer than asked for where a part ends, none at the end."""
        while self._open is not None or self._left:
            if self._open is None:
                self._open = self._left.pop(0).open("rb")
            if chunk := self._open.read(size):
                self.md5.update(chunk)
                return chunk
            self.close()
        return b""

    def close(self) -> None:
        """Close the part that is read."""
        if self._open is not None:
            self._open.close()
            self._open = None


def _kept(content: IO[bytes], path: Path) -> str:
    """Write a part to the disk; 24 hexadecimal digits that follow from its bytes."""
    digest = hashlib.blake2b(digest_size=12)
    with room(), path.open("xb") as handle:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            handle.write(chunk)
        handle.flush()
        os.fsync(handle.fileno())
    return digest.hexdigest()


def _missing(identity: str) -> Missing:
    return Missing(f"there is no upload {identity[:80]!r}")
