"""Who a request comes from, and what they may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from allmend.access import scopes
from allmend.access.limits import Limits

Role = Literal["read", "write", "admin"]
ROLES: tuple[Role, ...] = ("read", "write", "admin")
"""Roles in an organisation, each with what those before it may do."""

_NEEDED: dict[str, Role] = {"hub:read": "read", "hub:write": "write", "hub:admin": "admin"}


@dataclass(frozen=True)
class Principal:
    """Whoever holds a key, or sits at this machine."""

    account: str
    """Name of the person or organisation."""
    key: str | None
    """Public name of the key; None where no key was asked for."""
    scopes: tuple[str, ...]
    limits: Limits = field(default_factory=Limits)
    organisations: Mapping[str, Role] = field(default_factory=lambda: MappingProxyType({}))
    """Organisations that the account belongs to, with its role."""
    administrator: bool = False
    """Whether the account is the operator's: every role everywhere (what the key may do is its scopes' business)."""
    user: str | None = None
    """The user behind the key that the request named, where the key allows that."""
    email: str | None = None
    display: str | None = None
    """The account's name for people."""
    key_name: str | None = None
    """What its owner calls the key."""

    def allows(self, scope: str, resource: str | None = None) -> bool:
        """Whether the key covers `scope` on `resource`; roles are not asked."""
        return scopes.covers(self.scopes, scope, resource)

    def anywhere(self, scope: str) -> bool:
        """Whether the key covers `scope` on some resource at least."""
        return scopes.anywhere(self.scopes, scope)

    def role(self, owner: str) -> Role | None:
        """The account's role in a person's or organisation's name: its own, all; others', what it was given."""
        if self.administrator or owner == self.account:
            return "admin"
        return self.organisations.get(owner)

    def permits(self, scope: str, resource: str) -> bool:
        """Whether key and role together allow `scope` on `OWNER` or `OWNER/NAME`: what a hub asks."""
        role = self.role(resource.partition("/")[0])
        enough = role is not None and ROLES.index(role) >= ROLES.index(_NEEDED.get(scope, "read"))
        return enough and self.allows(scope, resource)

    def behalf_of(self, user: str | None) -> Principal:
        """The same key with the user whom the request named."""
        return self if user is None else replace(self, user=user)


def operator(name: str = "operator") -> Principal:
    """Whoever sits at this machine, where no keys are asked for."""
    return Principal(name, None, (scopes.EVERYTHING,), administrator=True)
