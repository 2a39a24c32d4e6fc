"""Which server works through a batch: the one that took it on, and another once that one is gone."""

from __future__ import annotations

import fcntl
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from allmend.runs.alive import LOCK_NAME, hold, is_alive, release

_BEGINS = 3600.0


class Claims:
    """Servers that work in one folder. Each holds a lock, which the system lets go when its process ends.

    Args:
        root: the folder; it has to be there before anything is asked.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.me = secrets.token_hex(12)
        self._held: int | None = None
        self._lock = threading.Lock()

    def enter(self) -> str:
        """Be seen by others; this server's name."""
        with self._lock:
            if self._held is None:
                self._folder(self.me).mkdir(exist_ok=True)
                self._held = hold(self._folder(self.me))
        return self.me

    def leave(self) -> None:
        """What this server had is anybody's."""
        with self._lock:
            held, self._held = self._held, None
            if held is not None:
                shutil.rmtree(self._folder(self.me), ignore_errors=True)
                release(held)

    def is_free(self, server: str | None) -> bool:
        """Whether what `server` had may be taken: it is gone, or this one."""
        if server is None or server == self.me:
            return True
        folder = self._folder(server)
        alive = is_alive(folder)
        if alive or (alive is None and _may_hold(folder)):
            return False
        shutil.rmtree(folder, ignore_errors=True)
        return True

    def sweep(self) -> None:
        """Forget servers that ended without saying so."""
        for folder in self._root.glob(".server-*"):
            # One that begins at this moment has not taken its lock yet.
            with suppress(OSError):  # Another server was quicker.
                if time.time() - folder.stat().st_mtime > _BEGINS:
                    self.is_free(folder.name.removeprefix(".server-"))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While no other server is in here; not to be nested."""
        with (self._root / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _folder(self, server: str) -> Path:
        return self._root / f".server-{server}"


def _may_hold(folder: Path) -> bool:
    """Whether there is a lock, which could not be opened: too many files are open, say."""
    try:
        (folder / LOCK_NAME).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True
