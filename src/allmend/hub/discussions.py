"""Pull requests and discussions: numbers, events, and merging file by file.

A pull request is a branch `refs/pr/N` that begins at its base. What it changes is the difference between the commit
where both meet and its head; a file that both changed since, each in its own way, is a conflict.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from allmend.database.hub_repositories import hub_discussion_events, hub_discussions, hub_repositories
from allmend.hub import commits, refs, tree_editing, trees
from allmend.hub.commits import Change, Commit
from allmend.hub.faults import Fault, no_revision
from allmend.hub.names import is_commit
from allmend.hub.objects import EMPTY_TREE, File
from allmend.hub.repositories import Repository
from allmend.hub.visitor import Visitor

_D = hub_discussions.c
_LONGEST_TITLE = 300
_LONGEST_TEXT = 100_000
_MAIN = "refs/heads/main"


@dataclass(frozen=True)
class Discussion:
    """A discussion or a pull request; fields are the table's."""

    number: int
    title: str
    author: str
    status: str
    pull: bool
    base: str | None
    merged_commit: str | None
    created: float

    @property
    def ref(self) -> str:
        """The pull request's own branch."""
        return f"refs/pr/{self.number}"


@dataclass(frozen=True)
class Event:
    """Something that was said or done; `body` depends on the kind."""

    id: int
    kind: str
    author: str
    created: float
    body: dict[str, Any]


def find(connection: Connection, repository: Repository, number: int) -> Discussion:
    """A discussion by its number; 404 where there is none."""
    row = connection.execute(
        select(hub_discussions).where(_D.repository_id == repository.id, _D.number == number)
    ).first() if 0 < number < 2**31 else None  # fmt: skip
    if row is None:
        raise Fault(404, f"There is no discussion {number}.")
    return _of(row)


def _of(row: Any) -> Discussion:
    return Discussion(**{name: getattr(row, name) for name in Discussion.__dataclass_fields__})


def listed(
    connection: Connection, repository: Repository, *, author: str | None = None, pull: bool | None = None,
    status: str | None = None,
) -> list[Discussion]:  # fmt: skip
    """Discussions, newest first."""
    where = [_D.repository_id == repository.id]
    if author:
        where.append(_D.author == author)
    if pull is not None:
        where.append(_D.pull.is_(pull))
    if status == "open":
        where.append(_D.status.in_(["open", "draft"]))
    elif status == "closed":
        where.append(_D.status.in_(["closed", "merged"]))
    return [_of(row) for row in connection.execute(select(hub_discussions).where(*where).order_by(_D.number.desc()))]


def events(connection: Connection, repository: Repository, number: int) -> list[Event]:
    """What happened in a discussion, oldest first."""
    table = hub_discussion_events
    rows = select(table).where(table.c.repository_id == repository.id, table.c.number == number).order_by(table.c.id)
    return [Event(r.id, r.kind, r.author, r.created, json.loads(r.body)) for r in connection.execute(rows)]


def open_new(
    connection: Connection, repository: Repository, title: str, text: str, who: Visitor, *, pull: bool,
    status: str = "open", base: str = _MAIN,
) -> Discussion:  # fmt: skip
    """A new discussion; a pull request begins at its base."""
    commits.lock(connection, repository.id)
    table = hub_repositories
    connection.execute(update(table).where(table.c.id == repository.id).values(numbers=table.c.numbers + 1))
    number = connection.execute(select(table.c.numbers).where(table.c.id == repository.id)).scalar_one()
    row = {"number": number, "title": title.strip()[:_LONGEST_TITLE] or "Untitled", "author": who.signed,
           "status": status, "pull": pull, "base": base if pull else None, "created": time.time()}  # fmt: skip
    connection.execute(insert(hub_discussions).values(repository_id=repository.id, **row))
    made = find(connection, repository, number)
    if pull:
        at = refs.head(connection, repository.id, base)
        if at is None:
            raise Fault(404, f"Invalid rev id: {base.removeprefix('refs/heads/')}", "RevisionNotFound")
        refs.set_to(connection, repository.id, made.ref, at)
    say(connection, repository, number, "comment", who, {"text": text[:_LONGEST_TEXT], "edits": []})
    return made


def say(
    connection: Connection, repository: Repository, number: int, kind: str, who: Visitor, body: dict[str, Any]
) -> Event:
    """Add an event."""
    now = time.time()
    values = {"repository_id": repository.id, "number": number, "kind": kind, "author": who.signed, "created": now,
              "body": json.dumps(body)}  # fmt: skip
    key = connection.execute(insert(hub_discussion_events).values(**values)).inserted_primary_key
    assert key is not None
    return Event(key[0], kind, who.signed, now, body)


def rewrite(connection: Connection, event: Event, body: dict[str, Any]) -> Event:
    """Replace what an event says."""
    table = hub_discussion_events
    connection.execute(update(table).where(table.c.id == event.id).values(body=json.dumps(body)))
    return Event(event.id, event.kind, event.author, event.created, body)


