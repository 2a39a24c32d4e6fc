"""The web application: routes of the OpenAI API over a registry, every failure in the shape its clients read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from allmend import __version__
from allmend.engines.text import Restarting, TextEngine
from allmend.errors import AllmendError, NotFound, nearest
from allmend.serving import adapter_refs, chat, completions, edges, faults, more, respond
from allmend.serving import visit as visits
from allmend.serving.access import Access
from allmend.serving.desk import Desk
from allmend.serving.encodable import CarefulRoute
from allmend.serving.faults import Fault, FaultBody
from allmend.serving.meter import Meter, Observed
from allmend.serving.registry import Registry
from allmend.serving.requests import ChatRequest, CompletionRequest, LoadAdapter, ReplaceModel, UnloadAdapter
from allmend.serving.response_api import Response as ApiResponse
from allmend.serving.response_api import ResponseRequest
from allmend.serving.responses import (
    ChatCompletion,
    EngineHealth,
    Health,
    ModelCard,
    ModelList,
    Replaced,
    TextCompletion,
)
from allmend.serving.running import ClientGone
from allmend.serving.targets import Base, Served, ServedAdapter

_MAX_BODY = 16 * 2**20
"""Bytes of a request; longer prompts than any context here have room for."""

_FORM: Any = {"max_files": 2, "max_fields": 32, "max_part_size": 2**16}
"""Of a form: a file is held on disk once it has a mebibyte, so that many small ones, or long fields, fill memory."""

_ELSEWHERE = (
    "/v1/chat/completions/",
    "/v1/responses/",
    "/v1/images",
    "/v1/audio",
    "/v1/fine_tuning",
    "/v1/assistants",
    "/v1/threads",
    "/v1/conversations",
    "/v1/realtime",
    "/v1/containers",
    "/v1/evals",
    "/v1/videos",
)
"""Parts of the OpenAI API that are not offered."""

_CLIENT_CLOSED = 499
"""nginx's status for a client that hung up; nobody receives it."""

_WRONG: dict[int | str, dict[str, Any]] = {
    400: {"model": FaultBody, "description": "The request cannot be served as it is"},
    401: {"model": FaultBody, "description": "The key is missing or wrong"},
    403: {"model": FaultBody, "description": "The key does not cover it; or called by another machine's name"},
    404: {"model": FaultBody, "description": "There is no such model or adapter"},
    408: {"model": FaultBody, "description": "The deadline that the request named has passed"},
    413: {"model": FaultBody, "description": "The body is too large"},
    429: {"model": FaultBody, "description": "A limit of the key is reached, or the queue is too long"},
    500: {"model": FaultBody, "description": "The model failed"},
    503: {"model": FaultBody, "description": "The server is shutting down, or its engine starts again"},
}
_STREAMED = {
    **_WRONG,
    200: {"description": "The answer; with `stream` as events", "content": {"text/event-stream": {}}},
}


def create_app(
    registry: Registry,
    *,
    desk: Desk | None = None,
    loopback: bool = True,
    loading: bool = True,
    log: bool = False,
    load: Callable[[str], tuple[Served, TextEngine]] | None = None,
    kept: more.Kept | None = None,
    origins: tuple[str, ...] = (),
) -> FastAPI:
    """The application over `registry`.

    Args:
        desk: who may call, and how much; open to all when not given.
        loopback: answer only to this machine's own names while no key is asked for.
        loading: let clients load and unload adapters.
        log: write a line of JSON to stderr for every request.
        load: puts a model into memory, for `/v1/replace_model`.
        kept: where files and batches lie, and what else the routes beside text need.
        origins: pages whose scripts may call, as `edges.origins` has them.
    """
    app = FastAPI(
        title="allmend",
        version=__version__,
        summary="Language models and personal adapters behind the OpenAI API.",
        form_limits=_FORM,
        # The documentation pages load scripts from elsewhere; the description itself is at /openapi.json.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Nothing is told to anybody; asking for every request whether it should be takes a fifteenth of its time.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.router.route_class = CarefulRoute
    meter = registry.meter = Meter()
    desk = meter.desk = desk or Desk()
    app.add_middleware(Access, desk=desk, loopback=loopback, largest=_MAX_BODY, origins=origins)
    if origins:
        # Before the key is asked for: browsers ask first whether they may, and send none.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("*",),
            expose_headers=edges.TOLD,
            allow_private_network=True,
        )
    app.add_middleware(Observed, meter=meter, log=log)
    app.add_middleware(edges.Edges)
    _add_handlers(app)
    _add_routes(app, registry)
    _add_server_routes(app, registry, meter, desk)
    more.add_routes(app, registry, kept)
    if loading:
        _add_loading(app, registry)
    if loading and load is not None:
        _add_replacing(app, registry, load)
    _describe_truthfully(app)
    return app


