"""Which large files a repository may commit: those that were uploaded to it, or that it has in a commit.

A file's SHA-256 is no secret. If knowing it were enough, naming it in a commit would open another repository's file.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from sqlalchemy import Connection, func, select

from allmend.database.hub_repositories import hub_owned, hub_repositories
from allmend.database.once import put_once
from allmend.hub.faults import Fault
from allmend.hub.objects import File, large_file


def own(connection: Connection, repository: int, sha256: str, xet: str, size: int) -> None:
    """Write down that the file was uploaded to the repository."""
    row = {"repository_id": repository, "sha256": sha256, "xet": xet, "size": size, "created": time.time()}
    put_once(connection, hub_owned, row)
    same = (hub_owned.c.repository_id == repository) & (hub_owned.c.sha256 == sha256)
    connection.execute(hub_owned.update().where(same).values(xet=xet, created=time.time()))


def owned(connection: Connection, repository: int, sha256s: Iterable[str]) -> dict[str, File]:
    """The repository's files of these digests."""
    wanted = list(dict.fromkeys(sha256s))
    found: dict[str, File] = {}
    for start in range(0, len(wanted), 500):
        chunk = wanted[start : start + 500]
        rows = select(hub_owned).where(hub_owned.c.repository_id == repository, hub_owned.c.sha256.in_(chunk))
        for row in connection.execute(rows):
            found[row.sha256] = large_file(row.sha256, row.size, row.xet)
    return found


def key_of(connection: Connection, repository: int, digest: str) -> str | None:
    """The name in the store of a file of the repository."""
    same = (hub_owned.c.repository_id == repository) & (hub_owned.c.sha256 == digest)
    found: str | None = connection.execute(select(hub_owned.c.xet).where(same)).scalar()
    return found


def used(connection: Connection, owner: str) -> int:
    """Bytes of the large files of an owner's repositories, each counted once a repository."""
    mine = select(hub_repositories.c.id).where(func.lower(hub_repositories.c.owner) == owner.lower())
    total = connection.execute(select(func.sum(hub_owned.c.size)).where(hub_owned.c.repository_id.in_(mine))).scalar()
    return int(total or 0)


def check_quota(connection: Connection, owner: str, coming: int, quota: int | None) -> None:
    """Raise a 413 where an upload would go over the owner's quota."""
    if quota is None:
        return
    have = used(connection, owner)
    if have + coming > quota:
        words = f"{owner} has {have:,} of {quota:,} bytes; {coming:,} more do not fit. Delete what is not needed."
        raise Fault(413, words)


def used_by(connection: Connection, repository: int) -> int:
    """Bytes of a repository's large files."""
    mine = select(func.sum(hub_owned.c.size)).where(hub_owned.c.repository_id == repository)
    return int(connection.execute(mine).scalar() or 0)


def old(connection: Connection, repository: int, sha256s: Iterable[str], before: float) -> list[str]:
    """Names in the store of the repository's files of these digests that came before a time."""
    found: list[str] = []
    wanted = list(dict.fromkeys(sha256s))
    for start in range(0, len(wanted), 500):
        chunk = wanted[start : start + 500]
        same = (hub_owned.c.repository_id == repository) & hub_owned.c.sha256.in_(chunk)
        rows = select(hub_owned.c.xet).where(same, hub_owned.c.created < before)
        found.extend(row.xet for row in connection.execute(rows))
    return found
