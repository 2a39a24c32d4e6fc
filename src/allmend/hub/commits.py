"""Commits: what they hold, and the one transaction in which a branch moves from one to the next.

Contents are in the store before a commit begins. Trees, the commit and the branch's new position are written in one
transaction that takes its place in the queue at once, so a killed server leaves the old state or the new one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, select, text, update

from allmend.database.hub_repositories import hub_commits, hub_repositories, hub_repository_commits
from allmend.database.once import put_once
from allmend.hub import objects, refs, tree_editing, trees
from allmend.hub.faults import Fault
from allmend.hub.objects import EMPTY_TREE, Entry, File, Folder

_LONGEST_TITLE = 500
_LONGEST_MESSAGE = 65_536


@dataclass(frozen=True)
class Commit:
    """A commit; `created` in seconds since 1970."""

    id: str
    tree: str
    parents: tuple[str, ...]
    author: str
    title: str
    message: str
    created: int


@dataclass
class Change:
    """What a commit does.

    Attributes:
        files: paths put, or taken away where the value is None.
        folders: folders taken away, before files are put.
    """

    title: str
    message: str = ""
    parent: str | None = None
    files: dict[str, File | None] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)


def load(connection: Connection, commit: str) -> Commit:
    """A commit by its name; raises `KeyError`."""
    row = connection.execute(select(hub_commits).where(hub_commits.c.id == commit)).first()
    if row is None:
        raise KeyError(commit)
    return Commit(row.id, row.tree_id, tuple(json.loads(row.parents)), row.author, row.title, row.message, row.created)


def lock(connection: Connection, repository: int) -> None:
    """Wait for other commits to the repository. SQLite's writing transactions queue by themselves."""
    if connection.dialect.name == "postgresql":
        # Shared with other commits, exclusive with collecting, which looks for trees that nothing names.
        connection.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": COLLECTING})
        row = select(hub_repositories.c.id).where(hub_repositories.c.id == repository)
        connection.execute(row.with_for_update())


COLLECTING = 0x616C6C6D68756263
"""The lock between commits and collection."""


def make(
    connection: Connection, repository: int, branch: str, change: Change, author: str, *, empty_ok: bool = True
) -> Commit:
    """Commit a change to a branch and move it.

    Args:
        branch: the full reference; a new repository's main is made by its first commit.

    Raises:
        Fault: 412 where the branch is no longer at the parent that was named, 404 or 400 for a wrong change.
    """
    lock(connection, repository)
    at = refs.head(connection, repository, branch)
    if change.parent is not None and change.parent != at:
        words = "The branch was updated since you opened this page. Please refresh and try again."
        raise Fault(412, words, headers={"X-Repo-Commit": at or ""})
    if at is None and branch != f"refs/heads/{refs.MAIN}" and not branch.startswith("refs/pr/"):
        raise Fault(404, f"Invalid rev id: {branch.removeprefix('refs/heads/')}", "RevisionNotFound")
    before = load(connection, at).tree if at else EMPTY_TREE
    tree = tree_editing.edit(connection, before, change.files, frozenset(change.folders))
    if tree == before and at is not None and not empty_ok:
        return load(connection, at)
    made = write(connection, repository, tree, (at,) if at else (), author, change.title, change.message)
    refs.set_to(connection, repository, branch, made.id)
    touch(connection, repository)
    return made


def write(
    connection: Connection, repository: int, tree: str, parents: tuple[str, ...], author: str, title: str, message: str
) -> Commit:
    """Write a commit and let the repository own it; no reference moves."""
    created = int(time.time())
    title, message = title.strip()[:_LONGEST_TITLE] or "Update", message.strip()[:_LONGEST_MESSAGE]
    title, message = title.replace("\0", ""), message.replace("\0", "")
    name = objects.commit_id(tree, parents, author, created, title, message)
    row = {"id": name, "tree_id": tree, "parents": json.dumps(parents), "author": author, "title": title,
           "message": message, "created": created}  # fmt: skip
    put_once(connection, hub_commits, row)
    own(connection, repository, name)
    return Commit(name, tree, parents, author, title, message, created)


