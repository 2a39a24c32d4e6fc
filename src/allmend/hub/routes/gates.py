"""Asking for access to gated repositories, and granting it."""

from __future__ import annotations

import json
import time
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy import Connection, delete, insert, select, update
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from allmend import database
from allmend.access import accounts
from allmend.database.hub_repositories import hub_access_requests
from allmend.errors import NotFound
from allmend.hub import describing
from allmend.hub.faults import Fault
from allmend.hub.looking import looking
from allmend.hub.noting import note
from allmend.hub.repositories import Repository
from allmend.hub.routes import asking
from allmend.hub.routes.asking import Who
from allmend.hub.routes.bodies import Body
from allmend.hub.state import Hub

_T = hub_access_requests
_STATUS = ("pending", "accepted", "rejected")


class Handle(Body):
    """What becomes of a request."""

    status: Literal["pending", "accepted", "rejected"]
    user: str | None = Field(None, max_length=200)
    requestId: str | None = Field(None, max_length=200)  # noqa: N815
    rejectionReason: str | None = Field(None, max_length=1000)  # noqa: N815


class Grant(Body):
    """Who is let in without having asked."""

    user: str = Field(max_length=200)


def routes(hub: Hub) -> APIRouter:
    """Routes of gated repositories."""
    router = APIRouter()

    @router.post("/api/{kinds}/{owner}/{name}/user-access-request/handle")
    def handle(kinds: str, owner: str, name: str, body: Handle, who: Who) -> Response:
        person = body.user or body.requestId or ""
        with database.writing() as connection:
            found = asking.administered(connection, kinds, owner, name, who)
            _person(person)
            status = _status(connection, found, person)
            if status is None:
                raise Fault(404, f"{person} has not asked for access.")
            if status == body.status:
                raise Fault(404, f"The request of {person} is {status} already.")
            _set(connection, found, person, body.status)
            note(connection, who, "gate." + body.status, found, person=person, reason=body.rejectionReason)
        return JSONResponse({})

    @router.post("/api/{kinds}/{owner}/{name}/user-access-request/grant")
    def grant(kinds: str, owner: str, name: str, body: Grant, who: Who) -> Response:
        with database.writing() as connection:
            found = asking.administered(connection, kinds, owner, name, who)
            person = _person(body.user)
            if _status(connection, found, person) == "accepted":
                raise Fault(400, f"{person} has access already.")
            _set(connection, found, person, "accepted")
            note(connection, who, "gate.grant", found, person=person)
        return JSONResponse({})

    @router.get("/api/{kinds}/{owner}/{name}/user-access-request/{status}")
    def requests(kinds: str, owner: str, name: str, status: str, who: Who) -> Response:
        if status not in _STATUS:
            raise Fault(404, f"Requests are one of {', '.join(_STATUS)}.")
        with looking() as connection:
            found = asking.administered(connection, kinds, owner, name, who)
            if not found.gated:
                raise Fault(400, f"{found.full_name} is not gated.")
            rows = connection.execute(
                select(_T).where(_T.c.repository_id == found.id, _T.c.status == status).order_by(_T.c.created)
            ).all()
        shown = [
            {
                "user": {"user": row.person, "fullname": row.person, "email": None},
                "requestId": row.person, "status": row.status, "timestamp": describing.when(row.created),
                "fields": json.loads(row.fields),
            }
            for row in rows
        ]  # fmt: skip
        return JSONResponse(shown)

    for prefix, kinds in (("/datasets", "datasets"), ("/spaces", "spaces"), ("", "models")):
        _add_asking(router, prefix, kinds)
    return router


def _add_asking(router: APIRouter, prefix: str, kinds: str) -> None:
    async def ask(owner: str, name: str, request: Request, who: Who) -> Response:
        data = await asking.read_body(request, 65_536)
        fields: dict[str, Any] = {}
        if "json" in request.headers.get("content-type", ""):
            try:
                body = json.loads(data or b"{}")
            except (ValueError, RecursionError):
                raise Fault(400, "The body is not JSON.") from None
            fields = {str(k)[:100]: str(v)[:1000] for k, v in body.items()} if isinstance(body, dict) else {}

        def write() -> Response:
            if who.name is None:
                raise Fault(401, "A token is needed to ask for access.")
            with database.writing() as connection:
                found = asking.seen(connection, kinds, owner, name, who)
                if not found.gated:
                    raise Fault(400, f"{found.full_name} is not gated.")
                status = _status(connection, found, who.name)
                if status is None:
                    status = "accepted" if found.gated == "auto" else "pending"
                    _set(connection, found, who.name, status, fields)
                    note(connection, who, "gate.ask", found, status=status)
            return JSONResponse({"status": status})

        return await run_in_threadpool(write)

    path = f"{prefix}/{{owner}}/{{name}}/ask-access"
    router.add_api_route(path, ask, methods=["POST"], response_model=None, name=f"ask-{kinds}")


def _person(name: str) -> str:
    try:
        return accounts.get(name).name
    except NotFound:
        raise Fault(404, f"There is no user {name[:100]!r}.") from None


def _status(connection: Connection, found: Repository, person: str) -> str | None:
    same = (_T.c.repository_id == found.id) & (_T.c.person == person)
    status: str | None = connection.execute(select(_T.c.status).where(same)).scalar()
    return status


def _set(
    connection: Connection, found: Repository, person: str, status: str, fields: dict[str, Any] | None = None
) -> None:
    same = (_T.c.repository_id == found.id) & (_T.c.person == person)
    if fields is None and connection.execute(update(_T).where(same).values(status=status)).rowcount:
        return
    connection.execute(delete(_T).where(same))
    row = {"repository_id": found.id, "person": person, "status": status, "created": time.time()}
    connection.execute(insert(_T).values(**row, fields=json.dumps(fields or {})))
