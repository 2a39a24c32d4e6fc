"""Objects in a folder, read and written by the system's own calls, from whatever thread is at work on their bytes.

obstore does the same through a thread pool of its own: one more change of threads, and one more copy, for every piece.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

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
    """One object on its way into a folder; it is there, whole, after `close`, and not at all without it.

    A request that is given up leaves its thread at work: whatever that still writes must not reach a file that got the
    same number meanwhile, so each call has the file for itself and nothing is written after the end.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.length = 0
        self._path = folder / name
        self._hidden = self._path.with_name(self._path.name + UNFINISHED)
        self._file: int | None = None
        self._ended = False
        self._mine = Lock()

    def write(self, data: bytes | memoryview) -> None:
        """Write the next bytes."""
        view = memoryview(data)
        try:
            with self._mine:
                file = self._open()
                self.length += len(view)
                while len(view):
                    view = view[os.write(file, view) :]
        except OSError as error:
            raise self._unavailable(error) from error

    def _open(self) -> int:
        if self._ended:
            raise Unavailable("the upload was given up", where=self.name)
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        return self._file

    def close(self) -> None:
        """The object is whole: let it appear."""
        try:
            with self._mine:
                file = self._open()
                self._ended, self._file = True, None
                os.close(file)
                self._hidden.rename(self._path)
        except OSError as error:
            raise self._unavailable(error) from error

    def abandon(self) -> None:
        """Let it not appear; what was written of it goes."""
        with self._mine:
            self._ended = True
            if self._file is not None:
                os.close(self._file)
                self._file = None
                self._hidden.unlink(missing_ok=True)

    def _unavailable(self, error: OSError) -> Unavailable:
        return Unavailable(f"the store cannot be written: {error.strerror}", where=self.name)
