"""Changing a folder: files put and taken away, with only the trees and pages written that are new."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from allmend.database.hub_repositories import hub_tree_pages, hub_trees
from allmend.database.once import put_once
from allmend.hub.faults import Fault
from allmend.hub.objects import EMPTY_TREE, Entry, File, Folder, sort_key, tree_id
from allmend.hub.tree_pages import cut, packed, read_page
from allmend.hub.trees import Tree, load

_MOST_ENTRIES = 1_000_000


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
    entries: dict[str, Entry] = {name: e for _, page in tree.pages for _, name, e in read_page(connection, page)}
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
    pages = [(page[0][0].decode(), *packed(page)) for page in cut(rows)]
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


def _chunks(items: list[str], size: int = 500) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
