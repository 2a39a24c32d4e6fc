"""The HTTP surface of served notebooks: a page, and an API with a typed body for each."""

from __future__ import annotations

import asyncio
import json
import mimetypes
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, StreamingResponse
from starlette.background import BackgroundTask

from allmend.apps.form import index_page, notebook_page
from allmend.apps.guard import Guard
from allmend.apps.guarded import Guarded
from allmend.apps.notebook import NotebookApp
from allmend.apps.parameters import WrongParameters, check, from_text, schema
from allmend.apps.proxy import Proxy
from allmend.apps.queue import Queue
from allmend.apps.runs import MOST_LINE, AppRun
from allmend.apps.store import Store
from allmend.errors import AllmendError, InputError, NotFound, Unavailable, UsageError
from allmend.pages import asset, fragment, frame, frame_policy

_MOST_BODY = 4 * 2**20
_SECONDS_BETWEEN_SIGNS = 15.0
_MOST_CALLING = 600.0
"""Seconds that a page waits for what a click calls."""
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
    body = {
        "type": "object",
        "properties": {
            "parameters": schema(app.parameters),
            "text": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "Parameters as a person types them.",
            },
            "uploads": {"type": "array", "items": {"type": "string"}},
        },
        "additionalProperties": False,
    }

    def shown(run: AppRun) -> dict[str, Any]:
        place = queue.place(run)
        folder = run.folder / "outputs"
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())[:1000]
        more: dict[str, Any] = {"place": place, "estimate_seconds": queue.estimate(run)} if place is not None else {}
        if store.registry is not None:
            more["servers"] = [each.port for each in store.registry.of(run.id)]
        return run.shown() | more | {"outputs": names, "receipt": (run.folder / "receipt.json").is_file()}

    # The page of a notebook is the same for everybody: made once.
    whole = notebook_page(app, base, may_ask=may_ask)

    def page() -> HTMLResponse:
        return HTMLResponse(whole, background=BackgroundTask(app.looked_at))

    routes.add_api_route("/", page, include_in_schema=False)

    @routes.get("/api/plan")
    def plan() -> Response:
        """The plan of the notebook (`allmend.plan/1`)."""
        return Response(app.plan.to_json(), media_type="application/json")

    @routes.get("/api/permissions")
    def permissions() -> dict[str, Any]:
        """What its runs are permitted."""
        return app.permissions.to_dict()

    @routes.post("/uploads", status_code=201)
    async def upload(request: Request, name: str) -> dict[str, str]:
        """A file for `files.upload()`; its id goes into a run's `uploads`."""
        return {"id": await store.upload(name, request.stream())}

    @routes.post(
        "/runs",
        status_code=202,
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}},
    )
    async def start(request: Request) -> JSONResponse:
        """Run the notebook with these parameters; the same Idempotency-Key gives the same run."""
        given = await _json(request)
        unknown = sorted(set(given) - {"parameters", "text", "uploads"})
        if unknown:
            raise WrongParameters({unknown[0]: "there is no such field; parameters go under `parameters`"})
        values = check(app.parameters, _values(app, given))
        uploads = given.get("uploads") or []
        if not isinstance(uploads, list) or not all(isinstance(each, str) for each in uploads):
            raise WrongParameters({"uploads": "must be a list of upload ids"})
        key = request.headers.get("idempotency-key")
        run, fresh = store.start(app.slug, visitor=request.state.visitor, values=values, uploads=uploads, key=key)
        if fresh:
            try:
                queue.submit(run)
            except Unavailable as error:
                run.end("failed", error.message)
                raise
        return JSONResponse(shown(run), 202, headers={"Location": f"{base}/runs/{run.id}"})

    @routes.get("/runs")
    def history(request: Request) -> dict[str, Any]:
        """The visitor's own runs, newest first."""
        return {"runs": store.of(app.slug, request.state.visitor)}

    @routes.get("/runs/{run_id}")
    def state(run_id: str, request: Request) -> Response:
        """One run; a browser gets the page with it."""
        run = store.find(app.slug, run_id)
        if "text/html" in request.headers.get("accept", ""):
            return page()
        return JSONResponse(shown(run))

    @routes.get("/runs/{run_id}/events")
    async def events(run_id: str, request: Request) -> StreamingResponse:
        """What happens, as server-sent events from the first on (or after Last-Event-ID)."""
        last = request.headers.get("last-event-id", "")
        after = int(last) + 1 if last.isascii() and last.isdigit() and len(last) < 10 else 0
        return StreamingResponse(_stream(store.find(app.slug, run_id), after), media_type="text/event-stream",
                                 headers={"Cache-Control": "no-store"})  # fmt: skip

    @routes.post("/runs/{run_id}/cancel")
    def cancel(run_id: str) -> dict[str, Any]:
        """Stop the run, waiting or running."""
        run = store.find(app.slug, run_id)
        run.stop()
        return shown(run)

    def server_link(run_id: str, port: int) -> str:
        shown = store.registry.of(store.find(app.slug, run_id).id) if store.registry is not None else []
        found = next((each for each in shown if each.port == port), None)
        if found is None or store.registry is None:
            raise NotFound("the run shows no web server at that port")
        return store.registry.link(found)

    @routes.get("/runs/{run_id}/servers/{port}", include_in_schema=False)
    def server(run_id: str, port: int) -> Response:
        headers = {"Location": server_link(run_id, port), "Cache-Control": "no-store"}
        return Response(status_code=303, headers=headers)

    @routes.post("/runs/{run_id}/servers/{port}/link")
    def link(run_id: str, port: int) -> dict[str, str]:
        """A link to the notebook's own web server, on an origin of its own; it lets one browser in, once."""
        return {"url": server_link(run_id, port)}

    @routes.post("/runs/{run_id}/answers/{number}")
    async def answer(run_id: str, number: int, request: Request) -> dict[str, bool]:
        """Permit or refuse what a cell waits for, or give the line that it reads with `input()`."""
        given = await _json(request)
        line = given.get("line")
        if isinstance(line, str) and len(line) <= MOST_LINE and set(given) == {"line"}:
            if not store.find(app.slug, run_id).answer_line(number, line):
                raise NotFound("no cell waits for that line")
            return {"allowed": True}
        if not may_ask or not isinstance(given.get("allowed"), bool):
            raise UsageError(
                'an answer is {"allowed": true} or false, from this machine\'s owner, or {"line": "…"} for `input()`'
            )
        if not store.find(app.slug, run_id).answer(number, allowed=given["allowed"]):
            raise NotFound("no such question is open")
        return {"allowed": given["allowed"]}

    @routes.post("/runs/{run_id}/calls", include_in_schema=False)
    async def call(run_id: str, request: Request) -> dict[str, Any]:
        """What a click in an output calls in the notebook (`google.colab.kernel.invokeFunction`)."""
        given = await _json(request)
        cell, name, args, kwargs = given.get("cell"), given.get("name"), given.get("args"), given.get("kwargs")
        if not (
            isinstance(cell, int) and isinstance(name, str) and isinstance(args, list) and isinstance(kwargs, dict)
        ):
            raise InputError("a call has a cell (a number), a name (text), args (a list) and kwargs (an object)")
        run = store.find(app.slug, run_id)
        done = await run_in_threadpool(run.call, cell, name, args, kwargs, seconds=_MOST_CALLING)
        if done is None:
            raise Unavailable("the run takes no calls: its cells still run, it is over, or too many calls wait",
                              hint="Run it again.")  # fmt: skip
        return {"data": done.data, "error": done.error}

    @routes.get("/runs/{run_id}/cells/{cell}", include_in_schema=False)
    def cell(run_id: str, cell: int, after: int = 0) -> HTMLResponse:
        """The outputs of a cell from number `after` on."""
        outputs = list(store.find(app.slug, run_id).cells.get(cell, []))
        made = fragment(outputs, f"{base}/runs/{run_id}/frames/{cell}/", after=max(0, after))
        return HTMLResponse(made, headers={"X-Outputs": str(len(outputs))})

    @routes.get("/runs/{run_id}/frames/{cell}/{number}", include_in_schema=False)
    def framed(run_id: str, cell: int, number: int) -> HTMLResponse:
        outputs = store.find(app.slug, run_id).cells.get(cell, [])
        text = frame(outputs[number]) if 0 <= number < len(outputs) else ""
        return HTMLResponse(text, headers={"Content-Security-Policy": frame_policy})

    @routes.get("/runs/{run_id}/outputs/{name:path}")
    def output(run_id: str, name: str) -> FileResponse:
        """A file that the run gave out, by name."""
        return _file(store.find(app.slug, run_id).folder / "outputs", name)

    @routes.get("/runs/{run_id}/receipt")
    def receipt(run_id: str, request: Request) -> FileResponse:
        """The receipt: JSON, or a page for a browser."""
        wants_page = "text/html" in request.headers.get("accept", "")
        return _file(store.find(app.slug, run_id).folder, "receipt.html" if wants_page else "receipt.json", inline=True)

    @routes.get("/runs/{run_id}/notebook")
    def notebook(run_id: str) -> FileResponse:
        """The executed notebook."""
        return _file(store.find(app.slug, run_id).folder, f"{app.path.stem}.ipynb")

    return routes


