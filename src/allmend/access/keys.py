"""Keys: made and shown once, listed, narrowed, revoked, and looked up for every request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

from sqlalchemy import Row, func, insert, select, update

from allmend import database
from allmend.access import accounts as people
from allmend.access import audit, secret
from allmend.access.limits import Limits
from allmend.access.principal import Principal
from allmend.access.scopes import EVERYTHING, check, covers, split
from allmend.database.schema import accounts, api_keys
from allmend.errors import NotFound, Refused, Unavailable, UsageError, nearest

FRESH_SECONDS = 1.0
"""How long a key that was looked up is believed: a key revoked by another process is refused after that."""
ADMINISTRATOR = "admin"
"""Name of the account that the first start makes."""
_LAST_DATE = 32_503_680_000.0
"""The year 3000: no calendar here goes beyond 9999."""
_USED_SECONDS = 60.0
_NOTE_SECONDS = 0.2
"""That writing it down waits for others who write: a program that tidies the database holds it for minutes."""
_MOST_KNOWN = 10_000


@dataclass(frozen=True)
class Key:
    """A key without its secret."""

    id: str
    """Public: what stands between `allm_` and the second `_`."""
    name: str
    account: str
    scopes: tuple[str, ...]
    limits: Limits
    created: float
    created_by: str
    expires: float | None
    revoked: float | None
    last_used: float | None
    """To the minute."""

    def state(self, now: float | None = None) -> str:
        """`active`, `revoked` or `expired`."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= (now or time.time()) else "active"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = {**asdict(self), "scopes": list(self.scopes), "limits": self.limits.stored()}
        return {**values, "prefix": secret.shown(self.id), "state": self.state()}


@dataclass(frozen=True)
class NewKey:
    """A key that was just made: the only time that its text is to be had."""

    key: Key
    text: str = field(repr=False)


@dataclass(frozen=True)
class _Known:
    hash: str
    principal: Principal
    expires: float | None
    refused: bool
    looked_up: float


_known: dict[str, _Known] = {}
_used: dict[str, float] = {}
_changes = 0
"""How often keys were changed: what was read before a change is not kept after it."""
_guard = threading.Lock()


def create(
    account: str,
    name: str,
    *,
    scopes: Iterable[str],
    limits: Limits | None = None,
    expires: float | None = None,
    by: str = "operator",
    within: Principal | None = None,
) -> NewKey:
    """A new key for an account.

    Args:
        account: name of a person or organisation.
        name: what its owner calls it.
        expires: seconds since 1970; None is never.
        within: who asks for it over the network; nobody gives away more than they have.

    Raises `NotFound` for an account that is not there, `UsageError` for a wrong scope, `Refused`.
    """
    owner = people.get(account)
    if within is not None:
        _check_within(within, owner.name, check(scopes))
    made = _made(owner.name, name, scopes, limits or Limits(), expires, by)
    with database.writing() as connection:
        _store(connection, owner.id, made)
    return made[0]


def _check_within(asking: Principal, owner: str, wanted: Iterable[str]) -> None:
    if owner != asking.account and not asking.allows("access:admin"):
        raise Refused(f"a key of {asking.account} makes no keys for {owner}", where="account")
    for scope in wanted:
        if not (covers(asking.scopes, *split(scope)) or EVERYTHING in asking.scopes):
            raise Refused("nobody gives away more than they have", where=scope, hint="Ask an administrator.")


def first_administrator() -> NewKey | None:
    """The administrator with a key for everything, when there is no account at all yet; else None."""
    with database.writing() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE accounts IN EXCLUSIVE MODE")
        if connection.execute(select(func.count()).select_from(accounts)).scalar_one():
            return None
        owner = people.add(connection, ADMINISTRATOR, "person", None, None, True, "first start")
        made = _made(owner.name, "first key", [EVERYTHING], Limits(), None, "first start")
        _store(connection, owner.id, made)
    return made[0]


