"""What the content-addressed store asks of the repositories: whose an uploaded file is, and who may read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from allmend import database
from allmend.database.hub_repositories import hub_files
from allmend.hub import owned
from allmend.hub.looking import looking

if TYPE_CHECKING:
    from allmend.hub.store import Stored


async def registered(repository: str, stored: Stored) -> None:
    """Write down that the holder of a write token uploaded a file, whole and verified, to its repository."""

    def write() -> None:
        with database.writing() as connection:
            owned.own(connection, int(repository), stored.sha256, stored.xet, stored.size)

    await run_in_threadpool(write)


async def readable(repository: str, xet: str) -> bool:
    """Whether a token of the repository opens this file."""

    def look() -> bool:
        mine = select(hub_files.c.xet).where(hub_files.c.repository_id == int(repository), hub_files.c.xet == xet)
        with looking() as connection:
            return connection.execute(mine.limit(1)).first() is not None

    return await run_in_threadpool(look)
