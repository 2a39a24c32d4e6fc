"""Folders in the database: each a tree named by its content, its entries in pages.

A page ends where the name of its last entry says so, so one changed file rewrites one page of a folder of 100,000,
and a listing reads only the pages it shows. Trees and pages are written once and never changed: whoever sees a
tree's name sees all of it.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from allmend.database.hub_repositories import hub_tree_pages, hub_trees
from allmend.hub.faults import Fault
from allmend.hub.objects import EMPTY_TREE, Entry, File, Folder, sort_key, tree_id

_MEAN = 256
_LONGEST = 1024
"""Entries of a page: about, and at most."""

_MOST_ENTRIES = 1_000_000


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
_Page = tuple[tuple[bytes, str, Entry], ...]


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
        for _, name, entry in _page(connection, page):
            yield name, entry


def _one(connection: Connection, tree: Tree, name: str) -> Entry | None:
    """An entry by its name, as a file or as a folder."""
    firsts = [first.encode() for first, _ in tree.pages]
    for key in (name.encode(), f"{name}/".encode()):
        place = bisect.bisect_right(firsts, key) - 1
        if place < 0:
            continue
        page = _page(connection, tree.pages[place][1])
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
        for key, name, entry in _page(connection, page):
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
                side.update({key: (name, entry) for key, name, entry in _page(connection, page)})
        sides.append(side)
    return sides[0], sides[1]


def edit(
    connection: Connection, root: str, files: Mapping[str, File | None], folders: frozenset[str] = frozenset()
) -> str:
    """The tree after a change; the new trees are written.

    Args:
        files: paths with what is to be there; None takes the file away.
        folders: folders taken away with all in them, before `files` are put.

    Raises:
        Fault: 404 for a deletion of what is not there, 400 for a file where a folder is or below a file.
    """
    made = _edit(connection, root, _nested(files, folders), "")
    return made.id if made is not None else EMPTY_TREE


@dataclass
class _Change:
    """What happens to one name: a file put or taken, a folder taken, changes inside."""

    put: File | None = None
    take: bool = False
    take_folder: bool = False
    inside: dict[str, _Change] | None = None


def _nested(files: Mapping[str, File | None], folders: frozenset[str]) -> dict[str, _Change]:
    top: dict[str, _Change] = {}

    def at(path: str) -> _Change:
        names = path.split("/")
        level = top
        for name in names[:-1]:
            change = level.setdefault(name, _Change())
            if change.inside is None:
                change.inside = {}
            level = change.inside
        return level.setdefault(names[-1], _Change())

    for path in folders:
        at(path).take_folder = True
    for path, file in files.items():
        change = at(path)
        if file is None:
            change.take = True
        else:
            change.put = file
    return top


def _edit(connection: Connection, root: str, changes: dict[str, _Change], prefix: str) -> Tree | None:
    tree = load(connection, root)
    entries: dict[str, Entry] = {name: e for _, page in tree.pages for _, name, e in _page(connection, page)}
    counts: dict[str, tuple[int, int]] = {}
    for name, change in changes.items():
        _apply(connection, entries, counts, name, change, prefix)
    if not entries:
        return None
    if len(entries) > _MOST_ENTRIES:
        raise Fault(400, f"A folder has at most {_MOST_ENTRIES:,} entries.")
    return _write(connection, entries, counts)


def _apply(
    connection: Connection, entries: dict[str, Entry], counts: dict[str, tuple[int, int]], name: str, change: _Change,
    prefix: str,
) -> None:  # fmt: skip
    path = prefix + name
    here = entries.get(name)
    if change.take_folder:
        if not isinstance(here, Folder):
            raise Fault(404, f"A folder with this name doesn't exist: {path}", "EntryNotFound")
        here = None
        del entries[name]
    if change.take:
        # Clients that do not know whether it is a file or a folder send the same line for both.
        if here is None:
            raise Fault(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        here = None
        del entries[name]
    if change.inside is not None:
        if isinstance(here, File) or change.put is not None:
            raise Fault(400, f"{path!r} cannot be a file and a folder at once.")
        made = _edit(connection, here.oid if here else EMPTY_TREE, change.inside, f"{path}/")
        entries.pop(name, None)
        if made is not None:
            entries[name] = Folder(made.id)
            counts[name] = (made.files, made.bytes)
    elif change.put is not None:
        if isinstance(here, Folder):
            raise Fault(400, f"{path!r} is a folder; it cannot become a file in the same place.")
        entries[name] = change.put


def _write(connection: Connection, entries: dict[str, Entry], counts: dict[str, tuple[int, int]]) -> Tree:
    rows = sorted((sort_key(name, entry), name, entry) for name, entry in entries.items())
    name_of_tree = tree_id((name, entry) for _, name, entry in rows)
    files = size = 0
    for _, name, entry in rows:
        if isinstance(entry, File):
            files, size = files + 1, size + entry.size
        else:
            if name not in counts:
                below = load(connection, entry.oid)
                counts[name] = (below.files, below.bytes)
            files, size = files + counts[name][0], size + counts[name][1]
    pages = [(page[0][0].decode(), *_packed(page)) for page in _cut(rows)]
    known = {row.id for chunk in _chunks([page for _, page, _ in pages]) for row in connection.execute(
        select(hub_tree_pages.c.id).where(hub_tree_pages.c.id.in_(chunk)))}  # fmt: skip
    new = {page: body for _, page, body in pages if page not in known}
    for page, body in new.items():
        put_once(connection, hub_tree_pages, {"id": page, "body": body})
    made = Tree(name_of_tree, len(rows), files, size, tuple((first, page) for first, page, _ in pages))
    put_once(connection, hub_trees, {
        "id": made.id, "entries": made.entries, "files": files, "bytes": size, "pages": json.dumps(made.pages),
    })  # fmt: skip
    return made


def _cut(rows: list[tuple[bytes, str, Entry]]) -> Iterator[list[tuple[bytes, str, Entry]]]:
    page: list[tuple[bytes, str, Entry]] = []
    for row in rows:
        page.append(row)
        if len(page) >= _LONGEST or zlib.crc32(row[0]) % _MEAN == 0:
            yield page
            page = []
    if page:
        yield page


def _packed(page: list[tuple[bytes, str, Entry]]) -> tuple[str, bytes]:
    rows: list[list[Any]] = [
        [name, entry.oid] if isinstance(entry, Folder) else [name, entry.oid, entry.size, entry.key, entry.sha256]
        for _, name, entry in page
    ]
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()
    return hashlib.sha1(text, usedforsecurity=False).hexdigest(), zlib.compress(text, 1)


def _page(connection: Connection, name: str) -> _Page:
    found = _pages_read(name)
    if found is not None:
        return found
    body = connection.execute(select(hub_tree_pages.c.body).where(hub_tree_pages.c.id == name)).scalar()
    if body is None:
        raise KeyError(name)
    entries = []
    for row in json.loads(zlib.decompress(body)):
        entry: Entry = Folder(row[1]) if len(row) == 2 else File(row[1], row[2], row[3], row[4])
        entries.append((sort_key(row[0], entry), row[0], entry))
    page: _Page = tuple(entries)
    _remember(name, page)
    return page


# Pages never change, so what was read once is right for ever; a few thousand of them cover a working set.
_held: dict[str, _Page] = {}
_MOST_HELD = 1024


def _pages_read(name: str) -> _Page | None:
    return _held.get(name)


def _remember(name: str, page: _Page) -> None:
    if len(_held) >= _MOST_HELD:
        for old in list(_held)[: _MOST_HELD // 4]:
            _held.pop(old, None)
    _held[name] = page


def forget_pages() -> None:
    """Forget what was read."""
    _held.clear()


def put_once(connection: Connection, table: Any, row: dict[str, Any]) -> None:
    """Insert a row unless its key is there."""
    from sqlalchemy.dialects import postgresql, sqlite

    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    connection.execute(dialect.insert(table).values(**row).on_conflict_do_nothing())


def _chunks(items: list[str], size: int = 500) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