def _add_routes(app: FastAPI, registry: Registry) -> None:
    @app.get("/v1/models", tags=["models"], responses={key: _WRONG[key] for key in (401, 403)})
    async def list_models(request: Request) -> ModelList:
        """Models and adapters that the key covers."""
        may = visits.of(request).sees
        cards = [_base_card(base) for base in registry.bases() if may(base.name)]
        cards += [_adapter_card(each, registry) for each in registry.adapters() if may(each.name, each.base)]
        return ModelList(data=cards + [card for card in more.cards(registry) if may(card.id)])

    @app.get("/v1/models/{model:path}", tags=["models"], responses={key: _WRONG[key] for key in (401, 403, 404)})
    async def retrieve_model(request: Request, model: str) -> ModelCard:
        """One of them, by any of its spellings."""
        visit = visits.of(request)
        if registry.services.get(model) is not None and visit.sees(model):
            return next(card for card in more.cards(registry) if card.id == model)
        with visit.discreet():
            target = registry.find(model)
        adapter = next(iter(target.adapters), None)
        if not (visit.sees(adapter.name, adapter.base) if adapter else visit.sees(target.base.name)):
            raise NotFound(f"The model {model!r} does not exist here")
        return _adapter_card(target.adapters[0], registry) if target.adapters else _base_card(target.base)

    @app.post("/v1/chat/completions", tags=["text"], response_model=ChatCompletion, responses=_STREAMED)
    async def chat_completions(request: Request, body: ChatRequest) -> ChatCompletion | StreamingResponse:
        """Answer a conversation."""
        return await chat.answer(request, body, registry)

    @app.post("/v1/completions", tags=["text"], response_model=TextCompletion, responses=_STREAMED)
    async def text_completions(request: Request, body: CompletionRequest) -> TextCompletion | StreamingResponse:
        """Continue a text."""
        return await completions.answer(request, body, registry)

    @app.post("/v1/responses", tags=["text"], response_model=ApiResponse, responses=_STREAMED)
    async def responses(request: Request, body: ResponseRequest) -> ApiResponse | StreamingResponse:
        """Answer a conversation, in the newer API's form. Nothing is stored."""
        return await respond.answer(request, body, registry)


