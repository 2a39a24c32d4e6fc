"""`/v1/vector_stores`: indexed documents. Those that `allmend index` made, and those that clients make of files."""

from __future__ import annotations

import re
import secrets
import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from starlette.concurrency import run_in_threadpool

from allmend.digests import file_digest
from allmend.documents import build
from allmend.documents.asking import ask
from allmend.documents.store import About, Document, Found, Index
from allmend.errors import AllmendError, InputError, NotFound, Refused, UsageError, nearest
from allmend.serving.embeddings import vectors_of
from allmend.serving.faults import Fault, unsupported
from allmend.serving.files import Files, Page, paged
from allmend.serving.searching import Ranking
from allmend.serving.services import Service, Services

if TYPE_CHECKING:
    from allmend.engines.embed import EmbedEngine

_ID = re.compile(r"vs_[a-z0-9]{24}\Z")
_MOST_STORES = 1000
_MOST_RESULTS = 50

Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
]
Attributes = Annotated[dict[Annotated[str, Field(max_length=64)], str | float | bool], Field(max_length=16)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class CreateStore(_Body):
    """The body of `/v1/vector_stores`."""

    name: Annotated[str, Field(max_length=256)] | None = None
    file_ids: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=100)] | None = None
    metadata: Metadata | None = None
    description: Annotated[str, Field(max_length=2000)] | None = None
    expires_after: dict[str, JsonValue] | None = None
    """Refused: stores here stay until they are deleted."""
    chunking_strategy: dict[str, JsonValue] | None = None
    """`auto` alone."""
    model: Annotated[str, Field(max_length=1024)] | None = None
    """The embedding model; where one is served it is that."""


class ChangeStore(_Body):
    """The body of `/v1/vector_stores/ID`."""

    name: Annotated[str, Field(max_length=256)] | None = None
    metadata: Metadata | None = None
    expires_after: dict[str, JsonValue] | None = None


class AddFile(_Body):
    """The body of `/v1/vector_stores/ID/files`."""

    file_id: Annotated[str, Field(min_length=1, max_length=200)]
    attributes: Attributes | None = None
    chunking_strategy: dict[str, JsonValue] | None = None


class SearchRequest(_Body):
    """The body of `/v1/vector_stores/ID/search`."""

    query: (
        Annotated[str, Field(min_length=1, max_length=10_000)]
        | Annotated[list[Annotated[str, Field(min_length=1, max_length=10_000)]], Field(min_length=1, max_length=8)]
    )
    max_num_results: Annotated[int, Field(ge=1, le=_MOST_RESULTS)] | None = None
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
    status: Literal["completed"] = "completed"
    last_active_at: int | None = None
    metadata: dict[str, str] | None = None
    model: str
    """The embedding model."""


class StoreList(BaseModel):
    """Stores."""

    object: Literal["list"] = "list"
    data: list[VectorStore]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class Gone(BaseModel):
    """What was deleted."""

    id: str
    object: str
    deleted: bool = True


class StoreFileError(BaseModel):
    """Why a file is not in the store."""

    code: str = "invalid_file"
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


class StoreFileList(BaseModel):
    """Files of a store."""

    object: Literal["list"] = "list"
    data: list[StoreFile]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


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
    """1 where meaning and words both put it first."""
    attributes: dict[str, Any]
    content: list[TextContent]


class SearchPage(BaseModel):
    """Passages, best first."""

    object: Literal["vector_store.search_results.page"] = "vector_store.search_results.page"
    search_query: list[str]
    data: list[Hit]
    has_more: bool = False
    next_page: str | None = None


