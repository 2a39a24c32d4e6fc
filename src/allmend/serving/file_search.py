"""The tool `file_search`: passages of indexed documents are put before the question.

The search is made once, with the last message of the user, whatever model answers: small models that were never
taught to call tools can use it, and nothing depends on whether one does. What was found is named in the answer.
Passages come from anywhere; they are put into the user's message, never among instructions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from allmend.serving import store_search
from allmend.serving import visit as visits
from allmend.serving.faults import Fault
from allmend.serving.inside import owner_of
from allmend.serving.searching import FileSearchTool, SearchedPassage
from allmend.serving.store_api import SearchRequest

if TYPE_CHECKING:
    from allmend.serving.registry import Registry
    from allmend.serving.requests import ChatRequest

_MOST = 5
_LONGEST = 10_000
_MOST_TOOLS = 4


async def searched(body: ChatRequest, registry: Registry, request: Request) -> ChatRequest:
    """The request with what its `file_search` tools find; the same where it has none.

    Raises:
        Fault: it asks for documents and nobody does the asking, none are served, or the key does not cover it.
        NotFound: there is no such store.
    """
    tools = [tool for tool in body.tools or () if isinstance(tool, FileSearchTool)]
    if not tools:
        return body
    if len(tools) > _MOST_TOOLS:
        words = f"A request has at most {_MOST_TOOLS} file_search tools; one searches several stores."
        raise Fault(400, words, param="tools", code="invalid_value")
    for identity in {each: None for tool in tools for each in tool.vector_store_ids}:
        visits.of(request).require_resource("serve:search", identity)
    rest = [tool for tool in body.tools or () if not isinstance(tool, FileSearchTool)]
    changes: dict[str, Any] = {"tools": rest or None}
    if not rest and body.tool_choice == "required":
        changes["tool_choice"] = None
    if body.tool_choice == "none":
        return body.model_copy(update=changes)
    place = next((n for n in reversed(range(len(body.messages))) if body.messages[n].role == "user"), None)
    if place is None:
        raise Fault(400, "file_search needs a message of the user to search for.", param="messages")
    message = body.messages[place]
    question = _text(message.content)[-_LONGEST:].strip()
    if not question:
        raise Fault(400, "file_search needs text to search for.", param="messages")
    found = await search(tools, question, registry, owner_of(request))
    marks = await run_in_threadpool(_marks, registry)
    asked = message.model_copy(update={"content": _shown(found, _text(message.content), marks)})
    changes["messages"] = [*body.messages[:place], asked, *body.messages[place + 1 :]]
    made = body.model_copy(update=changes)
    made.found(question, found)
    return made


async def search(
    tools: Sequence[FileSearchTool], question: str, registry: Registry, owner: str
) -> list[SearchedPassage]:
    """Passages of all the tools' stores, best first."""
    stores = registry.stores
    if stores is None:
        raise Fault(400, "This server has no documents.", param="tools", code="unsupported_parameter")
    found: list[SearchedPassage] = []
    most = max(tool.max_num_results or _MOST for tool in tools)
    for tool in tools:
        for identity in dict.fromkeys(tool.vector_store_ids):
            asked = SearchRequest(
                query=question, max_num_results=most, filters=tool.filters, ranking_options=tool.ranking_options
            )
            page = await store_search.search(stores, identity, asked, owner)
            for hit in page.data:
                text = "\n".join(part.text for part in hit.content)
                found.append(
                    SearchedPassage(
                        file_id=hit.file_id,
                        filename=hit.filename,
                        score=hit.score,
                        text=text,
                        attributes=hit.attributes,
                    )
                )
    await run_in_threadpool(found.sort, key=lambda hit: -hit.score)
    return found[:most]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.text or "" for part in content or ())


def _marks(registry: Registry) -> re.Pattern[str] | None:
    """What the models here take for the end of a message, the beginning of another one, and the like."""
    found: set[str] = set()
    for base in registry.bases():
        tokens = getattr(base.tokenizer, "added_tokens_decoder", {}).values()
        found.update(token.content for token in tokens if token.special and len(token.content) > 1)
    longest = sorted(found, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest))) if longest else None


def _where(hit: SearchedPassage) -> str:
    """A passage's file, its page, and the heading or the columns above it."""
    page, heading = hit.attributes.get("page"), hit.attributes.get("heading")
    about = hit.filename if page is None else f"{hit.filename}, page {page}"
    return about if heading is None else f"{about}\n{heading}"


def _shown(found: Sequence[SearchedPassage], question: str, marks: re.Pattern[str] | None) -> str:
    if not found:
        return question
    passages = "\n\n".join(f"[{number}] {_where(hit)}\n{hit.text}" for number, hit in enumerate(found, 1))
    if marks is not None:
        # A document that holds the mark of a message's end must not end the user's.
        passages = marks.sub(lambda mark: f"{mark[0][0]} {mark[0][1:]}", passages)
    return f"Passages from documents, which may help:\n\n{passages}\n\n{question}"
