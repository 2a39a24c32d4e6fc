"""Pages of a folder: about 256 entries each, named by their content, written once and never changed.

A page ends where the name of its last entry says so, so one changed file rewrites one page of a folder of 100,000.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, select

from allmend.database.hub_repositories import hub_tree_pages
from allmend.hub.objects import Entry, File, Folder, sort_key

_MEAN = 256
_LONGEST = 1024
"""Entries of a page: about, and at most."""

Page = tuple[tuple[bytes, str, Entry], ...]
"""Sort key, name and entry, in git's order."""


def cut(rows: list[tuple[bytes, str, Entry]]) -> Iterator[list[tuple[bytes, str, Entry]]]:
    """Sorted entries (sort key, name, entry) as pages; where they are cut depends on the entries alone."""
    page: list[tuple[bytes, str, Entry]] = []
    for row in rows:
        page.append(row)
        if len(page) >= _LONGEST or zlib.crc32(row[0]) % _MEAN == 0:
            yield page
            page = []
    if page:
        yield page


def packed(page: list[tuple[bytes, str, Entry]]) -> tuple[str, bytes]:
    """A page's name and its bytes as they are stored."""
    rows: list[list[Any]] = [
        [name, entry.oid] if isinstance(entry, Folder) else [name, entry.oid, entry.size, entry.key, entry.sha256]
        for _, name, entry in page
    ]
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()
    return hashlib.sha1(text, usedforsecurity=False).hexdigest(), zlib.compress(text, 1)


def read_page(connection: Connection, name: str) -> Page:
    """A page by its name; raises `KeyError` where there is none."""
    found = _held.get(name)
    if found is not None:
        return found
    body = connection.execute(select(hub_tree_pages.c.body).where(hub_tree_pages.c.id == name)).scalar()
    if body is None:
        raise KeyError(name)
    entries = []
    for row in json.loads(zlib.decompress(body)):
        entry: Entry = Folder(row[1]) if len(row) == 2 else File(row[1], row[2], row[3], row[4])
        entries.append((sort_key(row[0], entry), row[0], entry))
    page: Page = tuple(entries)
    _remember(name, page)
    return page


# Pages never change, so what was read once is right for ever; a few thousand of them cover a working set.
_held: dict[str, Page] = {}
_MOST_HELD = 1024


def _remember(name: str, page: Page) -> None:
    if len(_held) >= _MOST_HELD:
        for old in list(_held)[: _MOST_HELD // 4]:
            _held.pop(old, None)
    _held[name] = page


def forget_pages() -> None:
    """Forget what was read."""
    _held.clear()
