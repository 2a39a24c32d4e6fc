"""`allmend keys limits`: how much a key, or one user behind it, may do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from allmend.errors import UsageError
from allmend.verbs.keys_create import without_zeros
from allmend.verbs.settings import Settings

if TYPE_CHECKING:
    from allmend.access.keys import Key


class KeysLimitsSettings(Settings):
    """Settings of `allmend keys limits`; what is not given stays as it is."""

    user: str | None = None
    """Limits of this forwarded user alone; `*` for each one that has none of its own."""

    adapter: str | None = None
    """Adapter that this user gets where the base is asked for; `none` takes it away."""

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


def keys_limits(
    key: str,
    *,
    user: str | None = None,
    adapter: str | None = None,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    tokens_per_day: int | None = None,
    concurrent: int | None = None,
    adapters: int | None = None,
    priority: int | None = None,
    forwarded_users: bool | None = None,
) -> Key:
    """Change a key's limits, or those of one user behind it. Keywords as of `KeysLimitsSettings`.

    Raises:
        NotFound: there is no such key.
    """
    settings = KeysLimitsSettings.of({name: value for name, value in locals().items() if name != "key"})
    from allmend.access import keys, users
    from allmend.access.limits import Limits

    given = settings.model_dump(exclude={"user", "adapter"}, exclude_none=True)
    found = keys.get(key)

    def changed(before: dict[str, Any]) -> Limits:
        return Limits.of(without_zeros({**before, **given}))

    if settings.user is None:
        if settings.adapter is not None:
            raise UsageError("an adapter belongs to one user", where="--adapter", hint="Name the user with --user.")
        return keys.set_limits(key, changed(found.limits.stored()))
    if not found.limits.forwarded_users:
        raise UsageError("this key may not name users", where="--user", hint="Give it --forwarded-users first.")
    if settings.user == "*":
        before = found.limits.each_user.stored() if found.limits.each_user else {}
        return keys.set_limits(key, found.limits.model_copy(update={"each_user": changed(before)}))
    known = users.get(found.id, settings.user)
    limits = changed(known.limits.stored() if known else {})
    wanted = known.adapter if known and settings.adapter is None else settings.adapter
    users.put(found.id, settings.user, limits=limits, adapter=None if wanted == "none" else wanted)
    return found
