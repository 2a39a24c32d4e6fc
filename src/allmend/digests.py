"""SHA-256 of files and folders, as every record and lock writes them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def bytes_digest(content: bytes) -> str:
    """SHA-256 of bytes, in hex."""
    return hashlib.sha256(content).hexdigest()


def folder_digest(folder: Path, suffixes: frozenset[str] | None = None) -> str:
    """SHA-256 over a folder: of the lines `digest, two spaces, relative path` of its files, sorted by path.

    Hidden files and links are left out; with `suffixes`, so are files that end otherwise.
    """
    listing = hashlib.sha256()
    for path in regular_files(folder):
        if suffixes is None or path.suffix.lower() in suffixes:
            line = f"{file_digest(path)}  {path.relative_to(folder).as_posix()}\n"
            listing.update(line.encode("utf-8", "surrogateescape"))
    return listing.hexdigest()


def path_digest(path: Path) -> str:
    """The digest of a file or of a folder."""
    return folder_digest(path) if path.is_dir() else file_digest(path)


def regular_files(folder: Path) -> Iterator[Path]:
    """All regular files below `folder` in the order of their paths; hidden files and links are left out."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(place, name)
            if not name.startswith(".") and not path.is_symlink() and path.is_file():
                found.append((path.relative_to(folder).as_posix(), path))
    yield from (path for _, path in sorted(found))
