"""git's names for what a repository holds, so that the same content has the same name everywhere.

A regular file is git's blob, a large one the blob of its LFS pointer, a folder git's tree, a commit git's commit;
their names are the SHA-1 that git gives them (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects), and a stock
client that computes a file's name for itself finds ours.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


@dataclass(frozen=True, slots=True)
class File:
    """A file of a tree.

    Attributes:
        oid: git's name of the blob; of the pointer for a large file.
        size: bytes of the content.
        key: where the store has it: the Xet hash of a large file, the store's key of a small one.
        sha256: of a large file's content; None for a regular file.
    """

    oid: str
    size: int
    key: str
    sha256: str | None = None

    @property
    def etag(self) -> str:
        """What clients name the content by in their caches."""
        return self.sha256 or self.oid


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of a tree; `oid` names its tree."""

    oid: str


Entry = File | Folder


def blob_id(data: bytes) -> str:
    """git's name of a regular file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def pointer(sha256: str, size: int) -> bytes:
    """What git itself would hold of a large file (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md)."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def large_file(sha256: str, size: int, xet: str) -> File:
    """The entry of a large file."""
    return File(blob_id(pointer(sha256, size)), size, xet, sha256)


def sort_key(name: str, entry: Entry) -> bytes:
    """git's order: folders as if their name ended in a slash."""
    return (name + "/" if isinstance(entry, Folder) else name).encode()


def tree_id(entries: Iterable[tuple[str, Entry]]) -> str:
    """git's name of a folder; `entries` in git's order."""
    body = b"".join(
        (b"40000 " if isinstance(entry, Folder) else b"100644 ") + name.encode() + b"\0" + bytes.fromhex(entry.oid)
        for name, entry in entries
    )
    return hashlib.sha1(b"tree %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def commit_id(tree: str, parents: Sequence[str], author: str, created: int, title: str, message: str) -> str:
    """git's name of a commit."""
    who = f"{author} <{author}@hub> {created} +0000"
    above = [f"parent {parent}" for parent in parents]
    lines = [f"tree {tree}", *above, f"author {who}", f"committer {who}", "", title]
    body = ("\n".join(lines) + (f"\n\n{message}" if message else "") + "\n").encode()
    return hashlib.sha1(b"commit %d\0" % len(body) + body, usedforsecurity=False).hexdigest()
