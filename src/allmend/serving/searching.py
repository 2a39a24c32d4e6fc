"""The shapes of `file_search`: the tool in a request, and the search in an answer."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from allmend.documents.asking import WEIGHTS


class Hybrid(BaseModel):
    """How much meaning and words count, beside each other: the larger one counts whole."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    embedding_weight: Annotated[float, Field(ge=0, le=1000)]
    """That of meaning."""
    text_weight: Annotated[float, Field(ge=0, le=1000)]
    """That of words."""

    @model_validator(mode="after")
    def _something_counts(self) -> Hybrid:
        if not self.embedding_weight and not self.text_weight:
            raise ValueError("one of embedding_weight and text_weight must be above 0")
        return self


class Ranking(BaseModel):
    """How results are ranked."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    ranker: Literal["auto", "none", "default-2024-11-15"] | None = None
    """`none`: by meaning alone, so that a score is the cosine; the others mean the same."""
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """Passages of a lower score are left out."""
    hybrid_search: Hybrid | None = None
    """How much meaning and words count; words half as much when not given."""

    @property
    def weights(self) -> tuple[float, float]:
        """Of meaning and of words, each of 0 to 1; meaning alone with the ranker `none`."""
        found = self.hybrid_search
        if found is None:
            return (1.0, 0.0) if self.ranker == "none" else WEIGHTS
        whole = max(found.embedding_weight, found.text_weight)
        return found.embedding_weight / whole, found.text_weight / whole


class FileSearchTool(BaseModel):
    """Search in documents before answering."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    type: Literal["file_search"]
    vector_store_ids: Annotated[list[Annotated[str, Field(max_length=200)]], Field(min_length=1, max_length=4)]
    max_num_results: Annotated[int, Field(ge=1, le=50)] | None = None
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
