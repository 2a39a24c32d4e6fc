"""Repositories: making, finding, moving, deleting and listing them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from allmend.database.hub_repositories import (
    hub_access_requests,
    hub_moved,
    hub_repositories,
    hub_repository_commits,
    hub_repository_tags,
)
from allmend.hub.faults import Fault, no_repository
from allmend.hub.names import check_repository
from allmend.hub.visitor import Visitor

_T = hub_repositories.c


@dataclass(frozen=True)
class Repository:
    """A repository as its row says; fields are the table's."""

    id: int
    kind: str
    owner: str
    name: str
    private: bool
    gated: str
    created: float
    updated: float
    creator: str
    parent_id: int | None
    parent_commit: str | None
    mirror: dict[str, Any] | None
    sdk: str | None
    card: dict[str, Any]
    facts: dict[str, Any]
    downloads: int

    @property
    def full_name(self) -> str:
        """OWNER/NAME."""
        return f"{self.owner}/{self.name}"


def key_of(kind: str, owner: str, name: str) -> str:
    """What must be unique: two names that differ in case are one folder on some disks."""
    return f"{kind}/{owner}/{name}".lower()


def _of(row: Any) -> Repository:
    values = {name: getattr(row, name) for name in Repository.__dataclass_fields__}
    values["card"], values["facts"] = json.loads(row.card), json.loads(row.facts)
    values["mirror"] = json.loads(row.mirror) if row.mirror else None
    return Repository(**values)


def by_id(connection: Connection, identity: int) -> Repository | None:
    """The repository with this number."""
    row = connection.execute(select(hub_repositories).where(_T.id == identity)).first()
    return None if row is None else _of(row)


def lookup(connection: Connection, kind: str, owner: str, name: str) -> Repository | None:
    """The repository of this name, or the one that had it before it was moved."""
    key = key_of(kind, owner, name)
    row = connection.execute(select(hub_repositories).where(_T.key == key)).first()
    if row is None:
        moved = connection.execute(select(hub_moved.c.repository_id).where(hub_moved.c.key == key)).scalar()
        return by_id(connection, moved) if moved is not None else None
    return _of(row)


def readable(connection: Connection, repository: Repository | None, visitor: Visitor) -> Repository:
    """The repository if the visitor may know of it; a private one does not exist for others."""
    if repository is None or (repository.private and not visitor.reads(repository.owner, repository.name)):
        if visitor.name is None:
            raise Fault(401, "Repository not found, or private and no token was sent", "RepoNotFound")
        raise no_repository()
    return repository


def check_gate(connection: Connection, repository: Repository, visitor: Visitor) -> None:
    """Raise a 401 or 403 where the files are gated and the visitor was not let in."""
    if not repository.gated or visitor.reads(repository.owner, repository.name):
        return
    words = f"Access to {repository.kind} {repository.full_name} is restricted."
    if visitor.name is None:
        raise Fault(401, f"{words} You must have access to it and be authenticated to access it.", "GatedRepo")
    status = connection.execute(
        select(hub_access_requests.c.status).where(
            hub_access_requests.c.repository_id == repository.id, hub_access_requests.c.person == visitor.name
        )
    ).scalar()
    if status == "accepted":
        return
    told = {
        "pending": "Your request to access it is awaiting a review from its owners.",
        "rejected": "Your request to access it was rejected by its owners.",
    }.get(status or "", f"Ask for access at /{repository.full_name}, or POST .../ask-access.")
    raise Fault(403, f"{words} {told}", "GatedRepo")


def create(
    connection: Connection, visitor: Visitor, kind: str, owner: str, name: str, *, private: bool = False,
    sdk: str | None = None, parent: Repository | None = None, parent_commit: str | None = None,
) -> Repository:  # fmt: skip
    """Make a repository without commits.

    Raises:
        Fault: 409 where the name is taken, 400 for a wrong name, 403 where the visitor may not.
    """
    check_repository(owner, name)
    if not visitor.writes(owner, name):
        raise Fault(403, f"You don't have the rights to create a {kind} under the namespace {owner!r}.")
    now = time.time()
    row = {
        "kind": kind, "owner": owner, "name": name, "key": key_of(kind, owner, name), "private": private, "gated": "",
        "created": now, "updated": now, "creator": visitor.name or "", "sdk": sdk, "card": "{}", "facts": "{}",
        "downloads": 0, "numbers": 0, "parent_id": parent.id if parent else None, "parent_commit": parent_commit,
        "mirror": None,
    }  # fmt: skip
    if connection.execute(select(_T.id).where(_T.key == row["key"])).first() is not None:
        raise _taken(kind, owner, name)
    try:
        made = connection.execute(insert(hub_repositories).values(**row))
    except IntegrityError:
        raise _taken(kind, owner, name) from None
    connection.execute(delete(hub_moved).where(hub_moved.c.key == row["key"]))
    assert made.inserted_primary_key is not None
    found = by_id(connection, made.inserted_primary_key[0])
    assert found is not None
    return found


