"""What every route begins with: who asks, for which repository, at which revision."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy import Connection

from allmend.hub import refs, repositories
from allmend.hub.faults import Fault, no_repository
from allmend.hub.names import KINDS, PLURALS, PREFIXES
from allmend.hub.repositories import Repository
from allmend.hub.visitor import NOBODY, Visitor

_ELSEWHERE = {
    "collections": "collections", "jobs": "jobs", "scheduled-jobs": "jobs", "buckets": "buckets", "papers": "papers",
    "daily_papers": "papers", "kernels": "kernels", "settings": "webhooks and settings pages", "posts": "posts",
    "trending": "trends", "quicksearch": "quick search", "agents": "agents",
}  # fmt: skip


def visitor(request: Request) -> Visitor:
    """Who asks, by the bearer token, or the password of git's kind of login; 401 for a token that is not known."""
    from allmend.access import keys

    token = _token(request.headers.get("authorization", ""))
    if token is None:
        return NOBODY
    found = keys.identify(token)
    if found is None:
        raise Fault(401, "Invalid credentials in Authorization header", headers={"www-authenticate": "Bearer"})
    return Visitor(found)


def _token(header: str) -> str | None:
    kind, _, value = header.partition(" ")
    if kind.lower() == "bearer":
        return value.strip() or None
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2] or None
        except (binascii.Error, UnicodeDecodeError):
            raise Fault(401, "Invalid credentials in Authorization header") from None
    return None


Who = Annotated[Visitor, Depends(visitor)]
"""The visitor, as a parameter of a route."""


def kind_of(plural: str) -> str:
    """`models` as `model`; raises a 501 for what other hubs have, a 404 for the rest."""
    if plural in PLURALS:
        return PLURALS[plural]
    if plural in _ELSEWHERE:
        raise Fault(501, f"This hub has no {_ELSEWHERE[plural]}.")
    raise Fault(404, f"There is nothing at /api/{plural}"[:200])


def kind_named(kind: str | None) -> str:
    """`None` and `model` as `model`."""
    if kind is None:
        return "model"
    if kind not in KINDS:
        raise Fault(400 if kind not in ("bucket", "kernel") else 501, f"This hub has no repositories of type {kind!r}.")
    return kind


def seen(connection: Connection, plural: str, owner: str, name: str, who: Visitor) -> Repository:
    """The repository, if the visitor may know of it; its gate is not asked."""
    found = repositories.lookup(connection, kind_of(plural), owner, name)
    return repositories.readable(connection, found, who)


def opened(connection: Connection, plural: str, owner: str, name: str, who: Visitor) -> Repository:
    """The repository, if the visitor may read its files."""
    found = seen(connection, plural, owner, name, who)
    repositories.check_gate(connection, found, who)
    return found


def writable(connection: Connection, plural: str, owner: str, name: str, who: Visitor) -> Repository:
    """The repository, if the visitor may change it; 401 without a token, 403 with one that may not."""
    found = seen(connection, plural, owner, name, who)
    if found.mirror is not None:
        raise Fault(403, f"{found.full_name} mirrors another hub; fork it to change it.")
    if not who.writes(found.owner, found.name):
        raise _not_permitted(who, found, "write to")
    return found


def administered(connection: Connection, plural: str, owner: str, name: str, who: Visitor) -> Repository:
    """The repository, if the visitor may decide about it."""
    found = seen(connection, plural, owner, name, who)
    if not who.administers(found.owner, found.name):
        raise _not_permitted(who, found, "administer")
    return found


def _not_permitted(who: Visitor, found: Repository, verb: str) -> Fault:
    if who.name is None:
        return Fault(401, f"A token is needed to {verb} {found.full_name}.", headers={"www-authenticate": "Bearer"})
    return Fault(403, f"You do not have the rights to {verb} {found.kind} {found.full_name} with this token.")


def proposable(connection: Connection, plural: str, owner: str, name: str, who: Visitor) -> Repository:
    """The repository, if the visitor may open pull requests at it."""
    found = opened(connection, plural, owner, name, who)
    if not who.proposes(found.owner, found.name):
        raise _not_permitted(who, found, "propose changes to")
    return found


def committed(connection: Connection, repository: Repository, revision: str) -> str:
    """The commit of a revision."""
    return refs.resolve(connection, repository.id, revision)


def split_name(full: str) -> tuple[str, str]:
    """OWNER/NAME in two; raises RepoNotFound."""
    owner, slash, name = full.partition("/")
    if not slash or not owner or not name or "/" in name:
        raise no_repository()
    return owner, name


def base(request: Request, url: str | None) -> str:
    """What the client calls this hub by, without a slash at the end."""
    return (url or str(request.base_url)).rstrip("/")


def page_of(repository: Repository, start: str) -> str:
    """The repository's own address."""
    return f"{start}/{PREFIXES[repository.kind]}{repository.full_name}"


async def read_json(request: Request, largest: int = 32 * 2**20) -> Any:
    """The body as JSON; raises a 400 or a 413."""
    import json

    data = await read_body(request, largest)
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise Fault(400, "The body is not JSON.") from None


async def read_body(request: Request, largest: int) -> bytes:
    """The body; raises a 413 where it is longer."""
    taken = bytearray()
    async for chunk in request.stream():
        taken += chunk
        if len(taken) > largest:
            raise Fault(413, f"The body has more than {largest:,} bytes.", headers={"connection": "close"})
    return bytes(taken)
