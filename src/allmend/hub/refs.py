"""Branches, tags and pull requests' heads: names that point at commits."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select, update

from allmend.database.hub_repositories import hub_refs, hub_repository_commits
from allmend.database.once import put_once
from allmend.hub.faults import Fault, no_revision
from allmend.hub.names import check_branch, is_commit

MAIN = "main"
_HEADS, _TAGS = "refs/heads/", "refs/tags/"


@dataclass(frozen=True)
class Ref:
    """A name and the commit it points at."""

    name: str
    commit: str
    message: str | None = None


def head(connection: Connection, repository: int, name: str) -> str | None:
    """The commit a full reference points at."""
    found = select(hub_refs.c.commit_id).where(hub_refs.c.repository_id == repository, hub_refs.c.name == name)
    result: str | None = connection.execute(found).scalar()
    return result


def listed(connection: Connection, repository: int) -> list[Ref]:
    """Every reference, by name."""
    rows = connection.execute(select(hub_refs).where(hub_refs.c.repository_id == repository).order_by(hub_refs.c.name))
    return [Ref(row.name, row.commit_id, row.message) for row in rows]


def resolve(connection: Connection, repository: int, revision: str) -> str:
    """The commit of a revision: a branch, a tag, `refs/…`, a commit's name or an unambiguous beginning of it.

    Raises:
        Fault: 404 RevisionNotFound.
    """
    names = [revision] if revision.startswith("refs/") else [_HEADS + revision, _TAGS + revision]
    for name in names:
        found = head(connection, repository, name[:255])
        if found is not None:
            return found
    owned = hub_repository_commits
    if is_commit(revision):
        mine = select(owned.c.commit_id).where(owned.c.repository_id == repository, owned.c.commit_id == revision)
        if connection.execute(mine).first() is not None:
            return revision
    elif 7 <= len(revision) < 40 and all(sign in "0123456789abcdef" for sign in revision):
        near = select(owned.c.commit_id).where(
            owned.c.repository_id == repository, owned.c.commit_id.like(f"{revision}%")
        )
        rows = connection.execute(near.limit(2)).all()
        if len(rows) == 1:
            return str(rows[0][0])
    raise no_revision(revision)


def branch_name(revision: str) -> str:
    """The full reference that a commit to `revision` moves: a branch, or a pull request's head."""
    if revision.startswith("refs/pr/") and revision[8:].isdigit():
        return revision
    if revision.startswith(_HEADS):
        revision = revision[len(_HEADS) :]
    return _HEADS + check_branch(revision)


def set_to(connection: Connection, repository: int, name: str, commit: str) -> None:
    """Point a reference at a commit, made if it is not there."""
    changed = connection.execute(
        update(hub_refs).where(hub_refs.c.repository_id == repository, hub_refs.c.name == name)
        .values(commit_id=commit, updated=time.time())
    )  # fmt: skip
    if not changed.rowcount:
        row = {"repository_id": repository, "name": name, "commit_id": commit, "message": None, "updated": time.time()}
        put_once(connection, hub_refs, row)


def create_branch(connection: Connection, repository: int, branch: str, start: str) -> None:
    """Make a branch at a commit; 409 where there is one."""
    name = _HEADS + check_branch(branch)
    if head(connection, repository, name) is not None:
        raise Fault(409, f"Reference {name} already exists")
    set_to(connection, repository, name, start)


def delete_branch(connection: Connection, repository: int, branch: str) -> None:
    """Take a branch away; its commits stay readable by their names until they are collected."""
    if branch == MAIN:
        raise Fault(403, "Cannot delete refs/heads/main: it is the repository's own.")
    _drop(connection, repository, _HEADS + branch, branch)


def create_tag(connection: Connection, repository: int, tag: str, commit: str, message: str | None) -> None:
    """Make a tag; 409 where there is one."""
    name = _TAGS + check_branch(tag)
    if head(connection, repository, name) is not None:
        raise Fault(409, f"Tag {name} already exists")
    row = {"repository_id": repository, "name": name, "commit_id": commit, "message": (message or "")[:4000] or None,
           "updated": time.time()}  # fmt: skip
    put_once(connection, hub_refs, row)


def delete_tag(connection: Connection, repository: int, tag: str) -> None:
    """Take a tag away."""
    _drop(connection, repository, _TAGS + tag, tag)


def _drop(connection: Connection, repository: int, name: str, shown: str) -> None:
    gone = connection.execute(delete(hub_refs).where(hub_refs.c.repository_id == repository, hub_refs.c.name == name))
    if not gone.rowcount:
        raise no_revision(shown)
