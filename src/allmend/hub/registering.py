"""What the content-addressed store asks of the repositories: whose an uploaded file is, and who may read it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from allmend import database
from allmend.database.hub_repositories import hub_owned
from allmend.errors import DoesNotFit, Refused
from allmend.hub import owned, repositories
from allmend.hub.faults import Fault
from allmend.hub.looking import looking

if TYPE_CHECKING:
    from allmend.hub.cas import Grant
    from allmend.hub.store import Stored


def admitting(quota: int | None) -> Callable[[Grant, Sequence[Stored]], Awaitable[None]]:
    """What writes down that the holder of a write token uploaded files, whole and verified, to its repository."""

    async def admitted(grant: Grant, files: Sequence[Stored]) -> None:
        def write() -> None:
            with database.writing() as connection:
                found = repositories.by_id(connection, int(grant.repository))
                if found is None:
                    raise Refused("the repository of this token was deleted")
                have = owned.owned(connection, found.id, (file.sha256 for file in files))
                coming = sum(file.size for file in files if file.sha256 not in have)
                try:
                    owned.check_quota(connection, found.owner, coming, quota)
                except Fault as fault:
                    raise DoesNotFit(fault.words) from None
                for file in files:
                    owned.own(connection, found.id, file.sha256, file.xet, file.size)

        await run_in_threadpool(write)

    return admitted


async def visible(grant: Grant, xet: str) -> bool:
    """Whether a token of the repository opens this file: it was uploaded there, or a commit of it has it."""

    def look() -> bool:
        same = (hub_owned.c.repository_id == int(grant.repository)) & (hub_owned.c.xet == xet)
        with looking() as connection:
            return connection.execute(select(hub_owned.c.xet).where(same).limit(1)).first() is not None

    return await run_in_threadpool(look)
