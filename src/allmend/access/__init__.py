"""Who may do what, and how much: one of each for serving, the hub and the apps.

    secret.py       the text of a key: made once, hashed at rest
    scopes.py       what a key may do: `serve:chat`, `hub:write:OWNER/NAME`
    limits.py       how much it may do
    accounts.py     people and organisations, roles in them
    keys.py         keys: made, listed, revoked, looked up
    principal.py    who a request comes from
    audit.py        who did what, append-only
    listening.py    an application on an address of this machine

The everyday use is `identify(secret) -> Principal | None` and `Principal.permits(scope, resource)`. Nothing here
imports the web server or the database before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allmend.access import accounts, audit, keys, users
    from allmend.access.keys import identify
    from allmend.access.limits import Limits
    from allmend.access.listening import Listener, bind, is_loopback
    from allmend.access.principal import Principal

_HOMES = {
    "Limits": "limits",
    "Listener": "listening",
    "Principal": "principal",
    "bind": "listening",
    "identify": "keys",
    "is_loopback": "listening",
}
_MODULES = ("accounts", "audit", "keys", "users")

__all__ = ["Limits", "Listener", "Principal", "accounts", "audit", "bind", "identify", "is_loopback", "keys", "users"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(f"allmend.access.{_HOMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"allmend.access.{name}")
    raise AttributeError(f"module 'allmend.access' has no attribute {name!r}")
