"""Files of a clone that lie beside the notebook: read, so that one more level is known. Never outside that folder."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allmend.planning.session import Reader
    from allmend.planning.world import Clone, World

LARGEST = 1_000_000
"""Bytes of a file that is followed."""


def inside(path: str, cwd: str, clone: Clone, world: World) -> str:
    """`path` as seen from the root of the clone that it lies in."""
    key = world.key(path, cwd)
    root = next((known for known, found in world.clones.items() if found is clone and known), None)
    if root is not None and key.startswith(root + "/"):
        return key[len(root) + 1 :]
    name = posixpath.basename(clone.path)
    if name and f"{name}/" in key:
        return key.rsplit(f"{name}/", 1)[-1]
    return key if root is None else posixpath.basename(path)


def text_of(root: Path, name: str) -> str | None:
    """The text of the file `name` under `root`; None for a link out of it, a loop of links, or no such file."""
    try:
        base = root.resolve()
        found = (base / name).resolve()
        if found.is_relative_to(base) and found.is_file() and found.stat().st_size <= LARGEST:
            return found.read_bytes().decode("utf-8", "replace")
    except (OSError, ValueError, RuntimeError):
        return None
    return None


def beside(folder: Path) -> Reader:
    """A reader of files in clones under `folder`; links out of it are not followed."""
    root = folder.resolve()

    def read(path: str, cwd: str, clone: Clone | None, world: World) -> str | None:
        if clone is None:
            candidates = [posixpath.basename(path)]
        else:
            name = posixpath.basename(clone.path)
            within = inside(path, cwd, clone, world)
            candidates = [f"{name}/{within}"]
            if root.name == name:
                candidates.append(within)
        for candidate in candidates:
            found = text_of(root, candidate)
            if found is not None:
                return found
        return None

    return read
