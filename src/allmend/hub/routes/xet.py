"""Short-lived tokens for the content-addressed store: the only way that stock clients upload large files."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from allmend.hub.cas.tokens import Scope
from allmend.hub.encoded import plain
from allmend.hub.looking import looking
from allmend.hub.routes import asking
from allmend.hub.routes.asking import Who
from allmend.hub.routes.committing import may_commit
from allmend.hub.state import Hub


def routes(hub: Hub) -> APIRouter:
    """Routes of the tokens."""
    router = APIRouter()

    @router.get("/api/{kinds}/{owner}/{name}/xet-read-token/{rest:path}")
    def read(kinds: str, owner: str, name: str, rest: str, request: Request, who: Who) -> Response:
        with looking() as connection:
            found = asking.opened(connection, kinds, owner, name, who)
            asking.committed(connection, found, plain(rest))
        return _token(hub, request, found.id, "read")

    @router.get("/api/{kinds}/{owner}/{name}/xet-write-token/{rest:path}")
    def write(kinds: str, owner: str, name: str, rest: str, request: Request, who: Who) -> Response:
        with looking() as connection:
            found = may_commit(connection, (kinds, owner, name), plain(rest), who, False)
        return _token(hub, request, found.id, "write")

    return router


def _token(hub: Hub, request: Request, repository: int, scope: Scope) -> Response:
    token, until = hub.tokens.mint(str(repository), scope)
    url = asking.base(request, hub.url) + hub.cas_path
    shown = {"casUrl": url, "accessToken": token, "exp": until}
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(until)}
    return JSONResponse(shown, headers={**headers, "Cache-Control": "no-store"})