def _made(
    account: str, name: str, wanted: Iterable[str], limits: Limits, expires: float | None, by: str
) -> tuple[NewKey, str]:
    now = time.time()
    if expires is not None and expires <= now:
        raise UsageError("a key that has expired already is of no use", where="--expires")
    if expires is not None and expires > _LAST_DATE:
        raise UsageError("a key expires within a thousand years", where="--expires", hint="For ever is when not given.")
    if not name or len(name) > 200 or not name.isprintable():
        raise UsageError("a key's name has 1 to 200 characters that can be printed")
    text = secret.new()
    key = Key(text.id, name, account, check(wanted), limits, now, by, expires, None, None)
    return NewKey(key, text.text), text.hash


def _store(connection: Any, owner: str, made: tuple[NewKey, str]) -> None:
    key = made[0].key
    connection.execute(
        insert(api_keys).values(
            id=key.id,
            hash=made[1],
            name=key.name,
            account_id=owner,
            scopes=json.dumps(list(key.scopes)),
            limits=json.dumps(key.limits.stored()),
            created=key.created,
            created_by=key.created_by,
            expires=key.expires,
        )
    )
    details: dict[str, Any] = {
        "name": key.name,
        "account": key.account,
        "scopes": list(key.scopes),
        "limits": key.limits.words(),
    }
    audit.note(connection, key.created_by, "key.create", key.id, **details)


def list_all(*, account: str | None = None, revoked: bool = False) -> Sequence[Key]:
    """Keys, newest first; those that were revoked only where asked for."""
    query = select(api_keys, accounts.c.name.label("account")).join(accounts).order_by(api_keys.c.created.desc())
    if account is not None:
        query = query.where(accounts.c.folded == account.lower())
    if not revoked:
        query = query.where(api_keys.c.revoked.is_(None))
    with database.reading() as connection:
        return [] if connection is None else [_key(row) for row in connection.execute(query)]


def get(key: str) -> Key:
    """A key by its public name, the beginning of that, `allm_…`, or its owner's name for it where that is one's."""
    wanted = key.removeprefix("allm_").partition("_")[0]
    every = list_all(revoked=True)
    found = [each for each in every if each.id == wanted]
    found = found or [each for each in every if wanted and each.id.startswith(wanted) and len(wanted) >= 4]
    found = found or [each for each in every if each.name == key and each.revoked is None]
    if not found:
        hint = nearest(key, [each.name for each in every]) or None
        raise NotFound("there is no such key", where=_shown(key), hint=hint)
    if len(found) > 1:
        raise UsageError(f"{len(found)} keys are meant by it", where=_shown(key), hint="`allmend keys` lists them.")
    return found[0]


def _shown(key: str) -> str:
    """What somebody took for a key's name: where it is a whole key, without its secret."""
    given = secret.parse(key.strip())
    return secret.shown(given.id) if given else key[:18] if key.startswith("allm_") else key[:40]


def rotate(key: str, *, by: str = "operator") -> NewKey:
    """Give a key another secret: the one before is refused from now on, and everything else stays as it is.

    Its public name too, so its limits, its users with theirs, and what it used go on. Raises `UsageError` for one that
    was revoked.
    """
    found = get(key)
    if found.state() != "active":
        raise UsageError(f"the key is {found.state()}", where=_shown(key), hint="`allmend keys create` makes another.")
    text = secret.new(found.id)
    with database.writing() as connection:
        connection.execute(update(api_keys).where(api_keys.c.id == found.id).values(hash=text.hash))
        audit.note(connection, by, "key.rotate", found.id, name=found.name, account=found.account)
    forget()
    return NewKey(found, text.text)


def revoke(key: str, *, by: str = "operator") -> Key:
    """Refuse a key from now on: at once in this process, within a second in others."""
    found = get(key)
    with database.writing() as connection:
        same = (api_keys.c.id == found.id) & api_keys.c.revoked.is_(None)
        connection.execute(update(api_keys).where(same).values(revoked=time.time()))
        audit.note(connection, by, "key.revoke", found.id, name=found.name, account=found.account)
    forget()
    return get(found.id)


