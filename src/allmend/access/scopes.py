"""What a key may do, as words: `AREA:ACTION` or `AREA:ACTION:RESOURCE`, and `*` for everything.

A resource narrows: `hub:write:anna` covers every repository of anna, `hub:write:anna/film` that one,
`serve:chat:gemma-3-270m` that model with its adapters. An action covers those below it: `hub:write` also reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from allmend.errors import UsageError, nearest

EVERYTHING = "*"
KNOWN: dict[str, str] = {
    "serve:chat": "chat, completions, responses",
    "serve:embeddings": "embeddings, rerank, moderations",
    "serve:audio": "transcriptions, translations, speech",
    "serve:files": "files and batches",
    "serve:search": "search in indexed documents",
    "serve:read": "the list of models",
    "serve:metrics": "counts for Prometheus",
    "serve:admin": "all of serve, and adapters while it runs",
    "hub:read": "read repositories that are not public",
    "hub:write": "hub:read, and commit, tag, create repositories",
    "hub:admin": "hub:write, and delete, move, settings",
    "app:run": "run an app",
    "app:admin": "app:run, and see everybody's runs",
    "access:usage": "everybody's usage",
    "access:admin": "accounts, keys, prices, usage and the audit log",
}
"""Scope: what it allows, in a person's words."""

_COVERS = {
    "serve:admin": {scope for scope in KNOWN if scope.startswith("serve:")},
    "serve:chat": {"serve:read"},
    "serve:embeddings": {"serve:read"},
    "serve:audio": {"serve:read"},
    "serve:files": {"serve:read"},
    "serve:search": {"serve:read"},
    "hub:admin": {"hub:write", "hub:read"},
    "hub:write": {"hub:read"},
    "app:admin": {"app:run"},
    "access:admin": {"access:usage"},
}
_RESOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@:-]{0,249}")


def check(scopes: Iterable[str]) -> tuple[str, ...]:
    """The scopes, sorted, each once; raises `UsageError` for one that is not known."""
    found = set()
    for scope in scopes:
        action, resource = split(scope)
        if scope != EVERYTHING and action not in KNOWN:
            raise UsageError(f"there is no scope {scope!r}", hint=nearest(action, [*KNOWN, EVERYTHING]) or None)
        if resource is not None and not _RESOURCE.fullmatch(resource):
            raise UsageError(f"{resource!r} names no resource", where=scope, hint="Like hub:write:OWNER/NAME.")
        found.add(scope)
    if not found:
        raise UsageError("a key without a scope may do nothing", hint="Like --scope serve:chat.")
    return tuple(sorted(found))


def split(scope: str) -> tuple[str, str | None]:
    """`hub:write:anna/film` as (`hub:write`, `anna/film`)."""
    parts = scope.split(":", 2)
    return ":".join(parts[:2]), parts[2] if len(parts) > 2 else None


def covers(granted: Iterable[str], asked: str, resource: str | None = None) -> bool:
    """Whether one of `granted` allows `asked` on `resource`; a narrowed one allows nothing without a resource."""
    for scope in granted:
        action, within = split(scope)
        if scope == EVERYTHING:
            return True
        if (action == asked or asked in _COVERS.get(action, ())) and _inside(resource, within):
            return True
    return False


def anywhere(granted: Iterable[str], asked: str) -> bool:
    """Whether one of `granted` allows `asked` on some resource at least."""
    return covers((scope if scope == EVERYTHING else split(scope)[0] for scope in granted), asked)


def _inside(resource: str | None, within: str | None) -> bool:
    if within is None:
        return True
    if resource is None:
        return False
    return resource == within or resource.startswith((f"{within}/", f"{within}:"))