def insert_mirror(
    connection: Connection, kind: str, owner: str, name: str, *, private: bool, mirror: dict[str, Any]
) -> Repository:
    """A repository that another hub has; nobody asked for it by a key, so no rights are asked."""
    now = time.time()
    row = {
        "kind": kind, "owner": owner, "name": name, "key": key_of(kind, owner, name), "private": private, "gated": "",
        "created": now, "updated": now, "creator": "mirror", "sdk": None, "card": "{}", "facts": "{}", "downloads": 0,
        "numbers": 0, "parent_id": None, "parent_commit": None, "mirror": json.dumps(mirror),
    }  # fmt: skip
    connection.execute(insert(hub_repositories).values(**row))
    found = lookup(connection, kind, owner, name)
    assert found is not None
    return found


def _taken(kind: str, owner: str, name: str) -> Fault:
    return Fault(409, f"You already created this {kind} repo: {owner}/{name}")


def move(connection: Connection, visitor: Visitor, repository: Repository, owner: str, name: str) -> None:
    """Give a repository another name; the old one leads to it until another repository takes it."""
    check_repository(owner, name)
    if not visitor.administers(repository.owner, repository.name) or not visitor.writes(owner, name):
        raise Fault(403, f"You may not move {repository.full_name} to {owner}/{name}.")
    key = key_of(repository.kind, owner, name)
    other = connection.execute(select(_T.id).where(_T.key == key)).scalar()
    if other is not None and other != repository.id:
        raise Fault(409, f"A {repository.kind} repository called {owner}/{name} already exists")
    old = key_of(repository.kind, repository.owner, repository.name)
    changes = {"owner": owner, "name": name, "key": key, "updated": time.time()}
    connection.execute(update(hub_repositories).where(_T.id == repository.id).values(**changes))
    connection.execute(delete(hub_moved).where(hub_moved.c.key.in_([key, old])))
    if old != key:
        connection.execute(insert(hub_moved).values(key=old, repository_id=repository.id))


def remove(connection: Connection, repository: Repository) -> None:
    """Delete a repository with its references; what it alone reached is collected later."""
    connection.execute(delete(hub_repositories).where(_T.id == repository.id))


def change(connection: Connection, repository: Repository, **values: Any) -> None:
    """Set columns."""
    connection.execute(update(hub_repositories).where(_T.id == repository.id).values(**values))


def fork_commits(connection: Connection, source: Repository, target: Repository, commits: Sequence[str]) -> None:
    """Let the fork own the commits it was made of."""
    for start in range(0, len(commits), 500):
        rows = [{"repository_id": target.id, "commit_id": each} for each in commits[start : start + 500]]
        connection.execute(insert(hub_repository_commits), rows)


def set_tags(connection: Connection, repository: Repository, tags: Sequence[str]) -> None:
    """Replace the tags that listings filter by."""
    table = hub_repository_tags
    connection.execute(delete(table).where(table.c.repository_id == repository.id))
    rows = [{"repository_id": repository.id, "tag": tag} for tag in dict.fromkeys(tag[:255] for tag in tags[:200])]
    if rows:
        connection.execute(insert(table), rows)


def tags_of(connection: Connection, ids: Sequence[int]) -> dict[int, list[str]]:
    """Tags by repository."""
    table = hub_repository_tags
    found: dict[int, list[str]] = {each: [] for each in ids}
    if ids:
        for row in connection.execute(select(table).where(table.c.repository_id.in_(ids)).order_by(table.c.tag)):
            found[row.repository_id].append(row.tag)
    return found


_SORTS = {
    "createdAt": _T.created, "lastModified": _T.updated, "downloads": _T.downloads, "trendingScore": _T.downloads,
    "likes": _T.downloads, "id": _T.key,
}  # fmt: skip


def listing(
    connection: Connection, visitor: Visitor, kind: str, *, search: str | None = None, author: str | None = None,
    filters: Sequence[str] = (), gated: bool | None = None, sort: str | None = None, ascending: bool = False,
    limit: int = 100, offset: int = 0,
) -> list[Repository]:  # fmt: skip
    """Repositories that the visitor may know of, newest first unless sorted otherwise."""
    where: list[ColumnElement[bool]] = [_T.kind == kind]
    if not visitor.administrator:
        mine = func.lower(_T.owner).in_(visitor.owners)
        where.append(or_(_T.private.is_(False), mine))
    if search:
        wanted = _escaped(search.lower())
        where.append(func.lower(_T.owner + "/" + _T.name).like(f"%{wanted}%", escape="\\"))
    if author:
        where.append(func.lower(_T.owner) == author.lower())
    if gated is not None:
        where.append((_T.gated != "") if gated else (_T.gated == ""))
    for tag in filters:
        table = hub_repository_tags
        where.append(_T.id.in_(select(table.c.repository_id).where(func.lower(table.c.tag) == tag.lower())))
    column = _SORTS.get(sort or "lastModified", _T.updated)
    order = [column.asc() if ascending else column.desc(), _T.id.desc()]
    found = select(hub_repositories).where(and_(*where)).order_by(*order).limit(limit).offset(offset)
    rows = [_of(row) for row in connection.execute(found)]
    # A key that was narrowed to one repository shows its owner's others no more than a stranger's would.
    return [each for each in rows if not each.private or visitor.reads(each.owner, each.name)]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
