"""People and organisations, which share one room of names, and people's roles in organisations."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from allmend import database
from allmend.access import audit
from allmend.access.principal import ROLES, Role
from allmend.database.schema import accounts, memberships
from allmend.errors import NotFound, UsageError, nearest

Kind = Literal["person", "organisation"]
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9]|[._-](?=[A-Za-z0-9])){0,95}")


@dataclass(frozen=True)
class Account:
    """A person or an organisation."""

    id: str
    name: str
    """As in OWNER/NAME."""
    kind: Kind
    display: str | None
    email: str | None
    administrator: bool
    created: float
    disabled: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def create(
    name: str,
    *,
    kind: Kind = "person",
    display: str | None = None,
    email: str | None = None,
    administrator: bool = False,
    by: str = "operator",
) -> Account:
    """A new account; raises `UsageError` for a name that is taken or cannot be one."""
    if not _NAME.fullmatch(name):
        hint = "Letters and digits, and single . _ - between them; at most 96."
        raise UsageError(f"{name!r} cannot be a name", hint=hint)
    with database.writing() as connection:
        return add(connection, name, kind, display, email, administrator, by)


def _taken(name: str) -> UsageError:
    return UsageError(f"the name {name!r} is taken")


def add(
    connection: Connection,
    name: str,
    kind: Kind,
    display: str | None,
    email: str | None,
    administrator: bool,
    by: str,
) -> Account:
    """`create` within a transaction, for a name that was checked."""
    # Names that differ in their case alone would be taken for each other.
    if connection.execute(select(accounts.c.id).where(accounts.c.folded == name.lower())).first() is not None:
        raise _taken(name)
    made = Account(uuid.uuid4().hex, name, kind, display, email, administrator, time.time(), None)
    try:
        connection.execute(insert(accounts).values(**made.to_dict(), folded=name.lower()))
    except IntegrityError:
        raise _taken(name) from None
    audit.note(connection, by, "account.create", name, kind=kind, administrator=administrator)
    return made


def get(name: str) -> Account:
    """An account by its name; raises `NotFound` with the nearest."""
    with database.reading() as connection:
        row = None
        known: list[str] = []
        if connection is not None:
            row = connection.execute(select(accounts).where(accounts.c.folded == name.lower())).first()
            known = [] if row else [each.name for each in connection.execute(select(accounts.c.name).limit(1000))]
    if row is None:
        raise NotFound(f"there is no account {name!r}", hint=nearest(name, known) or None)
    return _account(row)


def list_all(*, kind: Kind | None = None) -> Sequence[Account]:
    """Accounts by name."""
    query = select(accounts).order_by(accounts.c.name)
    if kind is not None:
        query = query.where(accounts.c.kind == kind)
    with database.reading() as connection:
        return [] if connection is None else [_account(row) for row in connection.execute(query)]


def disable(name: str, *, by: str = "operator", disabled: bool = True) -> None:
    """Refuse every key of an account from now on, or take that back."""
    account = get(name)
    with database.writing() as connection:
        when = time.time() if disabled else None
        connection.execute(update(accounts).where(accounts.c.id == account.id).values(disabled=when))
        audit.note(connection, by, "account.disable" if disabled else "account.enable", account.name)
    _changed()


def set_role(organisation: str, person: str, role: Role | None, *, by: str = "operator") -> None:
    """Give a person a role in an organisation; None takes it away."""
    group, member = get(organisation), get(person)
    if group.kind != "organisation":
        raise UsageError(f"{group.name!r} is a person, not an organisation")
    if member.kind != "person":
        raise UsageError(f"{member.name!r} is an organisation, not a person")
    if role is not None and role not in ROLES:
        raise UsageError(f"there is no role {role!r}", hint="Roles: " + ", ".join(ROLES) + ".")
    same = (memberships.c.organisation_id == group.id) & (memberships.c.person_id == member.id)
    with database.writing() as connection:
        connection.execute(delete(memberships).where(same))
        if role is not None:
            values = {"organisation_id": group.id, "person_id": member.id, "role": role}
            connection.execute(insert(memberships).values(**values))
        audit.note(connection, by, "role.set" if role else "role.remove", group.name, person=member.name, role=role)
    _changed()


def members(organisation: str) -> dict[str, Role]:
    """People of an organisation, with their roles."""
    group = get(organisation)
    query = (
        select(accounts.c.name, memberships.c.role)
        .join(accounts, accounts.c.id == memberships.c.person_id)
        .where(memberships.c.organisation_id == group.id)
        .order_by(accounts.c.name)
    )
    with database.reading() as connection:
        return {} if connection is None else {row.name: row.role for row in connection.execute(query)}


def roles(connection: Connection, account: str) -> dict[str, Role]:
    """Organisations that the account with this id belongs to, with its role."""
    query = (
        select(accounts.c.name, memberships.c.role)
        .join(accounts, accounts.c.id == memberships.c.organisation_id)
        .where(memberships.c.person_id == account, accounts.c.disabled.is_(None))
    )
    return {row.name: row.role for row in connection.execute(query)}


def _account(row: Row[Any]) -> Account:
    return Account(
        row.id,
        row.name,
        row.kind,
        row.display,
        row.email,
        bool(row.administrator),
        row.created,
        row.disabled,
    )


def _changed() -> None:
    from allmend.access import keys

    keys.forget()
