"""The HTTP surface of served notebooks: a page, and an API with a typed body for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from allmend.apps import notebook_routes, output_routes, run_routes
from allmend.apps.form import index_page, notebook_page
from allmend.apps.guard import Guard
from allmend.apps.guarded import Guarded
from allmend.apps.notebook import NotebookApp
from allmend.apps.parameters import WrongParameters
from allmend.apps.proxy import Proxy
from allmend.apps.queue import Queue
from allmend.apps.runs import AppRun
from allmend.apps.served import Served
from allmend.apps.store import Store
from allmend.errors import AllmendError, InputError, NotFound, Unavailable, UsageError
from allmend.pages import asset

_STATUS = {NotFound: 404, Unavailable: 503, UsageError: 422, InputError: 400}


def make_app(apps: Sequence[NotebookApp], store: Store, *, at_once: int, guard: Guard, may_ask: bool) -> FastAPI:
    """The application over `apps`; one notebook lies at `/`, several each under their name.

    Args:
        store: where runs are kept.
        at_once: runs under way together.
        guard: who may speak to it.
        may_ask: whether a visitor may be asked to permit more: true only where visitor and owner are one person.
    """
    made = FastAPI(title="allmend app", description="Notebooks as an API.", docs_url=None, redoc_url=None)
    by_slug = {app.slug: app for app in apps}
    queue: Queue

    def carry_out(run: AppRun) -> None:
        store.carry_out(run, by_slug, may_ask=may_ask, release=lambda: queue.release(run))

    queue = Queue(carry_out, at_once=at_once)
    made.state.queue = queue
    _errors(made)
    made.add_middleware(Guarded, guard=guard, proxy=Proxy(store.registry) if store.registry else None)

    @made.get("/assets/{name}", include_in_schema=False)
    def assets(name: str) -> Response:
        found = asset(name)
        if found is None:
            raise NotFound("there is no such file")
        return Response(found[0], media_type=found[1], headers={"Cache-Control": "max-age=300"})

    @made.get("/health", include_in_schema=False)
    def health() -> dict[str, str]:
        return {"status": "ok"}

    if len(apps) == 1:
        made.include_router(_routes(apps[0], "", store, queue, may_ask))
    else:
        made.add_api_route("/", lambda: HTMLResponse(index_page(apps)), include_in_schema=False)
        for app in apps:
            made.include_router(
                _routes(app, f"/{app.slug}", store, queue, may_ask), prefix=f"/{app.slug}", tags=[app.title]
            )
    return made


def _errors(made: FastAPI) -> None:
    async def told(request: Request, error: Exception) -> Response:
        assert isinstance(error, AllmendError)
        status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 400)
        body: dict[str, Any] = {"message": error.message, "hint": error.hint}
        if isinstance(error, WrongParameters):
            body["fields"] = error.fields
        return JSONResponse({"error": body}, status)

    made.add_exception_handler(AllmendError, told)


def _routes(app: NotebookApp, base: str, store: Store, queue: Queue, may_ask: bool) -> APIRouter:
    """The routes of one notebook."""
    routes = APIRouter()
    served = Served(app, base, store, queue, may_ask, notebook_page(app, base, may_ask=may_ask))
    notebook_routes.add(routes, served)
    run_routes.add(routes, served)
    run_routes.add_asking(routes, served)
    output_routes.add(routes, served)
    return routes
