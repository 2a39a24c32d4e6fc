"""Scripts of a clone that lie beside the notebook: read, so that one more level is known. Never outside that folder."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allmend.planning.session import Reader
    from allmend.planning.world import Clone, World

LARGEST = 1_000_000
"""Bytes of a script that is followed."""


def beside(folder: Path) -> Reader:
    """A reader of scripts in clones under `folder`; links out of it are not followed."""
    root = folder.resolve()

    def read(path: str, cwd: str, clone: Clone | None, world: World) -> str | None:
        if clone is None:
            candidates = [posixpath.basename(path)]
        else:
            name = posixpath.basename(clone.path)
            key = world.key(path, cwd)
            inside = key.rsplit(f"{name}/", 1)[-1] if f"{name}/" in key else posixpath.basename(path)
            candidates = [f"{name}/{inside}"]
            if root.name == name:
                candidates.append(inside)
        for candidate in candidates:
            try:
                found = (root / candidate).resolve()
                if found.is_relative_to(root) and found.is_file() and found.stat().st_size <= LARGEST:
                    return found.read_bytes().decode("utf-8", "replace")
            except (OSError, ValueError, RuntimeError):
                continue
        return None

    return read