class Stores:
    """Stores of this machine: shared ones by their name, those that clients made by their id.

    Args:
        root: where clients' stores lie.
        shared: indexes by name, which everybody may search and nobody changes through the API.
    """

    def __init__(self, root: Path, files: Files, services: Services, shared: dict[str, Index]) -> None:
        self._root, self._files, self._services = root, files, services
        self.shared = shared
        self._open: dict[str, Index] = {}
        self._lock = threading.Lock()

    def find(self, identity: str, owner: str) -> Index:
        """A store that its owner, or everybody, may search; raises `NotFound`."""
        if identity in self.shared:
            return self.shared[identity]
        with self._lock:
            found = self._open.get(identity)
            if found is None and _ID.match(identity) and (self._root / identity).is_dir():
                found = self._open[identity] = Index(self._root / identity)
        if found is None or found.about.owner != owner:
            hint = nearest(identity, self.shared) or None
            raise NotFound(f"there is no vector store {identity[:80]!r}", hint=hint)
        return found

    def own(self, identity: str, owner: str) -> Index:
        """A store that its owner may change."""
        if identity in self.shared:
            raise Refused("this index follows a folder; it is changed there", hint="Run `allmend index` again.")
        return self.find(identity, owner)

    def create(self, body: CreateStore, owner: str) -> VectorStore:
        """An empty store, or one of files."""
        _only_auto(body.chunking_strategy)
        if body.expires_after is not None:
            raise unsupported("expires_after", "expires_after")
        if len(self._mine(owner)) >= _MOST_STORES:
            raise UsageError(f"{_MOST_STORES} stores are kept here; delete some first")
        service = self._embedder(body.model)
        for file_id in body.file_ids or ():
            self._files.get(file_id, owner)
        identity = f"vs_{secrets.token_hex(12)}"
        about = About(
            name=body.name or identity,
            model=service.name,
            digest=service.digest,
            width=service.engine.width,
            owner=owner,
            created=int(time.time()),
            metadata=body.metadata or {},
        )
        hidden = self._root / f".{identity}"
        Index.create(hidden, about)
        hidden.rename(self._root / identity)
        for file_id in body.file_ids or ():
            self.add(identity, AddFile(file_id=file_id), owner)
        return self.describe(identity, self.find(identity, owner))

    def page(self, owner: str, page: Page) -> StoreList:
        """Everybody's and the owner's."""
        found = [self.describe(name, index) for name, index in self.shared.items()]
        found += [self.describe(identity, self.find(identity, owner)) for identity in self._mine(owner)]
        part, more = paged(found, page)
        ends = (part[0].id, part[-1].id) if part else (None, None)
        return StoreList(data=part, first_id=ends[0], last_id=ends[1], has_more=more)

    def delete(self, identity: str, owner: str) -> Gone:
        """Delete a store, with what it holds."""
        self.own(identity, owner)
        with self._lock:
            self._open.pop(identity, None)
            gone = self._root / f".{identity}.gone"
            (self._root / identity).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        return Gone(id=identity, object="vector_store.deleted")

    def change(self, identity: str, body: ChangeStore, owner: str) -> VectorStore:
        """Rename a store, or note something else about it."""
        if body.expires_after is not None:
            raise unsupported("expires_after", "expires_after")
        index = self.own(identity, owner)
        changes: dict[str, Any] = {}
        if body.name is not None:
            changes["name"] = body.name
        if body.metadata is not None:
            changes["metadata"] = body.metadata
        index.describe(**changes)
        return self.describe(identity, index)

    def add(self, identity: str, body: AddFile, owner: str) -> StoreFile:
        """Put an uploaded file into a store; one that cannot be read is there too, and says why."""
        _only_auto(body.chunking_strategy)
        index = self.own(identity, owner)
        about = self._files.get(body.file_id, owner)
        path = self._files.content(body.file_id, owner)
        engine = self.engine(index)
        digest = file_digest(path)
        attributes: dict[str, object] = dict(body.attributes or {})
        try:
            build.add_file(
                index, about.filename, path.read_bytes(), engine,
                digest=digest, file_id=about.id, attributes=attributes,
            )  # fmt: skip
        except InputError as error:
            import numpy as np

            failed = Document(
                f"{about.id}/{about.filename}", digest, about.bytes, 0, error.message, about.id, attributes
            )
            index.put(failed, [], np.empty((0, index.about.width), dtype=np.float32))
        return self.file(identity, body.file_id, owner)

    def files(self, identity: str, owner: str, page: Page) -> StoreFileList:
        """Files of a store."""
        index = self.find(identity, owner)
        part, more = paged([_file(identity, document) for document in index.documents()], page)
        ends = (part[0].id, part[-1].id) if part else (None, None)
        return StoreFileList(data=part, first_id=ends[0], last_id=ends[1], has_more=more)

    def file(self, identity: str, file_id: str, owner: str) -> StoreFile:
        """One of them."""
        return _file(identity, self._document(self.find(identity, owner), file_id))

    def remove(self, identity: str, file_id: str, owner: str) -> Gone:
        """Take a file out of a store; the file itself stays."""
        index = self.own(identity, owner)
        index.remove(self._document(index, file_id).path)
        return Gone(id=file_id, object="vector_store.file.deleted")

    def text(self, identity: str, file_id: str, owner: str) -> list[str]:
        """What a file says, in passages."""
        index = self.find(identity, owner)
        return index.texts(self._document(index, file_id).path)

    def engine(self, index: Index) -> EmbedEngine:
        """The served model that an index was made with; raises `Fault` where it is not served."""
        for service in self._services.all():
            if service.kind == "embed" and service.digest == index.about.digest:
                engine: EmbedEngine = service.engine
                return engine
        words = f"This store was made with {index.about.model}, which is not served now. Add it to `allmend serve`."
        raise Fault(400, words, code="unsupported_model")

    def describe(self, identity: str, index: Index) -> VectorStore:
        """A store as it is shown."""
        documents = index.documents()
        good = sum(1 for document in documents if document.passages)
        return VectorStore(
            id=identity,
            created_at=index.about.created,
            name=index.about.name,
            usage_bytes=sum(document.size for document in documents),
            file_counts=FileCounts(completed=good, failed=len(documents) - good, total=len(documents)),
            last_active_at=max((document.added for document in documents), default=index.about.created),
            metadata=index.about.metadata,
            model=index.about.model,
        )

    def _mine(self, owner: str) -> list[str]:
        found = []
        for folder in self._root.glob("vs_*"):
            try:
                self.find(folder.name, owner)
            except AllmendError:
                continue
            found.append(folder.name)
        return found

    def _document(self, index: Index, file_id: str) -> Document:
        for document in index.documents():
            if file_id in (document.file_id, document.path):
                return document
        raise NotFound(f"this store has no file {file_id[:80]!r}")

    def _embedder(self, asked: str | None) -> Service:
        here = [service for service in self._services.all() if service.kind == "embed"]
        named = [service for service in here if asked in (None, service.name)]
        if not named:
            words = f"No embedding model {asked!r} is served." if asked else "No embedding model is served here."
            raise Fault(400, f"{words} Add one to `allmend serve`.", param="model", code="unsupported_model")
        return named[0]


