"""Objects in a folder, read and written by the system's own calls, from whatever thread is at work on their bytes.

obstore does the same through a thread pool of its own: one more change of threads, and one more copy, for every piece.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from allmend.errors import InputError, Unavailable

UNFINISHED = "#new"
"""What a name ends with while its object is written; `Objects.sweep_unfinished` looks for the character."""


def read(folder: Path, name: str, start: int, into: Sequence[memoryview]) -> None:
    """Fill `into`, one after the other, with the object's bytes from `start` on.

    Raises `Unavailable` when the object cannot be read, `InputError` when it is too short.
    """
    try:
        file = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            got = os.preadv(file, into, start)
        finally:
            os.close(file)
    except OSError as error:
        raise Unavailable(f"stored bytes cannot be read: {error.strerror}", where=name) from error
    if got != sum(map(len, into)):
        raise InputError("stored bytes are not what was written: the store is damaged", where=name)


class FileWriter:
    """One object on its way into a folder; it is there, whole, after `close`, and not at all without it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.length = 0
        self._path = folder / name
        self._hidden = self._path.with_name(self._path.name + UNFINISHED)
        self._file: int | None = None

    def write(self, data: bytes | memoryview) -> None:
        """Write the next bytes."""
        view = memoryview(data)
        self.length += len(view)
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self._hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            while len(view):
                view = view[os.write(self._file, view) :]
        except OSError as error:
            raise Unavailable(f"the store cannot be written: {error.strerror}", where=self.name) from error

    def close(self) -> None:
        """The object is whole: let it appear."""
        self.write(b"")
        assert self._file is not None
        file, self._file = self._file, None
        try:
            os.close(file)
            self._hidden.rename(self._path)
        except OSError as error:
            raise Unavailable(f"the store cannot be written: {error.strerror}", where=self.name) from error

    def abandon(self) -> None:
        """Let it not appear; what was written of it goes."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            self._hidden.unlink(missing_ok=True)