def _add_server_routes(app: FastAPI, registry: Registry, meter: Meter, desk: Desk) -> None:
    @app.get("/health", tags=["server"], response_model_exclude_none=True)
    async def health() -> Health:
        """Whether the server is up, and what it serves."""
        engines = [found for base in registry.bases() if (found := _engine_health(base)) is not None]
        return Health(
            status="ok" if all(each.state == "up" for each in engines) else "degraded",
            models=[each.name for each in registry.bases()] + [each.name for each in registry.services.all()],
            engines=engines or None,
        )

    @app.get("/ready", tags=["server"], response_model_exclude_none=True, responses={503: _WRONG[503]})
    async def ready() -> Health:
        """Whether requests are taken: models are in memory, and the server is not stopping."""
        if registry.closing or desk.draining:
            raise Fault(503, "The server is shutting down.", type="server_error", code="shutting_down")
        found = await health()
        failing = [each for each in found.engines or () if each.state == "failing"]
        if failing and len(failing) == len(found.models):
            raise faults.of_error(Restarting("no engine comes up", failing[0].retry_after or 1.0))
        return found

    @app.get("/metrics", tags=["server"], response_class=PlainTextResponse, responses={401: _WRONG[401]})
    async def metrics() -> Response:
        """Counts in Prometheus' text form."""
        return Response(meter.text(registry), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_loading(app: FastAPI, registry: Registry) -> None:
    wrong: dict[int | str, dict[str, Any]] = {key: _WRONG[key] for key in (400, 401, 403, 404)}

    @app.post("/v1/load_lora_adapter", tags=["adapters"], response_class=PlainTextResponse, responses=wrong)
    def load_lora_adapter(request: Request, body: LoadAdapter) -> str:
        """Put an adapter into service."""
        weights = adapter_refs.read(body.lora_path)
        registry.add_adapter(body.lora_name, weights, base=body.base_model_name, replace=body.load_inplace)
        visits.note(request, "adapter.load", body.lora_name, path=body.lora_path, digest=weights.digest)
        return f"Success: LoRA adapter '{body.lora_name}' added successfully."

    @app.post("/v1/unload_lora_adapter", tags=["adapters"], response_class=PlainTextResponse, responses=wrong)
    def unload_lora_adapter(request: Request, body: UnloadAdapter) -> str:
        """Take an adapter out of service; answers under way go on to their end."""
        registry.remove_adapter(body.lora_name)
        visits.note(request, "adapter.unload", body.lora_name)
        return f"Success: LoRA adapter '{body.lora_name}' removed successfully."


def _add_replacing(app: FastAPI, registry: Registry, load: Callable[[str], tuple[Served, TextEngine]]) -> None:
    wrong: dict[int | str, dict[str, Any]] = {key: _WRONG[key] for key in (400, 401, 403, 404)}

    @app.post("/v1/replace_model", tags=["server"], responses=wrong)
    def replace_model(request: Request, body: ReplaceModel) -> Replaced:
        """Answer under a name with another model from now on; what has begun ends with the old one."""
        base = next((each for each in registry.bases() if each.name == body.model), None)
        if base is None:
            names = [each.name for each in registry.bases()]
            raise NotFound(f"there is no model {body.model!r} here", hint=nearest(body.model, names) or None)
        loaded, engine = load(body.path)
        gone = registry.replace_base(body.model, loaded, engine)
        visits.note(request, "model.replace", body.model, path=body.path, digest=loaded.about.digest)
        return Replaced(model=body.model, digest=loaded.about.digest, adapters_gone=gone)


def _add_handlers(app: FastAPI) -> None:
    fields = {
        "/v1/chat/completions": ChatRequest.model_fields,
        "/v1/completions": CompletionRequest.model_fields,
        "/v1/responses": ResponseRequest.model_fields,
        **more.FIELDS,
    }

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _respond(faults.of_validation(list(error.errors()), dict(fields.get(request.url.path, {}))))

    @app.exception_handler(Fault)
    async def fault(request: Request, error: Fault) -> JSONResponse:
        return _respond(error)

    @app.exception_handler(AllmendError)
    async def known(request: Request, error: AllmendError) -> JSONResponse:
        return _respond(faults.of_error(error))

    @app.exception_handler(ClientGone)
    async def gone(request: Request, error: ClientGone) -> Response:
        return Response(status_code=_CLIENT_CLOSED)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return _respond(_http_fault(request, error))

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> JSONResponse:
        return _respond(faults.bug(error))


def _http_fault(request: Request, error: HTTPException) -> Fault:
    path, method = request.url.path, request.method
    if error.status_code == 404:
        if path.startswith(_ELSEWHERE):
            words = f"{path} is part of the OpenAI API, but this server does not offer it."
            return Fault(404, words, code="unsupported_route")
        return Fault(404, f"Unknown request URL: {method} {path}.", code="unknown_url")
    if error.status_code == 405:
        words = f"{method} is not allowed on {path}."
        if method == "OPTIONS" and (origin := request.headers.get("origin")):
            words += f" A page may call once the server is started with `--origin {origin[:200]}`."
        return Fault(405, words, code="method_not_allowed", headers=dict(error.headers or {}))
    code = "body_too_large" if error.status_code == 413 else None
    return Fault(error.status_code, str(error.detail), code=code, headers=dict(error.headers or {}))


def _respond(fault: Fault) -> JSONResponse:
    return JSONResponse(fault.body(), status_code=fault.status, headers=fault.headers)


def _base_card(base: Base) -> ModelCard:
    return ModelCard(
        id=base.name,
        created=base.created,
        owned_by="allmend",
        root=base.source,
        max_model_len=base.engine.context,
        digest=base.digest,
        template=base.template.name,
    )


def _engine_health(base: Base) -> EngineHealth | None:
    engine: Any = base.engine
    if (restarts := getattr(engine, "restarts", None)) is None:
        # In this process it is not started again.
        ended = getattr(engine, "has_ended", False)
        return EngineHealth(model=base.name, state="failing", restarts=0) if ended else None
    away = engine.away
    state: Any = "up" if engine.is_up else "failing" if away else "starting"
    return EngineHealth(model=base.name, state=state, restarts=restarts, retry_after=round(away, 1) or None)


def _adapter_card(adapter: ServedAdapter, registry: Registry) -> ModelCard:
    target = registry.find(adapter.name)
    return ModelCard(
        id=adapter.name,
        created=adapter.created,
        owned_by="allmend",
        root=adapter.source,
        parent=adapter.base,
        max_model_len=target.base.engine.context,
        digest=adapter.digest,
        template=target.template.name,
    )


def _describe_truthfully(app: FastAPI) -> None:
    """FastAPI describes a 422 answer of its own, which this application never gives."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        description = original()
        for methods in description["paths"].values():
            for operation in methods.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            description.get("components", {}).get("schemas", {}).pop(name, None)
        return description

    app.openapi = openapi  # type: ignore[method-assign]
