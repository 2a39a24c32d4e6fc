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


_MOST_GONE = 10_000


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

    def of(self, found: Sequence[M], gone: Gone | None = None) -> Listed[M]:
        """That part, by time.

        Args:
            found: what there is.
            gone: where what is not there any more stood.

        Raises:
            Fault: what the part begins at or ends before never stood in this list, or long ago.
        """
        descending = self.order == "desc"
        ordered = sorted(found, key=_place, reverse=descending)
        if self.after is not None:
            place = self._place(found, gone, "after", self.after)
            ordered = [each for each in ordered if (_place(each) < place if descending else _place(each) > place)]
        elif self.before is not None:
            place = self._place(found, gone, "before", self.before)
            ordered = [each for each in ordered if (_place(each) > place if descending else _place(each) < place)]
        backwards = self.after is None and self.before is not None
        data = ordered[-self.limit :] if backwards else ordered[: self.limit]
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return Listed(data=list(data), first_id=ends[0], last_id=ends[1], has_more=len(ordered) > self.limit)

    def _place(self, found: Sequence[_Made], gone: Gone | None, param: str, named: str) -> tuple[int, str]:
        place = next((_place(each) for each in found if each.id == named), None)
        if place is None and gone is not None:
            place = gone.place(named)
        if place is None:  # An empty page would say that there is nothing more.
            words = f"There is no {named[:80]!r} in this list; begin again without {param}."
            raise Fault(400, words, param=param, code="invalid_value")
        return place


def _place(each: _Made) -> tuple[int, str]:
    return each.created_at, each.id


class Gone:
    """Where what was deleted lately stood: who deletes while listing names it as the place to go on from."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[int, str]] = {}

    def note(self, deleted: _Made) -> None:
        """Remember a place."""
        self._places[deleted.id] = _place(deleted)
        while len(self._places) > _MOST_GONE:
            self._places.pop(next(iter(self._places)), None)

    def place(self, identity: str) -> tuple[int, str] | None:
        """Where it stood; None where that is not known."""
        return self._places.get(identity)