def set_limits(key: str, limits: Limits, *, by: str = "operator") -> Key:
    """Give a key other limits."""
    found = get(key)
    with database.writing() as connection:
        stored = json.dumps(limits.stored())
        connection.execute(update(api_keys).where(api_keys.c.id == found.id).values(limits=stored))
        audit.note(connection, by, "key.limits", found.id, before=found.limits.words(), after=limits.words())
    forget()
    return get(found.id)


def identify(text: str | None) -> Principal | None:
    """Whose key this is; None for one that is not known, has expired, was revoked, or whose account is disabled.

    A key that was looked up is believed for `FRESH_SECONDS`. Takes a read of the database otherwise: call it
    from a thread.
    """
    given = secret.parse(text or "")
    if given is None:
        return None
    known = _remembered(given.id) or _look_up(given.id, time.monotonic())
    if not secret.matches(given, known.hash if known else None) or known is None:
        return None
    if known.refused or (known.expires is not None and known.expires <= time.time()):
        return None
    _note_use(given.id)
    return known.principal


def standing_for(identity: str) -> Principal | None:
    """Whom a key stands for today, by its public name: for work that goes on after the request that asked for it.

    None for a key that was revoked or has expired meanwhile. Call it from a thread.
    """
    known = _remembered(identity) or _look_up(identity, time.monotonic())
    if known is None or known.refused or (known.expires is not None and known.expires <= time.time()):
        return None
    return known.principal


def needs_look_up(text: str | None) -> bool:
    """Whether `identify` would ask the database: if not, it takes microseconds and needs no thread."""
    given = secret.parse(text or "")
    return given is not None and (_remembered(given.id) is None or _use_is_due(given.id))


def _remembered(identity: str) -> _Known | None:
    known = _known.get(identity)
    return None if known is None or time.monotonic() - known.looked_up > FRESH_SECONDS else known


def _use_is_due(identity: str) -> bool:
    used = _used.get(identity)
    return used is None or time.monotonic() - used >= _USED_SECONDS


def forget() -> None:
    """Look every key up anew."""
    global _changes
    with _guard:
        _known.clear()
        _changes += 1


def _look_up(identity: str, now: float) -> _Known | None:
    query = (
        select(
            api_keys,
            accounts.c.name.label("account"),
            accounts.c.disabled,
            accounts.c.administrator,
            accounts.c.email,
            accounts.c.display,
        )
        .join(accounts)
        .where(api_keys.c.id == identity)
    )
    before = _changes
    with database.reading() as connection:
        row = None if connection is None else connection.execute(query).first()
        if row is None or connection is None:
            return None
        roles = people.roles(connection, row.account_id)
    key = _key(row)
    principal = Principal(
        key.account,
        key.id,
        key.scopes,
        key.limits,
        MappingProxyType(roles),
        bool(row.administrator),
        email=row.email,
        display=row.display,
        key_name=key.name,
    )
    refused = key.revoked is not None or row.disabled is not None
    known = _Known(row.hash, principal, key.expires, refused, now)
    with _guard:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        if _changes == before:
            _known[identity] = known
    return known


def _note_use(identity: str) -> None:
    with _guard:
        if not _use_is_due(identity):
            return
        if len(_used) >= _MOST_KNOWN:
            _used.clear()
        _used[identity] = time.monotonic()
    # When it was used last is good to know, and no reason to refuse anybody, or to keep anybody waiting.
    with suppress(Unavailable), database.writing(patience=_NOTE_SECONDS) as connection:
        connection.execute(update(api_keys).where(api_keys.c.id == identity).values(last_used=time.time()))


def _key(row: Row[Any]) -> Key:
    return Key(
        row.id,
        row.name,
        row.account,
        tuple(json.loads(row.scopes)),
        Limits.model_validate_json(row.limits),
        row.created,
        row.created_by,
        row.expires,
        row.revoked,
        row.last_used,
    )