def adopt(connection: Connection, repository: int, commit: str, tree: str, author: str, title: str) -> None:
    """Write a commit under the name that another hub gave it, and let the repository own it."""
    row = {"id": commit, "tree_id": tree, "parents": "[]", "author": author, "title": title, "message": "",
           "created": int(time.time())}  # fmt: skip
    put_once(connection, hub_commits, row)
    own(connection, repository, commit)


def own(connection: Connection, repository: int, commit: str) -> None:
    """Let a repository show a commit by its name."""
    put_once(connection, hub_repository_commits, {"repository_id": repository, "commit_id": commit})


def touch(connection: Connection, repository: int) -> None:
    """Say that the repository changed now."""
    table = hub_repositories
    connection.execute(update(table).where(table.c.id == repository).values(updated=time.time()))


def history(connection: Connection, commit: str) -> Iterator[Commit]:
    """A commit and those before it, each once, newest first."""
    waiting = [load(connection, commit)]
    seen = {commit}
    while waiting:
        waiting.sort(key=lambda each: each.created)
        current = waiting.pop()
        yield current
        for parent in current.parents:
            if parent not in seen:
                seen.add(parent)
                waiting.append(load(connection, parent))


def count(connection: Connection, commit: str) -> int:
    """How many commits there are up to this one."""
    return sum(1 for _ in history(connection, commit))


def last_touched(connection: Connection, commit: str, paths: Mapping[str, Entry]) -> dict[str, Commit]:
    """For each path, the commit that last changed it, along first parents."""
    left = dict(paths)
    found: dict[str, Commit] = {}
    current = load(connection, commit)
    while left:
        if not current.parents:
            found.update(dict.fromkeys(left, current))
            break
        above = load(connection, current.parents[0])
        if above.tree != current.tree:
            for path, entry in list(left.items()):
                if _oid(trees.find(connection, above.tree, path)) != entry.oid:
                    found[path] = current
                    del left[path]
        current = above
    return found


def _oid(entry: Entry | None) -> str | None:
    return entry.oid if isinstance(entry, File | Folder) else None


def squash(connection: Connection, repository: int, branch: str, author: str, title: str) -> Commit:
    """Replace a branch's history by one commit of what it holds; the old commits are no longer shown."""
    lock(connection, repository)
    at = refs.head(connection, repository, branch)
    if at is None:
        raise Fault(404, f"Invalid rev id: {branch.removeprefix('refs/heads/')}", "RevisionNotFound")
    made = write(connection, repository, load(connection, at).tree, (), author, title, "")
    refs.set_to(connection, repository, branch, made.id)
    keep_reachable(connection, repository)
    touch(connection, repository)
    return made


def keep_reachable(connection: Connection, repository: int) -> None:
    """Forget the repository's commits that no reference leads to."""
    keep: set[str] = set()
    for ref in refs.listed(connection, repository):
        if ref.commit not in keep:
            keep.update(each.id for each in history(connection, ref.commit))
    table = hub_repository_commits
    mine = select(table.c.commit_id).where(table.c.repository_id == repository)
    gone = [row.commit_id for row in connection.execute(mine) if row.commit_id not in keep]
    for start in range(0, len(gone), 500):
        chunk = gone[start : start + 500]
        connection.execute(table.delete().where(table.c.repository_id == repository, table.c.commit_id.in_(chunk)))


def own_files(connection: Connection, target: int, commit: str) -> None:
    """Let a repository read and commit again the large files of a commit and of those before it."""
    from allmend.database.hub_repositories import hub_owned

    now = time.time()
    before = EMPTY_TREE
    seen: set[str] = set()
    for each in history(connection, commit):
        # What two commits have in common is looked at once.
        for _, _, file in trees.changed(connection, before, each.tree):
            if file is not None and file.sha256 and file.sha256 not in seen:
                seen.add(file.sha256)
                about = {"sha256": file.sha256, "xet": file.key, "size": file.size}
                put_once(connection, hub_owned, {"repository_id": target, **about, "created": now})
        before = each.tree
