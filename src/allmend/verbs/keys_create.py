"""`allmend keys create`: a key, shown once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from allmend.errors import NotFound
from allmend.verbs.settings import Duration, Settings

if TYPE_CHECKING:
    from allmend.access.keys import NewKey


class KeysCreateSettings(Settings):
    """Settings of `allmend keys create`."""

    account: str = "admin"
    """Person or organisation that the key belongs to; made as a person when not there yet."""

    scope: tuple[str, ...] = ("serve:chat",)
    """What it may do: AREA:ACTION, narrowed as AREA:ACTION:RESOURCE, or * for everything. May be given many times."""

    expires: Duration | None = None
    """How long it is good for, like 30d; for ever when not given."""

    requests_per_minute: int | None = Field(None, ge=0)
    """Requests that may begin within any 60 seconds; 0 is no limit."""

    tokens_per_minute: int | None = Field(None, ge=0)
    """Tokens read and written within any 60 seconds; 0 is no limit."""

    tokens_per_day: int | None = Field(None, ge=0)
    """Tokens read and written within a day (UTC); 0 is no limit."""

    concurrent: int | None = Field(None, ge=0)
    """Requests at once, those that wait included; 0 is no limit."""

    adapters: int | None = Field(None, ge=0)
    """Different adapters that may be asked for within a day; 0 is none at all."""

    priority: int | None = Field(None, ge=-10, le=10)
    """Higher comes first in the queue."""

    forwarded_users: bool | None = None
    """Believe the user named in X-OpenWebUI-User-Id and the like; only for keys of servers that can be trusted."""


def keys_create(
    name: str,
    *,
    account: str = "admin",
    scope: Sequence[str] = ("serve:chat",),
    expires: float | str | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    tokens_per_day: int | None = None,
    concurrent: int | None = None,
    adapters: int | None = None,
    priority: int | None = None,
    forwarded_users: bool | None = None,
) -> NewKey:
    """Make a key; its text is to be had this once. Keywords as of `KeysCreateSettings`.

    Raises:
        UsageError: a scope that is not known, a name that cannot be one.
    """
    settings = KeysCreateSettings.of({key: value for key, value in locals().items() if key != "name"})
    from allmend.access import accounts, keys
    from allmend.access.limits import Limits
    from allmend.access.scopes import check

    check(settings.scope)
    try:
        accounts.get(settings.account)
    except NotFound:
        accounts.create(settings.account, administrator=settings.account == keys.ADMINISTRATOR)
    given = settings.model_dump(exclude={"account", "scope", "expires"}, exclude_none=True)
    return keys.create(
        settings.account,
        name,
        scopes=settings.scope,
        limits=Limits.of(without_zeros(given)),
        expires=None if settings.expires is None else time.time() + settings.expires,
    )


def without_zeros(given: dict[str, object]) -> dict[str, object]:
    """Flags as limits: 0 is no limit, but for adapters (none) and priority."""
    return {name: value for name, value in given.items() if value or name in ("adapters", "priority")}
