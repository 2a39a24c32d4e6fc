"""The shapes of `file_search`: the tool in a request, and the search in an answer."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue


class Ranking(BaseModel):
    """How results are ranked."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    ranker: Literal["auto", "none", "default-2024-11-15"] | None = None
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    hybrid_search: dict[str, JsonValue] | None = None
    """Accepted; meaning and words count alike."""


class FileSearchTool(BaseModel):
    """Search in documents before answering."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    type: Literal["file_search"]
    vector_store_ids: Annotated[list[Annotated[str, Field(max_length=200)]], Field(min_length=1, max_length=4)]
    max_num_results: Annotated[int, Field(ge=1, le=20)] | None = None
    """Passages of all stores together; 5 by default."""
    filters: dict[str, JsonValue] | None = None
    ranking_options: Ranking | None = None


class SearchedPassage(BaseModel):
    """A passage that the model was shown."""

    file_id: str
    filename: str
    score: float
    text: str
    attributes: dict[str, Any]


class SearchCall(BaseModel):
    """A search, as an item of a response."""

    id: str
    type: Literal["file_search_call"] = "file_search_call"
    status: Literal["completed"] = "completed"
    queries: list[str]
    results: list[SearchedPassage] | None


def call_of(question: str, found: Sequence[SearchedPassage]) -> SearchCall:
    """The search as an item of a response."""
    return SearchCall(id=f"fs_{uuid.uuid4().hex}", queries=[question], results=list(found))
