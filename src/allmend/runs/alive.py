"""Whether a run still runs: its process holds a lock on a file in its folder, which the kernel drops when it dies.

No process numbers are compared: those are used again, and a container shows others.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

LOCK_NAME = ".running"

_held: set[int] = set()


def hold(folder: Path) -> int:
    """Take the lock of a run's folder; returns the descriptor to `release`."""
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    _held.add(descriptor)
    return descriptor


def release(descriptor: int) -> None:
    """Let go of a lock taken by `hold`."""
    _held.discard(descriptor)
    os.close(descriptor)


def is_alive(folder: Path) -> bool | None:
    """Whether a process holds the lock of `folder`; None when the folder is not on this machine."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _after_fork() -> None:
    # A forked worker that outlives its run must not keep it looking alive.
    for descriptor in _held:
        try:
            os.close(descriptor)
        except OSError:
            pass
    _held.clear()


os.register_at_fork(after_in_child=_after_fork)
