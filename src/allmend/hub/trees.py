"""Folders in the database: each a tree named by its content, its entries in pages.

A page ends where the name of its last entry says so, so one changed file rewrites one page of a folder of 100,000,
and a listing reads only the pages it shows. Trees and pages are written once and never changed: whoever sees a
tree's name sees all of it.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from allmend.database.hub_repositories import hub_trees
from allmend.hub.objects import EMPTY_TREE, Entry, File, Folder
from allmend.hub.tree_pages import read_page


@dataclass(frozen=True)
class Tree:
    """A folder.

    Attributes:
        entries: entries in it; `files` and `bytes` count everything below too.
        pages: the sort key of each page's first entry, and the page's name.
    """

    id: str
    entries: int
    files: int
    bytes: int
    pages: tuple[tuple[str, str], ...]


_EMPTY = Tree(EMPTY_TREE, 0, 0, 0, ())


def load(connection: Connection, tree: str) -> Tree:
    """A tree by its name; raises `KeyError` where there is none."""
    if tree == EMPTY_TREE:
        return _EMPTY
    row = connection.execute(select(hub_trees).where(hub_trees.c.id == tree)).first()
    if row is None:
        raise KeyError(tree)
    return Tree(row.id, row.entries, row.files, row.bytes, tuple((a, b) for a, b in json.loads(row.pages)))


def find(connection: Connection, root: str, path: str) -> Entry | None:
    """What is at `path`, which names a file or a folder; the empty path is the root."""
    entry: Entry = Folder(root)
    for part in path.split("/") if path else ():
        if not isinstance(entry, Folder):
            return None
        found = _one(connection, load(connection, entry.oid), part)
        if found is None:
            return None
        entry = found
    return entry


def entries(connection: Connection, tree: str) -> Iterator[tuple[str, Entry]]:
    """What is in a folder itself, in git's order."""
    for _, page in load(connection, tree).pages:
        for _, name, entry in read_page(connection, page):
            yield name, entry


def _one(connection: Connection, tree: Tree, name: str) -> Entry | None:
    """An entry by its name, as a file or as a folder."""
    firsts = [first.encode() for first, _ in tree.pages]
    for key in (name.encode(), f"{name}/".encode()):
        place = bisect.bisect_right(firsts, key) - 1
        if place < 0:
            continue
        page = read_page(connection, tree.pages[place][1])
        at = bisect.bisect_left(page, key, key=lambda each: each[0])
        if at < len(page) and page[at][0] == key:
            return page[at][2]
    return None


def walk(connection: Connection, root: str, *, recursive: bool, after: str = "") -> Iterator[tuple[str, Entry]]:
    """Entries in git's order, a folder before what is in it.

    Args:
        after: the last path that was seen, with a slash at its end if it was a folder.
    """
    parts = after.split("/") if after else []
    keys = [f"{part}/".encode() for part in parts[:-1]]
    if parts and parts[-1]:
        keys.append(parts[-1].encode())
    yield from _walk(connection, root, "", recursive, keys)


def _walk(
    connection: Connection, root: str, prefix: str, recursive: bool, after: list[bytes]
) -> Iterator[tuple[str, Entry]]:
    tree = load(connection, root)
    firsts = [first.encode() for first, _ in tree.pages]
    start = max(0, bisect.bisect_right(firsts, after[0]) - 1) if after else 0
    for _, page in tree.pages[start:]:
        for key, name, entry in read_page(connection, page):
            rest: list[bytes] = []
            if after:
                if key < after[0]:
                    continue
                if key == after[0]:
                    rest = after[1:]
                    if not isinstance(entry, Folder) or not recursive:
                        continue
                    yield from _walk(connection, entry.oid, f"{prefix}{name}/", True, rest)
                    continue
            yield prefix + name, entry
            if recursive and isinstance(entry, Folder):
                yield from _walk(connection, entry.oid, f"{prefix}{name}/", True, [])


Difference = tuple[str, File | None, File | None]
"""A path, what was there, what is there."""


def changed(connection: Connection, before: str, after: str, prefix: str = "") -> Iterator[Difference]:
    """Files that differ between two trees: path, what it was, what it is."""
    if before == after:
        return
    old, new = _differing(connection, before, after)
    for key in sorted(old.keys() | new.keys()):
        name, was = old.get(key, ("", None))
        other, now = new.get(key, ("", None))
        path = prefix + (name or other)
        if was == now:
            continue
        if isinstance(was, Folder) or isinstance(now, Folder):
            below = was.oid if isinstance(was, Folder) else EMPTY_TREE
            above = now.oid if isinstance(now, Folder) else EMPTY_TREE
            yield from changed(connection, below, above, f"{path}/")
        else:
            yield path, was, now


def _differing(
    connection: Connection, before: str, after: str
) -> tuple[dict[bytes, tuple[str, Entry]], dict[bytes, tuple[str, Entry]]]:
    """Entries of two trees, without those of pages that both have."""
    first, second = load(connection, before), load(connection, after)
    shared = {page for _, page in first.pages} & {page for _, page in second.pages}
    sides = []
    for tree in (first, second):
        side: dict[bytes, tuple[str, Entry]] = {}
        for _, page in tree.pages:
            if page not in shared:
                side.update({key: (name, entry) for key, name, entry in read_page(connection, page)})
        sides.append(side)
    return sides[0], sides[1]
