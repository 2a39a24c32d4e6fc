"""`/v1/rerank`: documents by how much they say about a question, in the shape that Cohere and Jina taught clients."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from allmend.serving import embeddings, services
from allmend.serving.answering import new_id
from allmend.serving.charge import AT_ONCE, charged
from allmend.serving.embeddings import vectors_of
from allmend.serving.faults import Fault
from allmend.serving.registry import Registry
from allmend.serving.services import Service

_MOST = 1000
"""Documents of a request."""


class Document(BaseModel):
    """A document as an object; fields beside the text are given back."""

    model_config = ConfigDict(extra="allow")

    text: str | None = None


class RerankRequest(BaseModel):
    """The body of `/v1/rerank`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    model: Annotated[str, Field(min_length=1, max_length=1024)]
    query: Annotated[str, Field(min_length=1)]
    documents: Annotated[list[str | Document], Field(min_length=1, max_length=_MOST)]
    top_n: Annotated[int, Field(ge=1)] | None = None
    """Give back so many; all by default."""
    return_documents: bool | None = None
    """Give the documents back too."""
    rank_fields: Annotated[list[Annotated[str, Field(max_length=256)]], Field(min_length=1, max_length=64)] | None = (
        None
    )
    """Fields of the documents to read, in this order; `text` when not given."""
    max_tokens_per_doc: int | None = None
    """Accepted; a model reads as much as it can."""
    max_chunks_per_doc: int | None = None
    """Accepted; a document is read once, from its beginning."""
    truncation: Literal[True] | None = None
    """Accepted; what is too long is cut."""
    priority: int | None = None
    """Accepted; the key's own counts."""
    user: str | None = None
    """Accepted; not used."""


class RerankResult(BaseModel):
    """A document's place in the request, and its score."""

    index: int
    relevance_score: float
    document: Document | None = None


class RerankUsage(BaseModel):
    """Tokens counted."""

    prompt_tokens: int
    total_tokens: int


class RerankSource(BaseModel):
    """What really answered."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    method: Literal["cross-encoder", "cosine"]
    """A model that reads question and document together (0 to 1), or the cosine of their embeddings (-1 to 1)."""
    model_digest: str


class RerankAnswer(BaseModel):
    """Documents, best first."""

    id: str
    model: str
    results: list[RerankResult]
    usage: RerankUsage
    allmend: RerankSource


async def answer(request: Request, body: RerankRequest, registry: Registry) -> RerankAnswer:
    """Rank."""
    service = services.find(registry, body.model, "rank", "embed")
    texts = [_text(item, place, body.rank_fields) for place, item in enumerate(body.documents)]
    method: Literal["cross-encoder", "cosine"] = "cross-encoder" if service.kind == "rank" else "cosine"
    # A token has a byte at least, and no model reads more than fits.
    most = sum(min(len(f"{body.query}{text}".encode()) + 8, service.limit) for text in texts)
    at_once = AT_ONCE if method == "cross-encoder" else embeddings.AT_ONCE
    async with charged(request, "serve:embeddings", service.name, most=most, at_once=at_once) as charge:
        if method == "cross-encoder":
            scores, tokens = await run_in_threadpool(service.engine.scores, body.query, texts)
        else:
            scores, tokens = await _cosines(service, body.query, texts)
        charge.prompt = tokens
    if registry.meter is not None:
        registry.meter.prompt.inc(tokens)
    best = sorted(range(len(texts)), key=lambda index: -scores[index])[: body.top_n]
    results = [
        RerankResult(
            index=index,
            relevance_score=scores[index],
            document=_shown(body.documents[index]) if body.return_documents else None,
        )
        for index in best
    ]
    return RerankAnswer(
        id=new_id("rerank")[0],
        model=body.model,
        results=results,
        usage=RerankUsage(prompt_tokens=tokens, total_tokens=tokens),
        allmend=RerankSource(method=method, model_digest=service.digest),
    )


def _text(document: str | Document, place: int, fields: list[str] | None) -> str:
    if isinstance(document, str):
        return document
    values = document.model_dump(exclude_none=True)
    if fields is None:
        read = [values.get("text")]
    else:
        read = [values[field] for field in fields if field in values]
    if not read or not all(isinstance(value, str) for value in read):
        words = f"documents[{place}] has no text to read in {', '.join(fields or ['text'])}."
        raise Fault(400, words, param="documents", code="invalid_value")
    return "\n".join(map(str, read))


def _shown(document: str | Document) -> Document:
    return Document(text=document) if isinstance(document, str) else document


async def _cosines(service: Service, query: str, texts: list[str]) -> tuple[list[float], int]:
    import numpy as np

    engine = service.engine
    question = await run_in_threadpool(engine.rows, [query], "query")
    rows = await run_in_threadpool(engine.rows, texts, "document")
    (asked,) = await vectors_of(engine, question)
    vectors = await vectors_of(engine, rows)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(asked)
    cosines = np.clip(vectors @ asked / np.where(lengths > 0, lengths, 1), -1, 1)  # rounding may go beyond
    return cosines.tolist(), question.count + rows.count
