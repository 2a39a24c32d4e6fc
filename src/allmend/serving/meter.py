"""What is counted while serving, for Prometheus, and a line of JSON for every request."""

from __future__ import annotations

import json
import re
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from allmend.engines.text import Usage

if TYPE_CHECKING:
    from allmend.serving.desk import Desk
    from allmend.serving.registry import Registry

Scope = MutableMapping[str, Any]
_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_KNOWN = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/models",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/moderations",
    "/v1/audio",
    "/v1/files",
    "/v1/uploads",
    "/v1/batches",
    "/v1/vector_stores",
    "/health",
    "/ready",
    "/metrics",
)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Meter:
    """Counts of one server."""

    def __init__(self) -> None:
        self._collected = CollectorRegistry()
        self.desk: Desk | None = None
        new: dict[str, Any] = {"registry": self._collected}
        self.requests = Counter("allmend_requests", "Requests answered", ["route", "status"], **new)
        self.seconds = Histogram("allmend_request_seconds", "Time of a request", ["route"], buckets=_SECONDS, **new)
        self.first = Histogram("allmend_first_token_seconds", "Time to the first text", buckets=_SECONDS, **new)
        self.prompt = Counter("allmend_prompt_tokens", "Tokens of prompts", **new)
        self.cached = Counter("allmend_cached_tokens", "Tokens of prompts that came from memory", **new)
        self.completion = Counter("allmend_completion_tokens", "Tokens generated", **new)
        self._running = Gauge("allmend_running", "Answers being generated", ["model"], **new)
        self._waiting = Gauge("allmend_waiting", "Answers that wait their turn", ["model"], **new)
        self._refused = Gauge("allmend_refused", "Requests refused because the queue was too long", ["model"], **new)
        self._restarts = Gauge("allmend_engine_restarts", "Engine processes started again so far", ["model"], **new)
        self._up = Gauge("allmend_engine_up", "Whether the engine's process is there", ["model"], **new)
        self._loaded = Gauge("allmend_adapters_loaded", "Adapters in memory", ["model"], **new)
        self._reads = Gauge("allmend_adapters_read_back", "Adapters read back from disk so far", ["model"], **new)

    def used(self, usage: Usage) -> None:
        """Count an answer's tokens."""
        self.prompt.inc(usage.prompt)
        self.cached.inc(usage.cached)
        self.completion.inc(usage.completion)

    def text(self, registry: Registry) -> bytes:
        """Everything in Prometheus' own form."""
        for base in registry.bases():
            running, waiting = base.engine.load()
            if self.desk is not None:
                gate = self.desk.gate(base)
                waiting += gate.waiting
                self._refused.labels(base.name).set(gate.refused)
            self._running.labels(base.name).set(running)
            self._waiting.labels(base.name).set(waiting)
            if (restarts := getattr(base.engine, "restarts", None)) is not None:
                self._restarts.labels(base.name).set(restarts)
                self._up.labels(base.name).set(getattr(base.engine, "is_up", True))
            shelf = registry.shelf(base.name)
            self._loaded.labels(base.name).set(shelf.loaded)
            self._reads.labels(base.name).set(shelf.reads)
        queues = self.desk.gates if self.desk is not None else {}
        for service in registry.services.all():
            if (queue := queues.get(f"{service.name}/")) is not None:
                self._waiting.labels(service.name).set(queue.waiting)
                self._refused.labels(service.name).set(queue.refused)
        return generate_latest(self._collected)


class Observed:
    """ASGI middleware: an id for every request, counts, and a line of JSON where that is asked for."""

    def __init__(self, app: Any, *, meter: Meter, log: bool) -> None:
        self._app = app
        self._meter = meter
        self._log = log

    async def __call__(
        self,
        scope: Scope,
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name.lower() == b"x-request-id"), b"")
        identity = given if _ID.fullmatch(given) else f"req_{uuid.uuid4().hex}".encode()
        began, status = time.perf_counter(), 0

        async def marked(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", identity)]
            await send(message)

        try:
            await self._app(scope, receive, marked)
        finally:
            self._note(scope, identity.decode(), status, time.perf_counter() - began)

    def _note(self, scope: Scope, identity: str, status: int, seconds: float) -> None:
        # Paths are the client's to choose: only known ones become labels.
        path = next((known for known in _KNOWN if scope["path"].startswith(known)), "other")
        self._meter.requests.labels(path, str(status)).inc()
        self._meter.seconds.labels(path).observe(seconds)
        if self._log:
            line = {
                "time": round(time.time(), 3),
                "id": identity,
                "method": scope["method"],
                "path": scope["path"][:200],
                "status": status,
                "seconds": round(seconds, 4),
            }
            # Where there is no room for it, or nobody reads it any more, the connection is not to break for that.
            with suppress(OSError, ValueError):
                print(json.dumps(line), file=sys.stderr, flush=True)  # noqa: T201
