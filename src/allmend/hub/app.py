"""The hub as a web application."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from allmend import __version__
from allmend.errors import AllmendError
from allmend.hub.encoded import EncodedPaths
from allmend.hub.faults import Fault, of_error
from allmend.hub.hosts import Hosts
from allmend.hub.routes import committing, gates, lfs, people, reading, repos, resolve, talking, xet
from allmend.hub.routes.asking import kind_of
from allmend.hub.routes.bodies import Bounded
from allmend.hub.state import Hub

_DO_OTHER_HUBS = (
    "secrets", "variables", "runtime", "hardware", "sleeptime", "pause", "restart", "dev-mode", "logs", "volumes",
    "like", "likers", "leaderboard", "safetensors-metadata", "parquet", "resource-group", "sql-console", "events",
    "metrics", "croissant", "jwt", "scan", "treesize", "notebook",
)  # fmt: skip


_PARTS = ("revision", "tree", "refs", "commits", "paths-info", "preupload", "commit", "branch", "tag", "settings",
          "discussions", "xet-read-token", "xet-write-token", "super-squash", "auth-check", "like")  # fmt: skip
"""What comes after OWNER/NAME: where it comes after one name, the repository is written without an owner."""


def create_app(hub: Hub, cas: APIRouter) -> FastAPI:
    """The application over `hub`, with the routes of its content-addressed store."""
    app = FastAPI(
        title="allmend hub",
        version=__version__,
        summary="Repositories of models, data and notebooks, behind the Hub API.",
        docs_url=None,
        redoc_url=None,
    )
    for part in (people, repos, committing, reading, gates, talking, xet, lfs):
        app.include_router(part.routes(hub))
    app.include_router(cas, prefix=hub.cas_path)
    _add_server_routes(app)
    _add_elsewhere(app)
    app.include_router(resolve.routes(hub))
    _add_files_elsewhere(app)
    _add_handlers(app)
    app.add_middleware(Bounded)
    app.add_middleware(Hosts, loopback=hub.loopback, first=hub.wake)
    app.add_middleware(EncodedPaths)
    return app


def _add_server_routes(app: FastAPI) -> None:
    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the server is up."""
        return {"status": "ok", "version": __version__}

    @app.get("/api/telemetry/{rest:path}")
    @app.head("/api/telemetry/{rest:path}")
    async def telemetry(rest: str) -> Response:
        """Clients tell what they do; nobody listens."""
        return Response(status_code=204)


def _add_elsewhere(app: FastAPI) -> None:
    @app.api_route("/api/{kinds}", methods=["POST", "PUT", "PATCH", "DELETE"])
    async def not_listed(kinds: str, request: Request) -> Response:
        """What other hubs make here."""
        kind_of(kinds)
        raise Fault(405, f"{request.method} does nothing here.")

    @app.api_route("/api/{kinds}/{rest:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
    async def elsewhere(kinds: str, rest: str, request: Request) -> Response:
        """What other hubs have is named; the rest is not there."""
        kind = kind_of(kinds)
        parts = rest.split("/")
        if len(parts) == 1 or parts[1] in _PARTS:
            raise Fault(404 if request.headers.get("authorization") else 401, "Repository not found", "RepoNotFound")
        if len(parts) > 2 and parts[2] in _DO_OTHER_HUBS:
            raise Fault(501, f"This hub has no {parts[2]} for a {kind}.")
        raise Fault(404, f"There is nothing at this address of a {kind}, or not by {request.method}.")


def _add_files_elsewhere(app: FastAPI) -> None:
    @app.api_route("/{name}/resolve/{rest:path}", methods=["GET", "HEAD"])
    async def no_owner(name: str, rest: str, request: Request) -> Response:
        """A file of a repository written without an owner: every one here has one."""
        raise Fault(404 if request.headers.get("authorization") else 401, "Repository not found", "RepoNotFound")


def _add_handlers(app: FastAPI) -> None:
    @app.exception_handler(Fault)
    async def fault(request: Request, error: Fault) -> JSONResponse:
        return error.response()

    @app.exception_handler(AllmendError)
    async def known(request: Request, error: AllmendError) -> JSONResponse:
        return of_error(error).response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first.get("loc", ()) if part != "body")
        return Fault(400, f"{where}: {first.get('msg', 'not as it should be')}".strip(": ")).response()

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return Fault(error.status_code, str(error.detail), headers=dict(error.headers or {})).response()

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        return Fault(500, f"Something went wrong inside the hub ({type(error).__name__}).").response()
