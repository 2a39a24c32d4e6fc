"""`/v1/moderations`: texts against the owner's own norms.

The norms are those of `allmend verdict` (a TOML file of `[[must]]` and `[[must_not]]`). A text is flagged where a
`must_not` is true of it or a `must` is not; categories carry the norms' names. What could not be decided is named,
and never taken for harmless.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from allmend.serving.answering import new_id
from allmend.serving.charge import charged
from allmend.serving.faults import Fault, unsupported
from allmend.verdicts.norms import NormsFile, decided


class ModerationPart(BaseModel):
    """A part of an input; only text is read."""

    model_config = ConfigDict(extra="allow")

    type: str
    text: Annotated[str, Field(max_length=1_000_000)] | None = None


class ModerationRequest(BaseModel):
    """The body of `/v1/moderations`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    input: (
        Annotated[str, Field(max_length=1_000_000)]
        | Annotated[list[Annotated[str, Field(max_length=1_000_000)]], Field(min_length=1, max_length=256)]
        | Annotated[list[ModerationPart], Field(min_length=1, max_length=256)]
    )
    model: Annotated[str, Field(max_length=1024)] | None = None
    """Accepted; the owner's norms decide, whatever it names."""


class ModerationResult(BaseModel):
    """What the norms say of a text."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    """1 where a norm is broken, 0 where it holds, 0.5 where that could not be decided."""
    category_applied_input_types: dict[str, list[Literal["text"]]]
    undecided: list[str]
    """Norms that could not be decided of this text: they are not among the categories that hold."""


class ModerationSource(BaseModel):
    """Which norms."""

    norms_sha256: str


class Moderation(BaseModel):
    """The answer."""

    id: str
    model: str
    results: list[ModerationResult]
    allmend: ModerationSource


async def answer(request: Request, body: ModerationRequest, norms: NormsFile | None) -> Moderation:
    """Hold texts against the norms."""
    if norms is None:
        words = "This server has no norms to hold a text against: give it some with --norms FILE."
        raise Fault(400, words, code="no_norms")
    texts = _texts(body)
    async with charged(request, "serve:embeddings", "norms", unit="characters") as charge:
        charge.prompt = sum(map(len, texts))
        results = await run_in_threadpool(_results, norms, texts)
    return Moderation(
        id=new_id("modr")[0], model="norms", results=results, allmend=ModerationSource(norms_sha256=norms.sha256)
    )


def _texts(body: ModerationRequest) -> list[str]:
    if isinstance(body.input, str):
        return [body.input]
    texts: list[str] = []
    parts: list[str] = []
    given = cast(list[str | ModerationPart], body.input)
    for place, item in enumerate(given):
        if isinstance(item, str):
            texts.append(item)
        elif item.type == "text" and item.text is not None:
            parts.append(item.text)
        else:
            raise unsupported(f"an input of type {item.type!r}", f"input[{place}].type")
    return texts or ["\n".join(parts)]


def _results(norms: NormsFile, texts: list[str]) -> list[ModerationResult]:
    broken: list[dict[str, bool | None]] = [{} for _ in texts]
    for kind, case in norms.cases:
        for found, says in zip(broken, decided(norms, case, [""] * len(texts), texts), strict=True):
            found[case.name] = None if says is None else says is (kind == "must_not")
    return [_result(found) for found in broken]


def _result(found: dict[str, Any]) -> ModerationResult:
    undecided = [name for name, value in found.items() if value is None]
    return ModerationResult(
        flagged=any(found.values()),
        categories={name: bool(value) for name, value in found.items()},
        category_scores={name: 0.5 if value is None else float(value) for name, value in found.items()},
        category_applied_input_types={name: ["text"] for name in found},
        undecided=undecided,
    )
