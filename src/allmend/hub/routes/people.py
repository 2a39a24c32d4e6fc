"""Who a token belongs to, and what is shown of people and organisations."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from sqlalchemy import Connection, func, select
from starlette.responses import JSONResponse, Response

from allmend.access import accounts
from allmend.database.hub_repositories import hub_repositories
from allmend.errors import NotFound
from allmend.hub import describing, owned
from allmend.hub.faults import Fault
from allmend.hub.looking import looking
from allmend.hub.routes.asking import Who
from allmend.hub.state import Hub


def routes(hub: Hub) -> APIRouter:
    """Routes about people."""
    router = APIRouter()

    @router.get("/api/whoami-v2")
    def whoami(who: Who) -> Response:
        if who.principal is None:
            raise Fault(401, "Invalid username or password.", headers={"www-authenticate": "Bearer"})
        person = who.principal
        writes = person.anywhere("hub:write")
        orgs = [
            {
                "type": "org", "name": name, "fullname": accounts.get(name).display or name, "roleInOrg": role,
                "isEnterprise": False,
            }
            for name, role in person.organisations.items()
        ]  # fmt: skip
        return JSONResponse({
            "type": "user", "id": person.account, "name": person.account, "fullname": person.display or person.account,
            "email": person.email, "emailVerified": person.email is not None, "canPay": False, "isPro": False,
            "avatarUrl": "", "orgs": orgs,
            "auth": {
                "type": "access_token",
                "accessToken": {
                    "displayName": person.key_name or "", "role": "write" if writes else "read",
                    "scopes": list(person.scopes),
                },
            },
        })  # fmt: skip

    @router.get("/api/users/{name}/overview")
    def user(name: str, who: Who) -> Response:
        found = _account(name, "person")
        with looking() as connection:
            numbers = _numbers(connection, found.name)
        return JSONResponse({"user": found.name, "fullname": found.display or found.name, "avatarUrl": "",
                             "isPro": False, "type": "user", "orgs": [], **numbers})  # fmt: skip

    @router.get("/api/organizations/{name}/overview")
    def organisation(name: str, who: Who) -> Response:
        found = _account(name, "organisation")
        with looking() as connection:
            numbers = _numbers(connection, found.name)
        return JSONResponse({"name": found.name, "fullname": found.display or found.name, "avatarUrl": "",
                             "isVerified": False, "numUsers": len(accounts.members(found.name)),
                             **numbers})  # fmt: skip

    @router.get("/api/organizations/{name}/members")
    def members(name: str, request: Request, who: Who) -> Response:
        found = _account(name, "organisation")
        shown = [{"user": each, "fullname": each, "avatarUrl": "", "type": "user", "isPro": False}
                 for each in accounts.members(found.name)]  # fmt: skip
        return JSONResponse(shown)

    @router.get("/api/settings/repositories")
    def mine(who: Who) -> Response:
        if who.name is None:
            raise Fault(401, "A token is needed.")
        return JSONResponse(_storage(who.name))

    @router.get("/api/organizations/{name}/settings/repositories")
    def theirs(name: str, who: Who) -> Response:
        found = _account(name, "organisation")
        if who.principal is None or who.principal.role(found.name) is None:
            raise Fault(403, f"You do not belong to {found.name}.")
        return JSONResponse(_storage(found.name))

    @router.get("/api/users/{name}/likes")
    def likes(name: str) -> Response:
        return JSONResponse([])

    @router.get("/api/{kinds}-tags-by-type")
    def tags(kinds: str) -> Response:
        return JSONResponse({})

    return router


def _storage(owner: str) -> list[dict[str, Any]]:
    table = hub_repositories
    with looking() as connection:
        rows = connection.execute(select(table).where(func.lower(table.c.owner) == owner.lower())).all()
        sizes = {row.id: owned.used_by(connection, row.id) for row in rows}
    whole = sum(sizes.values()) or 1
    return [
        {
            "id": f"{row.owner}/{row.name}", "type": row.kind, "updatedAt": describing.when(row.updated),
            "visibility": "private" if row.private else "public", "storage": sizes[row.id],
            "storagePercent": sizes[row.id] / whole,
        }
        for row in rows
    ]  # fmt: skip


def _account(name: str, kind: str) -> accounts.Account:
    try:
        found = accounts.get(name)
    except NotFound:
        found = None
    if found is None or found.kind != kind:
        raise Fault(404, f"There is no {kind} {name[:100]!r}.")
    return found


def _numbers(connection: Connection, owner: str) -> dict[str, int]:
    table = hub_repositories
    mine = (func.lower(table.c.owner) == owner.lower()) & table.c.private.is_(False)
    rows = connection.execute(select(table.c.kind, func.count()).where(mine).group_by(table.c.kind)).all()
    counts = {str(kind): int(number) for kind, number in rows}
    return {
        "numModels": counts.get("model", 0), "numDatasets": counts.get("dataset", 0),
        "numSpaces": counts.get("space", 0), "numFollowers": 0, "numFollowing": 0, "numLikes": 0, "numUpvotes": 0,
        "numPapers": 0, "numDiscussions": 0,
    }  # fmt: skip