async def search(stores: Stores, identity: str, body: SearchRequest, owner: str) -> SearchPage:
    """Search a store."""
    index = await run_in_threadpool(stores.find, identity, owner)
    _matches({}, body.filters)  # A wrong filter is wrong whatever is found.
    queries = [body.query] if isinstance(body.query, str) else body.query
    most = body.max_num_results or 10
    best: dict[int, Found] = {}
    for query in queries:
        for found in await passages(stores, index, query, _MOST_RESULTS if body.filters else most):
            if found.id not in best or found.score > best[found.id].score:
                best[found.id] = found
    least = (body.ranking_options.score_threshold if body.ranking_options else None) or 0.0
    kept = [found for found in best.values() if found.score >= least and _matches(found.attributes, body.filters)]
    kept.sort(key=lambda found: (-found.score, found.id))
    hits = [
        Hit(
            file_id=found.file_id or found.path,
            filename=_name(found.path, found.file_id),
            score=found.score,
            attributes={**found.attributes, **({"page": found.page} if found.page is not None else {})},
            content=[TextContent(text=found.text)],
        )
        for found in kept[:most]
    ]
    return SearchPage(search_query=queries, data=hits)


async def passages(stores: Stores, index: Index, query: str, most: int) -> list[Found]:
    """Passages for a question."""
    engine = stores.engine(index)
    rows = await run_in_threadpool(engine.rows, [query], "query")
    (vector,) = await vectors_of(engine, rows)
    return await run_in_threadpool(lambda: ask(index, query, vector, most=most))


def _name(path: str, file_id: str | None) -> str:
    return path.removeprefix(f"{file_id}/") if file_id else path


def _file(identity: str, document: Document) -> StoreFile:
    failed = document.passages == 0
    return StoreFile(
        id=document.file_id or document.path,
        created_at=document.added,
        vector_store_id=identity,
        usage_bytes=document.size,
        status="failed" if failed else "completed",
        last_error=StoreFileError(message=document.note or "there is no text in it") if failed else None,
        attributes=document.attributes or {},
        filename=_name(document.path, document.file_id),
    )


def _only_auto(strategy: dict[str, JsonValue] | None) -> None:
    if strategy is not None and strategy.get("type") != "auto":
        raise unsupported("a chunking_strategy other than 'auto'", "chunking_strategy")


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
