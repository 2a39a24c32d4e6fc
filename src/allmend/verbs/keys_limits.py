"""`allmend keys limits`: how much a key, or one user behind it, may do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allmend.errors import UsageError
from allmend.verbs.key_limits import LimitSettings, without_zeros

if TYPE_CHECKING:
    from allmend.access.keys import Key


class KeysLimitsSettings(LimitSettings):
    """Settings of `allmend keys limits`; what is not given stays as it is."""

    user: str | None = None
    """Limits of this forwarded user alone; `*` for each one that has none of its own."""

    adapter: str | None = None
    """Adapter that this user gets where the base is asked for; `none` takes it away."""


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
    if users.named({users.HEADERS[0]: settings.user}) is None or settings.user != settings.user.strip():
        words = "a user's name is printable text of at most 200 characters"
        raise UsageError(words, where="--user", hint="As the server in front sends it.")
    known = users.get(found.id, settings.user)
    limits = changed(known.limits.stored() if known else {})
    wanted = known.adapter if known and settings.adapter is None else settings.adapter
    users.put(found.id, settings.user, limits=limits, adapter=None if wanted == "none" else wanted)
    return found
