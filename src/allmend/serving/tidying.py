"""What nobody deletes: files and stores whose time has come, batches that ended long ago, what a crash left behind."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from starlette.concurrency import run_in_threadpool

_log = logging.getLogger(__name__)
DAY = 24 * 3600
KEEP = 30.0 * DAY
"""Seconds that files of batches are kept where nobody named a time; the same as with OpenAI."""
_FIRST, _EVERY = 60.0, 3600.0
"""Seconds after which it is done the first time, and between two times."""
_LEFT = 1.0 * DAY
"""Seconds after which something half made is taken for left behind."""


async def tidy(sweeps: Sequence[Callable[[], object]]) -> None:
    """Call `sweeps` again and again, until it is cancelled."""
    await asyncio.sleep(_FIRST)
    while True:
        for sweep in sweeps:
            try:
                await run_in_threadpool(sweep)
            except Exception as error:  # a full disk, perhaps, which this is against
                _log.error("what is kept cannot be looked through; it is tried again", exc_info=error)
        await asyncio.sleep(_EVERY)


def remove_left(root: Path, pattern: str) -> None:
    """Remove files and folders that a server was making when it ended."""
    for path in root.glob(pattern):
        try:
            # Not of what is in it, which may have been made long before: since it stands here under this name.
            if time.time() - path.lstat().st_ctime < _LEFT:
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError:
            continue  # Somebody else was quicker.
