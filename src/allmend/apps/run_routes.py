"""Routes of a run: how it stands, what happens in it, its web servers, and what a person answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse

from allmend.apps.bodies import read_json
from allmend.apps.runs import MOST_LINE, AppRun
from allmend.apps.served import Served
from allmend.errors import InputError, NotFound, Unavailable, UsageError

_SECONDS_BETWEEN_SIGNS = 15.0
_MOST_CALLING = 600.0
"""Seconds that a page waits for what a click calls."""


def add(routes: APIRouter, served: Served) -> None:
    """Add them."""

    @routes.get("/runs/{run_id}")
    def state(run_id: str, request: Request) -> Response:
        """One run; a browser gets the page with it."""
        run = served.find(run_id)
        if "text/html" in request.headers.get("accept", ""):
            return served.page()
        return JSONResponse(served.shown(run))

    @routes.get("/runs/{run_id}/events")
    async def events(run_id: str, request: Request) -> StreamingResponse:
        """What happens, as server-sent events from the first on (or after Last-Event-ID)."""
        last = request.headers.get("last-event-id", "")
        after = int(last) + 1 if last.isascii() and last.isdigit() and len(last) < 10 else 0
        return StreamingResponse(_stream(served.find(run_id), after), media_type="text/event-stream",
                                 headers={"Cache-Control": "no-store"})  # fmt: skip

    @routes.post("/runs/{run_id}/cancel")
    def cancel(run_id: str) -> dict[str, Any]:
        """Stop the run, waiting or running."""
        run = served.find(run_id)
        run.stop()
        return served.shown(run)

    @routes.get("/runs/{run_id}/servers/{port}", include_in_schema=False)
    def server(run_id: str, port: int) -> Response:
        headers = {"Location": served.link(run_id, port), "Cache-Control": "no-store"}
        return Response(status_code=303, headers=headers)

    @routes.post("/runs/{run_id}/servers/{port}/link")
    def link(run_id: str, port: int) -> dict[str, str]:
        """A link to the notebook's own web server, on an origin of its own; it lets one browser in, once."""
        return {"url": served.link(run_id, port)}


def add_asking(routes: APIRouter, served: Served) -> None:
    """Add those by which a person takes part: answers to questions, and clicks."""

    @routes.post("/runs/{run_id}/answers/{number}")
    async def answer(run_id: str, number: int, request: Request) -> dict[str, bool]:
        """Permit or refuse what a cell waits for, or give the line that it reads with `input()`."""
        given = await read_json(request)
        line = given.get("line")
        if isinstance(line, str) and len(line) <= MOST_LINE and set(given) == {"line"}:
            if not served.find(run_id).answer_line(number, line):
                raise NotFound("no cell waits for that line")
            return {"allowed": True}
        if not served.may_ask or not isinstance(given.get("allowed"), bool):
            raise UsageError(
                'an answer is {"allowed": true} or false, from this machine\'s owner, or {"line": "…"} for `input()`'
            )
        if not served.find(run_id).answer(number, allowed=given["allowed"]):
            raise NotFound("no such question is open")
        return {"allowed": given["allowed"]}

    @routes.post("/runs/{run_id}/calls", include_in_schema=False)
    async def call(run_id: str, request: Request) -> dict[str, Any]:
        """What a click in an output calls in the notebook (`google.colab.kernel.invokeFunction`)."""
        given = await read_json(request)
        cell, name, args, kwargs = given.get("cell"), given.get("name"), given.get("args"), given.get("kwargs")
        if not (
            isinstance(cell, int) and isinstance(name, str) and isinstance(args, list) and isinstance(kwargs, dict)
        ):
            raise InputError("a call has a cell (a number), a name (text), args (a list) and kwargs (an object)")
        run = served.find(run_id)
        done = await run_in_threadpool(run.call, cell, name, args, kwargs, seconds=_MOST_CALLING)
        if done is None:
            raise Unavailable("the run takes no calls: its cells still run, it is over, or too many calls wait",
                              hint="Run it again.")  # fmt: skip
        return {"data": done.data, "error": done.error}


async def _stream(run: AppRun, after: int) -> AsyncIterator[bytes]:
    """Events from number `after` on, until the run has ended; a comment now and then keeps the connection."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # The server has ended, and nobody watches: that is no trouble of the run's.
            loop.call_soon_threadsafe(changed.set)

    leave = run.watch(wake)
    try:
        while True:
            changed.clear()
            while after < len(run.events):  # Others may come while one is sent.
                event = run.events[after]
                data = json.dumps({key: value for key, value in event.items() if key != "event"})
                yield f"id: {after}\nevent: {event['event']}\ndata: {data}\n\n".encode()
                after += 1
            if run.over and after >= len(run.events):
                return
            try:
                async with asyncio.timeout(_SECONDS_BETWEEN_SIGNS):
                    await changed.wait()
            except TimeoutError:
                yield b": still here\n\n"
    finally:
        leave()