def _values(app: NotebookApp, given: dict[str, Any]) -> dict[str, Any]:
    values, text = given.get("parameters") or {}, given.get("text") or {}
    if not isinstance(values, dict) or not isinstance(text, dict):
        raise WrongParameters({"parameters": "must be an object"})
    known = {parameter.name: parameter for parameter in app.parameters}
    wrong: dict[str, str] = {}
    read = dict(values)
    for name, word in text.items():
        if name not in known or not isinstance(word, str):
            read[name] = word
            continue
        if word == ("" if known[name].default is None else str(known[name].default)):
            continue  # as the notebook has it
        try:
            read[name] = from_text(known[name], word)
        except ValueError as error:
            wrong[name] = str(error)
    if wrong:
        raise WrongParameters(wrong)
    return read


async def _json(request: Request) -> dict[str, Any]:
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise InputError("send JSON, with Content-Type: application/json")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _MOST_BODY:
            raise InputError(f"larger than {_MOST_BODY >> 20} MiB")
        parts.append(part)
    try:
        read = json.loads(b"".join(parts))
    except (ValueError, RecursionError):
        raise InputError("this is not JSON") from None
    if not isinstance(read, dict):
        raise InputError("send a JSON object")
    return read


async def _stream(run: AppRun, after: int) -> AsyncIterator[bytes]:
    """Events from number `after` on, until the run has ended; a comment now and then keeps the connection."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(changed.set)

    leave = run.watch(wake)
    try:
        while True:
            changed.clear()
            for number in range(after, len(run.events)):
                event = run.events[number]
                data = json.dumps({key: value for key, value in event.items() if key != "event"})
                yield f"id: {number}\nevent: {event['event']}\ndata: {data}\n\n".encode()
            after = max(after, len(run.events))
            if run.over and after >= len(run.events):
                return
            try:
                await asyncio.wait_for(changed.wait(), _SECONDS_BETWEEN_SIGNS)
            except TimeoutError:
                yield b": still here\n\n"
    finally:
        leave()


def _file(folder: Path, name: str, *, inline: bool = False) -> FileResponse:
    """A file inside `folder`, never one that a link or a name leads out to."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise NotFound("there is no such file")
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    safe = kind.startswith(("image/", "audio/", "video/", "text/plain")) and kind != "image/svg+xml"
    headers = {"X-Content-Type-Options": "nosniff"}
    if inline:
        return FileResponse(path, media_type=kind, headers=headers)
    disposition = "inline" if safe else "attachment"
    headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return FileResponse(
        path, media_type=kind, filename=path.name, content_disposition_type=disposition, headers=headers
    )
