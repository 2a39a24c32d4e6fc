"""`allmend keys create`: a key, shown once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from allmend.errors import NotFound
from allmend.verbs.key_limits import LimitSettings, without_zeros
from allmend.verbs.settings import Duration

if TYPE_CHECKING:
    from allmend.access.keys import NewKey


class KeysCreateSettings(LimitSettings):
    """Settings of `allmend keys create`."""

    account: str = "admin"
    """Person or organisation that the key belongs to; made as a person when not there yet."""

    scope: tuple[str, ...] = ("serve:chat",)
    """What it may do: AREA:ACTION, narrowed as AREA:ACTION:RESOURCE, or * for everything. May be given many times."""

    expires: Duration | None = None
    """How long it is good for, like 30d; for ever when not given."""


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
