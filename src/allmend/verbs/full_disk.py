"""A disk that fills up while a verb writes: told as such, wherever it happens."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from allmend.errors import DoesNotFit

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WORDS = ("No space left on device", "Disk quota exceeded", "File too large", "disk is full")


@contextmanager
def told_when_full(folder: Path, hint: str) -> Iterator[None]:
    """Turn "no space left" into `DoesNotFit`; libraries that wrap the system's error are known by its words."""
    try:
        yield
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        if (number not in FULL and not any(words in str(error) for words in _WORDS)) or isinstance(error, DoesNotFit):
            raise
        named = getattr(error, "filename", None)
        why = os.strerror(number) if number else "no space left"
        raise DoesNotFit(f"a file cannot be written: {why}", where=str(named or folder), hint=hint) from error
