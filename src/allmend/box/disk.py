"""How much a box has put on the disk."""

from __future__ import annotations

import os
from pathlib import Path

MOST_DEPTH = 300
"""Folders within folders; what installs and builds make stays far below."""


def used(folder: Path, enough: int) -> int:
    """Bytes on disk beneath `folder`, links not followed; stops counting above `enough`.

    Folders nested beyond all use count as too much: they would make counting itself the attack.
    """
    total = 0
    pending = [(str(folder), 0)]
    while pending and total <= enough:
        path, depth = pending.pop()
        if depth > MOST_DEPTH:
            return enough + 1
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    total += status.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        pending.append((entry.path, depth + 1))
        except OSError:
            continue
    return total
