"""Collecting: contents, folders and commits that nothing leads to any more.

What is kept: everything that a commit of a repository reaches, and what was uploaded to one lately. Repositories are
asked after the store has listed what it might take, so a commit that comes in between is seen, or its files are young.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, select, text

from allmend import database
from allmend.database.hub_repositories import (
    hub_commits,
    hub_owned,
    hub_repositories,
    hub_repository_commits,
    hub_tree_pages,
    hub_trees,
)
from allmend.hub import commits, tree_pages, trees
from allmend.hub.looking import looking
from allmend.hub.objects import EMPTY_TREE, File, Folder

if TYPE_CHECKING:
    from allmend.hub.store import Store

_CHUNK = 500


async def collect(store: Store, *, older: float) -> dict[str, int]:
    """Take away what nothing leads to; counts of what was taken."""
    forgotten = await asyncio.to_thread(forget_trees)

    async def keep() -> AsyncIterator[str]:
        for name in await asyncio.to_thread(reached, time.time() - older):
            yield name

    found = await store.collect(keep, grace=older, unfinished=max(older, 3600.0))
    return {"files": found.files, "objects": found.xorbs + found.unnamed, "bytes": found.freed, "trees": forgotten}


def reached(since: float) -> set[str]:
    """Names in the store of every file that a commit reaches, or that came to a repository after `since`."""
    keys: set[str] = set()
    with looking() as connection:
        for tree in _trees(connection):
            for _, entry in trees.entries(connection, tree):
                if isinstance(entry, File) and entry.key:
                    keys.add(entry.key)
        mirrored = select(hub_repositories.c.id).where(hub_repositories.c.mirror.is_not(None))
        kept = (hub_owned.c.created > since) | hub_owned.c.repository_id.in_(mirrored)
        keys.update(row.xet for row in connection.execute(select(hub_owned.c.xet).where(kept)))
    return keys


def forget_trees() -> int:
    """Forget commits of no repository, and trees and pages of no commit, in one transaction; how many trees."""
    with database.writing() as connection:
        if connection.dialect.name == "postgresql":
            # No commit is half written while this looks: see `commits.lock`.
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": commits.COLLECTING})
        owned = select(hub_repository_commits.c.commit_id)
        connection.execute(delete(hub_commits).where(hub_commits.c.id.not_in(owned)))
        keep = _trees(connection)
        pages = {page for tree in keep for _, page in trees.load(connection, tree).pages}
        gone = [row.id for row in connection.execute(select(hub_trees.c.id)) if row.id not in keep]
        _drop(connection, hub_trees, gone)
        old = [row.id for row in connection.execute(select(hub_tree_pages.c.id)) if row.id not in pages]
        _drop(connection, hub_tree_pages, old)
        tree_pages.forget_pages()
        return len(gone)


def _drop(connection: Connection, table: object, names: list[str]) -> None:
    for start in range(0, len(names), _CHUNK):
        chunk = names[start : start + _CHUNK]
        connection.execute(delete(table).where(table.c.id.in_(chunk)))  # type: ignore[arg-type, attr-defined]


def _trees(connection: Connection) -> set[str]:
    """Every tree that a commit of a repository reaches."""
    owned = select(hub_repository_commits.c.commit_id)
    rows = connection.execute(select(hub_commits.c.tree_id).where(hub_commits.c.id.in_(owned)).distinct())
    waiting = [row.tree_id for row in rows]
    seen: set[str] = set()
    while waiting:
        tree = waiting.pop()
        if tree in seen or tree == EMPTY_TREE:
            continue
        seen.add(tree)
        below = (entry.oid for _, entry in trees.entries(connection, tree) if isinstance(entry, Folder))
        waiting.extend(oid for oid in below if oid not in seen)
    return seen
