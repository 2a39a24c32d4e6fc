"""SHA-256 of large files, remembered for as long as size and modification time stay the same."""

from __future__ import annotations

import hashlib
import json
import secrets
from contextlib import suppress
from pathlib import Path

from allmend import digests
from allmend.home import home

_LARGE = 16 << 20


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hex; large files are hashed once and looked up after that."""
    real = path.resolve()
    stat = real.stat()
    if stat.st_size < _LARGE:
        return digests.file_digest(real)
    key = json.dumps([str(real), stat.st_size, stat.st_mtime_ns, stat.st_ino])
    note = home("cache", "digests") / hashlib.sha256(key.encode()).hexdigest()
    with suppress(OSError):
        known = note.read_text()
        if len(known) == 64:
            return known
    digest = digests.file_digest(real)
    hidden = note.with_name(f".{note.name}.{secrets.token_hex(8)}")
    hidden.write_text(digest)
    hidden.replace(note)
    return digest
