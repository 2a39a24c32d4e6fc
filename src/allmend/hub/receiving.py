"""Reading the body of a commit as it comes: lines of JSON, small files stored as they pass.

Nothing of a commit is kept in memory but its list of changes; a line is at most as long as a small file in base64.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from allmend.hub import objects
from allmend.hub.commits import Change
from allmend.hub.faults import Fault
from allmend.hub.names import check_path, is_commit

if TYPE_CHECKING:
    from allmend.hub.state import Hub

_BATCH = 16 * 2**20
_MOST_AT_ONCE = 1000
_SHA256_DIGITS = frozenset("0123456789abcdef")


@dataclass
class Received:
    """A commit as it was sent.

    Attributes:
        large: files whose contents are to be in the repository's store already, by path: sha256 and stated size.
    """

    change: Change
    large: dict[str, tuple[str, int | None]] = field(default_factory=dict)
    _waiting: list[tuple[str, bytes]] = field(default_factory=list)
    _held: int = 0

    async def keep(self, hub: Hub, path: str, data: bytes) -> None:
        """Take a regular file; many are stored at once."""
        self._waiting.append((path, data))
        self._held += len(data)
        if self._held > _BATCH or len(self._waiting) >= _MOST_AT_ONCE:
            await self.store(hub)

    async def store(self, hub: Hub) -> None:
        """Store what was taken."""
        waiting, self._waiting, self._held = self._waiting, [], 0
        if not waiting:
            return
        once = list(dict.fromkeys(data for _, data in waiting))
        known = dict(zip(once, await hub.store.put_many(once), strict=True))
        for path, data in waiting:
            self.change.files[path] = objects.File(objects.blob_id(data), len(data), known[data].xet)


async def receive(hub: Hub, body: AsyncIterator[bytes]) -> Received:
    """Read a commit; its regular files are in the store afterwards.

    Raises:
        Fault: 400 for a body that is none, 413 for one that is too long.
    """
    made = Received(Change("", ""))
    head = False
    count = 0
    async for line in _lines(hub, body):
        key, value = _parsed(line)
        count += 1
        if count > hub.limits.operations + 1:
            raise Fault(413, f"A commit has at most {hub.limits.operations:,} changes.")
        if key == "header":
            _header(made.change, value)
            head = True
        elif key == "file":
            await _file(hub, made, value)
        elif key == "lfsFile":
            await made.store(hub)
            _large(made, value)
        elif key == "deletedFile":
            await made.store(hub)
            path = check_path(_text(value, "path").strip("/"))
            made.change.files[path] = None
        elif key in ("deletedFolder", "deletedEntry"):
            made.change.folders.add(check_path(_text(value, "path").strip("/")))
        else:
            raise Fault(400, f"A commit has no lines of the kind {str(key)[:40]!r}.")
    await made.store(hub)
    if not head:
        raise Fault(400, "A commit begins with a line `header` with a `summary`.")
    return made


async def _lines(hub: Hub, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    longest = hub.limits.regular * 4 // 3 + 65_536
    rest = bytearray()
    taken = 0
    async for chunk in body:
        taken += len(chunk)
        if taken > hub.limits.commit:
            raise Fault(413, f"A commit has at most {hub.limits.commit:,} bytes; upload large files before it.")
        rest += chunk
        *whole, last = rest.split(b"\n")
        rest = last if isinstance(last, bytearray) else bytearray(last)
        for line in whole:
            if line.strip():
                yield bytes(line)
        if len(rest) > longest:
            raise Fault(413, f"A file inside a commit has at most {hub.limits.regular:,} bytes.")
    if rest.strip():
        yield bytes(rest)


def _parsed(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        item = json.loads(line)
    except (ValueError, RecursionError):
        raise Fault(400, "A line of the commit is not JSON.") from None
    if not isinstance(item, dict) or not isinstance(item.get("key"), str) or not isinstance(item.get("value"), dict):
        raise Fault(400, "A line of a commit has a `key` and a `value`.")
    return item["key"], item["value"]


def _text(value: dict[str, Any], name: str, default: str | None = None) -> str:
    found = value.get(name, default)
    if not isinstance(found, str):
        raise Fault(400, f"`{name}` is a text.")
    try:
        found.encode()
    except UnicodeEncodeError:
        raise Fault(400, f"`{name}` must be Unicode text.") from None
    return found


def _header(change: Change, value: dict[str, Any]) -> None:
    change.title = _text(value, "summary")
    change.message = _text(value, "description", "")
    parent = value.get("parentCommit")
    if parent is not None and not (isinstance(parent, str) and is_commit(parent)):
        raise Fault(400, "`parentCommit` is a commit's whole name.")
    change.parent = parent


async def _file(hub: Hub, made: Received, value: dict[str, Any]) -> None:
    path = check_path(_text(value, "path").removeprefix("/"))
    content = _text(value, "content")
    encoding = value.get("encoding", "utf-8")
    try:
        data = base64.b64decode(content, validate=True) if encoding == "base64" else content.encode()
    except (binascii.Error, ValueError):
        raise Fault(400, f"The content of {path[:200]!r} is not base64.") from None
    if len(data) > hub.limits.regular:
        raise Fault(413, f"{path[:200]!r} is too large to travel inside a commit.")
    made.large.pop(path, None)
    # Its place in the order: a later line for the same path wins.
    made.change.files.pop(path, None)
    await made.keep(hub, path, data)


def _large(made: Received, value: dict[str, Any]) -> None:
    path = check_path(_text(value, "path").removeprefix("/"))
    sha256, size = _text(value, "oid"), value.get("size")
    if value.get("algo", "sha256") != "sha256" or len(sha256) != 64 or not set(sha256) <= _SHA256_DIGITS:
        raise Fault(400, f"`oid` of {path[:200]!r} is no SHA-256.")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise Fault(400, f"`size` of {path[:200]!r} is no number of bytes.")
    made.change.files.pop(path, None)
    made.large[path] = (sha256, size)