def set_columns(connection: Connection, repository: Repository, number: int, **values: Any) -> None:
    """Change a discussion's own columns."""
    same = (_D.repository_id == repository.id) & (_D.number == number)
    connection.execute(update(hub_discussions).where(same).values(**values))


def propose(
    connection: Connection, repository: Repository, revision: str, change: Change, who: Visitor
) -> tuple[int, Commit]:
    """Open a pull request with a commit in it; its number and the commit."""
    if is_commit(revision):
        raise no_revision(revision)
    base = refs.branch_name(revision)
    at = refs.head(connection, repository.id, base)
    if change.parent is not None and change.parent != at:
        raise Fault(412, "The branch was updated since you opened this page. Please refresh and try again.")
    made = open_new(connection, repository, change.title, change.message, who, pull=True, base=base)
    change.parent = None
    commit = commits.make(connection, repository.id, made.ref, change, who.signed)
    say(connection, repository, made.number, "commit", who, {"subject": commit.title, "oid": commit.id})
    return made.number, commit


def check_pusher(connection: Connection, repository: Repository, revision: str, who: Visitor) -> None:
    """Raise a 403 unless the visitor opened the pull request or may write to the repository."""
    number = revision.removeprefix("refs/pr/")
    found = find(connection, repository, int(number) if number.isdigit() and len(number) < 10 else 0)
    if not found.pull or found.status in ("merged", "closed"):
        raise Fault(403, f"{revision} takes no commits: it is {found.status}.")
    if found.author != who.name and not who.writes(repository.owner, repository.name):
        raise Fault(403, f"{revision} is {found.author}'s.")


def pushed(connection: Connection, repository: Repository, branch: str, made: Commit, who: Visitor) -> None:
    """Write a commit to a pull request down in its history."""
    number = int(branch.removeprefix("refs/pr/"))
    say(connection, repository, number, "commit", who, {"subject": made.title, "oid": made.id})


@dataclass(frozen=True)
class Difference:
    """What a pull request would change, and what is in the way."""

    base: Commit | None
    meeting: str
    head: Commit
    files: dict[str, tuple[File | None, File | None]]
    conflicts: list[str]


def difference(connection: Connection, repository: Repository, found: Discussion) -> Difference:
    """What a pull request changes against its base as it is now; of a merged one, what it changed."""
    head_id = refs.head(connection, repository.id, found.ref)
    assert head_id is not None
    head = commits.load(connection, head_id)
    if found.merged_commit is not None:
        merged = commits.load(connection, found.merged_commit)
        base_id: str | None = merged.parents[0] if merged.parents else None
    else:
        base_id = refs.head(connection, repository.id, found.base or _MAIN)
    base = commits.load(connection, base_id) if base_id else None
    mine = {commit.id for commit in commits.history(connection, head_id)}
    meeting = EMPTY_TREE
    if base is not None:
        common = next((each for each in commits.history(connection, base.id) if each.id in mine), None)
        meeting = common.tree if common is not None else EMPTY_TREE
    files = {path: (was, now) for path, was, now in trees.changed(connection, meeting, head.tree)}
    theirs: dict[str, tuple[File | None, File | None]] = {}
    if base is not None and base.tree != meeting:
        theirs = {path: (was, now) for path, was, now in trees.changed(connection, meeting, base.tree)}
    conflicts = [path for path, (_, now) in files.items() if path in theirs and theirs[path][1] != now]
    return Difference(base, meeting, head, files, sorted(conflicts))


def merge(connection: Connection, repository: Repository, found: Discussion, who: Visitor, comment: str) -> Commit:
    """Bring a pull request into its base in one commit.

    Raises:
        Fault: 409 naming the files that both sides changed, 400 for what is closed or no pull request.
    """
    if not found.pull or found.status not in ("open", "draft"):
        raise Fault(400, f"Discussion {found.number} cannot be merged: it is {found.status}.")
    commits.lock(connection, repository.id)
    what = difference(connection, repository, found)
    if what.conflicts:
        shown = ", ".join(what.conflicts[:20])
        raise Fault(409, f"Both sides changed: {shown}. Bring the pull request up to date.")
    files = {path: now for path, (was, now) in what.files.items()}
    if what.base is not None:
        # What the base took away or made the same already is no change any more.
        here = {path: trees.find(connection, what.base.tree, path) for path in files}
        files = {path: now for path, now in files.items() if here[path] != now}
    tree = tree_editing.edit(connection, what.base.tree if what.base else EMPTY_TREE, files)
    parents = tuple(each.id for each in (what.base, what.head) if each is not None)
    title = f"{found.title} (#{found.number})"
    made = commits.write(connection, repository.id, tree, parents, who.signed, title, comment)
    refs.set_to(connection, repository.id, found.base or _MAIN, made.id)
    set_columns(connection, repository, found.number, status="merged", merged_commit=made.id)
    say(connection, repository, found.number, "status-change", who, {"status": "merged"})
    commits.touch(connection, repository.id)
    return made


def count(connection: Connection, repository: Repository) -> int:
    """How many discussions there are."""
    found = select(func.count()).select_from(hub_discussions).where(_D.repository_id == repository.id)
    return int(connection.execute(found).scalar_one())
