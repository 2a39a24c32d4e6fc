"""`/v1/embeddings`: texts or tokens to vectors, as numbers or in base64."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from allmend.engines.embed import EmbedEngine, Rows
from allmend.errors import InputError
from allmend.serving import services
from allmend.serving.charge import charged, refuse_early
from allmend.serving.faults import Fault
from allmend.serving.inside import MARK
from allmend.serving.registry import Registry
from allmend.serving.requests import TokenId

if TYPE_CHECKING:
    import numpy as np

AT_ONCE = 32
"""Requests whose rows are computed in turn: the engine gives each of them an equal share."""
_MOST = 2048
"""Texts of a request, as OpenAI has it."""


class EmbeddingRequest(BaseModel):
    """The body of `/v1/embeddings`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    model: Annotated[str, Field(min_length=1, max_length=1024)]
    input: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=_MOST)]
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=_MOST)]
    )
    """Text, texts, ids of the model's own tokens, or lists of them."""
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Cut vectors to so many numbers and make them of length 1 again."""
    input_type: Literal["query", "document"] | None = None
    """For models that were trained with a prompt for each; without it, the one that stands before all texts, if any."""
    truncate: bool | None = None
    """Cut texts that are too long, which is what happens unless this is false; the answer says which were cut."""
    user: str | None = None
    """Accepted; not used."""


class Embedding(BaseModel):
    """A vector."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens counted."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingSource(BaseModel):
    """What really answered."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    model_digest: str
    truncated: list[int]
    """Places of the inputs whose end did not fit and was not read."""


class EmbeddingList(BaseModel):
    """The answer."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage
    allmend: EmbeddingSource


async def answer(request: Request, body: EmbeddingRequest, registry: Registry) -> Response:
    """Embed; an `EmbeddingList`."""
    service = services.find(registry, body.model, "embed")
    engine: EmbedEngine = service.engine
    refuse_early(request, service.name, AT_ONCE)
    rows = await run_in_threadpool(_rows, engine, body)
    if rows.cut and body.truncate is False:
        words = f"input[{rows.cut[0]}] has more than the {engine.limit} tokens that this model reads."
        raise Fault(400, words, param="input", code="context_length_exceeded")
    if body.dimensions is not None and body.dimensions > engine.width:
        words = f"This model's vectors have {engine.width} numbers; {body.dimensions} were asked for."
        raise Fault(400, words, param="dimensions", code="invalid_value")
    async with charged(request, "serve:embeddings", service.name, most=rows.count, at_once=AT_ONCE) as charge:
        charge.prompt = rows.count
        vectors = await vectors_of(engine, rows, low=bool(request.scope.get(MARK)))
    if registry.meter is not None:
        registry.meter.prompt.inc(rows.count)
    about: dict[str, Any] = {"model_digest": service.digest, "truncated": list(rows.cut)}
    return Response(await run_in_threadpool(_written, body, vectors, rows, about), media_type="application/json")


async def vectors_of(engine: EmbedEngine, rows: Rows, *, low: bool = False) -> np.ndarray:
    """Embed rows without holding up the event loop; a client that goes away takes its rows with it."""
    future = engine.submit(rows.tokens, low=low)
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        future.cancel()
        raise


def _rows(engine: EmbedEngine, body: EmbeddingRequest) -> Rows:
    given = body.input
    if isinstance(given, str):
        given = [given]
    try:
        if isinstance(given[0], str):
            return engine.rows([str(text) for text in given], body.input_type or "plain")
        lists = [given] if isinstance(given[0], int) else given
        return engine.framed(lists)
    except InputError as error:
        words = f"{error.message}. {error.hint}" if error.hint else error.message
        raise Fault(400, words, param="input", code="invalid_value") from None


def _written(body: EmbeddingRequest, vectors: np.ndarray, rows: Rows, about: dict[str, Any]) -> bytes:
    import numpy as np

    if body.dimensions is not None and body.dimensions < vectors.shape[1]:
        vectors = vectors[:, : body.dimensions]
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors = vectors / np.where(length > 0, length, 1)
    little = np.ascontiguousarray(vectors, dtype="<f4")
    as_text = body.encoding_format == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.tobytes()).decode() if as_text else vector.tolist(),
        }
        for index, vector in enumerate(little)
    ]
    usage = {"prompt_tokens": rows.count, "total_tokens": rows.count}
    answer = {"object": "list", "data": data, "model": body.model, "usage": usage, "allmend": about}
    return json.dumps(answer, separators=(",", ":")).encode()
