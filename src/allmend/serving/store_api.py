"""Bodies of `/v1/vector_stores`, in and out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from allmend.serving.lists import Metadata
from allmend.serving.searching import Ranking

MOST_RESULTS = 50
"""Passages of one search."""
MOST_TOGETHER = 500
"""Files of one request."""

Attributes = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)] | float | bool],
    Field(max_length=16),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class StoreExpiry(_Body):
    """When a store expires."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Field(ge=1, le=365)]
    """After it was searched or changed last."""


class CreateStore(_Body):
    """The body of `/v1/vector_stores`."""

    name: Annotated[str, Field(max_length=256)] | None = None
    file_ids: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=100)] | None = None
    metadata: Metadata | None = None
    description: Annotated[str, Field(max_length=2000)] | None = None
    expires_after: StoreExpiry | None = None
    """Without it a store stays until it is deleted."""
    chunking_strategy: dict[str, JsonValue] | None = None
    """`auto` alone."""
    model: Annotated[str, Field(max_length=1024)] | None = None
    """The embedding model; where one is served it is that."""


class ChangeStore(_Body):
    """The body of `/v1/vector_stores/ID`."""

    name: Annotated[str, Field(max_length=256)] | None = None
    metadata: Metadata | None = None
    expires_after: StoreExpiry | None = None
    """`null` in so many words: it does not expire."""


class AddFile(_Body):
    """The body of `/v1/vector_stores/ID/files`."""

    file_id: Annotated[str, Field(min_length=1, max_length=200)]
    attributes: Attributes | None = None
    chunking_strategy: dict[str, JsonValue] | None = None


class LabelFile(_Body):
    """The body of `/v1/vector_stores/ID/files/ID`."""

    attributes: Attributes | None


class AddFiles(_Body):
    """The body of `/v1/vector_stores/ID/file_batches`."""

    file_ids: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=MOST_TOGETHER)] | None = None
    files: Annotated[list[AddFile], Field(max_length=MOST_TOGETHER)] | None = None
    """The same, with attributes of each."""
    attributes: Attributes | None = None
    """Of all in `file_ids`."""
    chunking_strategy: dict[str, JsonValue] | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> AddFiles:
        if bool(self.file_ids) == bool(self.files):
            raise ValueError("give file_ids or files")
        return self

    @property
    def each(self) -> list[AddFile]:
        """All of them, each as if it came alone."""
        if self.files:
            return self.files
        shared = {"attributes": self.attributes, "chunking_strategy": self.chunking_strategy}
        return [AddFile(file_id=file_id, **shared) for file_id in self.file_ids or ()]


class SearchRequest(_Body):
    """The body of `/v1/vector_stores/ID/search`."""

    query: (
        Annotated[str, Field(min_length=1, max_length=10_000)]
        | Annotated[list[Annotated[str, Field(min_length=1, max_length=10_000)]], Field(min_length=1, max_length=8)]
    )
    max_num_results: Annotated[int, Field(ge=1, le=MOST_RESULTS)] | None = None
    filters: dict[str, JsonValue] | None = None
    """Comparisons of attributes, joined by `and` and `or`, as OpenAI has them."""
    ranking_options: Ranking | None = None
    rewrite_query: bool | None = None
    """Accepted; queries are taken as they are."""


class FileCounts(BaseModel):
    """Files of a store."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    total: int = 0


class VectorStore(BaseModel):
    """A store, as OpenAI has it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["vector_store"] = "vector_store"
    created_at: int
    name: str
    usage_bytes: int
    file_counts: FileCounts
    status: Literal["completed", "expired"] = "completed"
    last_active_at: int | None = None
    """When it was searched or changed last."""
    expires_after: StoreExpiry | None = None
    expires_at: int | None = None
    metadata: dict[str, str] | None = None
    model: str
    """The embedding model."""


class StoreFileError(BaseModel):
    """Why a file is not in the store."""

    code: Literal["server_error", "unsupported_file", "invalid_file"] = "invalid_file"
    message: str


class StoreFile(BaseModel):
    """A file in a store."""

    id: str
    object: Literal["vector_store.file"] = "vector_store.file"
    created_at: int
    vector_store_id: str
    usage_bytes: int
    status: Literal["completed", "failed"]
    last_error: StoreFileError | None = None
    attributes: dict[str, Any] = Field(default_factory=dict)
    filename: str


class StoreFileBatch(BaseModel):
    """Files that were put into a store together."""

    id: str
    object: Literal["vector_store.files_batch"] = "vector_store.files_batch"
    created_at: int
    vector_store_id: str
    status: Literal["completed"] = "completed"
    file_counts: FileCounts


class TextContent(BaseModel):
    """A piece of text."""

    type: Literal["text"] = "text"
    text: str


class Hit(BaseModel):
    """A passage."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    file_id: str
    filename: str
    score: float
    """0 to 1: how near it is in meaning (the cosine), raised by the words that it shares with the question."""
    attributes: dict[str, Any]
    content: list[TextContent]


class SearchPage(BaseModel):
    """Passages, best first."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[Hit]
    has_more: bool = False
    next_page: str | None = None
