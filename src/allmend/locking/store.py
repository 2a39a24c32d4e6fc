"""What was fetched, kept by its SHA-256 so that a locked run needs no network."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from allmend.digests import file_digest
from allmend.errors import DoesNotFit, FetchError, Unavailable


def folder() -> Path:
    """The cache's folder; `XDG_CACHE_HOME` moves it."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "allmend" / "locked"


def ready() -> None:
    """Make the cache's folders; raises `Unavailable` where that cannot be done."""
    try:
        for name in ("files", "clones"):
            (folder() / name).mkdir(parents=True, exist_ok=True)
        if not os.access(folder(), os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise Unavailable(
            f"the cache cannot be written ({error.strerror})", where=str(folder()),
            hint="Make room for it there, or name another place with XDG_CACHE_HOME.",
        ) from None  # fmt: skip


def place(sha256: str) -> Path:
    """Where the file of a digest is, or would be."""
    return folder() / "files" / sha256[:2] / sha256


def has(sha256: str, size: int | None = None) -> bool:
    """Whether the file is there, as far as its size tells; `checked` reads it."""
    try:
        return bool(sha256) and (size is None or place(sha256).stat().st_size == size) and place(sha256).is_file()
    except OSError:
        return False


def checked(sha256: str) -> Path | None:
    """The file, read through and found to have its digest; a damaged one is taken out and None returned."""
    path = place(sha256)
    try:
        if file_digest(path) == sha256:
            return path
        path.unlink()
    except OSError:
        return None
    return None


def add(blocks: Iterable[bytes], *, most: int | None = None, what: str = "the file") -> tuple[str, int]:
    """Keep a stream of bytes; returns (SHA-256, size). Raises `DoesNotFit` above `most` bytes or on a full disk."""
    target = folder() / "files"
    try:
        target.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".part-", dir=target)
    except OSError as error:
        raise FetchError(f"the cache cannot be written ({error.strerror})", where=str(target)) from None
    digest, size = hashlib.sha256(), 0
    try:
        with os.fdopen(handle, "wb") as stream:
            for block in blocks:
                size += len(block)
                if most is not None and size > most:
                    raise DoesNotFit(f"{what} is larger than {most / 2**30:.1f} GiB", hint="Raise it with --limit.")
                digest.update(block)
                stream.write(block)
        final = place(digest.hexdigest())
        final.parent.mkdir(parents=True, exist_ok=True)
        Path(name).replace(final)
        final.chmod(0o644)
    except OSError as error:
        raise DoesNotFit(f"{what} could not be kept in the cache ({error.strerror})", where=str(target)) from None
    finally:
        Path(name).unlink(missing_ok=True)
    return digest.hexdigest(), size


def add_file(path: Path) -> tuple[str, int]:
    """Keep a copy of a file."""
    with path.open("rb") as stream:
        return add(iter(lambda: stream.read(2**20), b""), what=path.name)


def remember(kind: str, key: object, value: Any) -> None:
    """Keep a small JSON value under (kind, key)."""
    path = _note(kind, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def recall(kind: str, key: object) -> Any:
    """The JSON value under (kind, key); None when there is none that can be read."""
    try:
        return json.loads(_note(kind, key).read_text())
    except (OSError, ValueError):
        return None


def _note(kind: str, key: object) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
    return folder() / kind / digest[:32]
