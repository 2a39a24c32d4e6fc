"""Search in a vector store: passages by meaning and by word, with OpenAI's filters."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from allmend.documents.asking import ask
from allmend.documents.store import Found, Index
from allmend.engines.embed import Rows
from allmend.serving import visit as visits
from allmend.serving.charge import charged
from allmend.serving.embeddings import AT_ONCE, vectors_of
from allmend.serving.faults import Fault
from allmend.serving.inside import owner_of
from allmend.serving.searching import Ranking
from allmend.serving.store_api import Hit, SearchPage, SearchRequest, TextContent

if TYPE_CHECKING:
    from allmend.serving.services import Service
    from allmend.serving.vector_stores import Stores


async def answer(request: Request, stores: Stores, identity: str, body: SearchRequest) -> SearchPage:
    """Search a store, on the account of whoever asks: the tokens of the questions."""
    question = await _Question.read(stores, identity, body, owner_of(request))
    tokens = sum(rows.count for rows in question.rows)
    service = question.service
    visits.of(request).route = "/v1/vector_stores/search"  # Without the store's id: usage is summed by route.
    async with charged(
        request, "serve:search", service.name, most=tokens, resource=identity, at_once=AT_ONCE
    ) as charge:
        charge.prompt = tokens
        return await question.answer()


async def search(stores: Stores, identity: str, body: SearchRequest, owner: str) -> SearchPage:
    """Search a store."""
    return await (await _Question.read(stores, identity, body, owner)).answer()


class _Question:
    """A search that has been understood."""

    def __init__(self, index: Index, service: Service, body: SearchRequest, rows: Sequence[Rows]) -> None:
        self.service, self.rows = service, rows
        self._index, self._body = index, body

    @classmethod
    async def read(cls, stores: Stores, identity: str, body: SearchRequest, owner: str) -> _Question:
        """Raises `Fault` for what cannot be asked."""
        index = await run_in_threadpool(stores.use, identity, owner)
        _matches({}, body.filters)  # A wrong filter is wrong whatever is found.
        service = stores.service(index)
        return cls(index, service, body, [await run_in_threadpool(service.engine.rows, [each], "query")
                                          for each in _queries(body)])  # fmt: skip

    async def answer(self) -> SearchPage:
        """Passages, best first."""
        body, index, ranking = self._body, self._index, self._body.ranking_options or Ranking()
        most = body.max_num_results or 10
        among: set[int] | None = None
        if body.filters is not None:
            among = await run_in_threadpool(index.within, lambda attributes: _matches(attributes, body.filters))
        best: dict[int, Found] = {}
        for query, rows in zip(_queries(body), self.rows, strict=True):
            (vector,) = await vectors_of(self.service.engine, rows)
            asked = partial(ask, index, query, vector, most=most, weights=ranking.weights, among=among)
            for found in await run_in_threadpool(asked):
                if found.id not in best or found.score > best[found.id].score:
                    best[found.id] = found
        least = ranking.score_threshold or 0.0
        kept = [found for found in best.values() if found.score >= least]
        kept.sort(key=lambda found: (-found.score, found.id))
        hits = [
            Hit(
                file_id=found.file_id or found.path,
                filename=shown_name(found.path, found.file_id),
                score=found.score,
                attributes=_attributes(found),
                content=[TextContent(text=found.text)],
            )
            for found in kept[:most]
        ]
        return SearchPage(search_query=_queries(body), data=hits)


def _attributes(found: Found) -> dict[str, Any]:
    """Those of its file, with where the passage stands in it."""
    place: dict[str, Any] = {} if found.page is None else {"page": found.page}
    if found.heading is not None and found.heading not in found.text:
        place["heading"] = found.heading
    return {**place, **found.attributes}


def _queries(body: SearchRequest) -> list[str]:
    return [body.query] if isinstance(body.query, str) else body.query


def shown_name(path: str, file_id: str | None) -> str:
    """A file by its path in the store, without the id that it lies under."""
    return path.removeprefix(f"{file_id}/") if file_id else path


_COMPARED: dict[str, Any] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
    "in": lambda a, b: a in b,
    "nin": lambda a, b: a not in b,
}


def _matches(attributes: dict[str, Any], filters: Any, depth: int = 0) -> bool:
    """Whether attributes pass OpenAI's comparison and compound filters; raises `Fault` for what is none."""
    if filters is None:
        return True
    kind = filters.get("type") if isinstance(filters, dict) else None
    if kind in ("and", "or") and isinstance(filters.get("filters"), list) and depth < 8:
        # All are looked at, so that a wrong one is found whatever the attributes are.
        each = [_matches(attributes, inner, depth + 1) for inner in filters["filters"]]
        return all(each) if kind == "and" else any(each)
    if kind not in _COMPARED or not isinstance(filters.get("key"), str) or "value" not in filters:
        raise Fault(400, "A filter has type, key and value, or type and filters.", param="filters")
    if kind in ("in", "nin") and not isinstance(filters["value"], list):
        raise Fault(400, f"A filter of type {kind!r} takes a list.", param="filters")
    try:
        return filters["key"] in attributes and bool(_COMPARED[kind](attributes[filters["key"]], filters["value"]))
    except TypeError:
        return False
