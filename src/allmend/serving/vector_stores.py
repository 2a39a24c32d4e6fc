"""`/v1/vector_stores`: indexed documents. Those that `allmend index` made, and those that clients make of files."""

from __future__ import annotations

import re
import secrets
import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from allmend.digests import file_digest
from allmend.documents import build
from allmend.documents.store import About, Document, Index
from allmend.errors import AllmendError, InputError, NotFound, Refused, UsageError, nearest
from allmend.serving.faults import Fault, unsupported
from allmend.serving.files import Files, Page, paged
from allmend.serving.services import Service, Services
from allmend.serving.store_api import (
    AddFile,
    ChangeStore,
    CreateStore,
    FileCounts,
    Gone,
    StoreFile,
    StoreFileError,
    StoreFileList,
    StoreList,
    VectorStore,
)
from allmend.serving.store_search import shown_name

if TYPE_CHECKING:
    from allmend.engines.embed import EmbedEngine

_ID = re.compile(r"vs_[a-z0-9]{24}\Z")
_MOST_STORES = 1000


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
        engine: EmbedEngine = self.service(index).engine
        return engine

    def service(self, index: Index) -> Service:
        """The same, with its name."""
        for service in self._services.all():
            if service.kind == "embed" and service.digest == index.about.digest:
                return service
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
        filename=shown_name(document.path, document.file_id),
    )


def _only_auto(strategy: dict[str, JsonValue] | None) -> None:
    if strategy is not None and strategy.get("type") != "auto":
        raise unsupported("a chunking_strategy other than 'auto'", "chunking_strategy")
