"""Routes of a notebook: its page, its plan, what its runs are permitted, files for it, and new runs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from allmend.apps.bodies import read_json, values_of
from allmend.apps.parameters import WrongParameters, check, schema
from allmend.apps.served import Served
from allmend.errors import Unavailable


def add(routes: APIRouter, served: Served) -> None:
    """Add them."""
    body = {
        "type": "object",
        "properties": {
            "parameters": schema(served.app.parameters),
            "text": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "Parameters as a person types them.",
            },
            "uploads": {"type": "array", "items": {"type": "string"}},
        },
        "additionalProperties": False,
    }

    routes.add_api_route("/", served.page, include_in_schema=False)

    @routes.get("/api/plan")
    def plan() -> Response:
        """The plan of the notebook (`allmend.plan/1`)."""
        return Response(served.app.plan.to_json(), media_type="application/json")

    @routes.get("/api/permissions")
    def permissions() -> dict[str, Any]:
        """What its runs are permitted."""
        return served.app.permissions.to_dict()

    @routes.post("/uploads", status_code=201)
    async def upload(request: Request, name: str) -> dict[str, str]:
        """A file for `files.upload()`; its id goes into a run's `uploads`."""
        return {"id": await served.store.upload(name, request.stream())}

    @routes.post(
        "/runs",
        status_code=202,
        openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}},
    )
    async def start(request: Request) -> JSONResponse:
        """Run the notebook with these parameters; the same Idempotency-Key gives the same run."""
        given = await read_json(request)
        unknown = sorted(set(given) - {"parameters", "text", "uploads"})
        if unknown:
            raise WrongParameters({unknown[0]: "there is no such field; parameters go under `parameters`"})
        values = check(served.app.parameters, values_of(served.app, given))
        uploads = given.get("uploads") or []
        if not isinstance(uploads, list) or not all(isinstance(each, str) for each in uploads):
            raise WrongParameters({"uploads": "must be a list of upload ids"})
        key = request.headers.get("idempotency-key")
        run, fresh = served.store.start(
            served.app.slug, visitor=request.state.visitor, values=values, uploads=uploads, key=key
        )
        if fresh:
            try:
                served.queue.submit(run)
            except Unavailable as error:
                run.end("failed", error.message)
                raise
        return JSONResponse(served.shown(run), 202, headers={"Location": f"{served.base}/runs/{run.id}"})

    @routes.get("/runs")
    def history(request: Request) -> dict[str, Any]:
        """The visitor's own runs, newest first."""
        return {"runs": served.store.of(served.app.slug, request.state.visitor)}
