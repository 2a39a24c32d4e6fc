"""Lists and deletions as all of OpenAI's API spells them, and the part of a list that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, Field

from allmend.serving.faults import Fault


class _Made(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def created_at(self) -> int: ...


T = TypeVar("T")
M = TypeVar("M", bound=_Made)


Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
"""What clients note of their own, as all of OpenAI's API bounds it."""


class Listed(BaseModel, Generic[T]):
    """A part of a list."""

    object: Literal["list"] = "list"
    data: list[T]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class Deleted(BaseModel):
    """What was deleted."""

    id: str
    object: str
    deleted: bool = True


class Page(BaseModel):
    """Which part of a list is asked for."""

    limit: Annotated[int, Field(ge=1, le=10_000)] = 100
    after: str | None = None
    """What follows this one."""
    before: str | None = None
    """What stands just before this one."""
    order: Literal["asc", "desc"] = "desc"

    def of(self, found: Sequence[M]) -> Listed[M]:
        """That part, by time."""
        ordered = sorted(found, key=lambda each: (each.created_at, each.id), reverse=self.order == "desc")
        for param, named in (("after", self.after), ("before", self.before)):
            # An empty page would say that there is nothing more.
            if named is not None and all(each.id != named for each in found):
                words = f"There is no {named[:80]!r} in this list; begin again without {param}."
                raise Fault(400, words, param=param, code="invalid_value")
        places = {each.id: place for place, each in enumerate(ordered)}
        if self.after is not None:
            ordered = ordered[places[self.after] + 1 :]
        elif self.before is not None:
            ordered = ordered[: places[self.before]]
        backwards = self.after is None and self.before is not None
        data = ordered[-self.limit :] if backwards else ordered[: self.limit]
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return Listed(data=list(data), first_id=ends[0], last_id=ends[1], has_more=len(ordered) > self.limit)
