"""`/v1/vector_stores`: indexed documents. Those that `allmend index` made, and those that clients make of files."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from allmend.documents.store import About, Document, Index
from allmend.errors import AllmendError, Refused, UsageError, nearest
from allmend.serving.faults import Fault, Missing
from allmend.serving.files import FileObject, Files
from allmend.serving.lists import Deleted, Gone, Listed, Page
from allmend.serving.services import Service, Services
from allmend.serving.store_api import (
    ChangeStore,
    CreateStore,
    FileCounts,
    StoreExpiry,
    StoreFile,
    StoreFileBatch,
    StoreFileError,
    VectorStore,
)
from allmend.serving.store_search import shown_name
from allmend.serving.tidying import DAY, remove_left

_ID = re.compile(r"vs_[a-z0-9]{24}\Z")
_BATCH = re.compile(r"vsfb_[a-z0-9]{24}\Z")
_MOST_STORES = 1000
_USED = "used"
"""A file in a store's folder: its time is when the store was searched or changed last."""
_OPEN = 64
"""Clients' stores that are held open, those used last: each keeps its vectors in memory."""


class Stores:
    """Stores of this machine: shared ones by their name, those that clients made by their id.

    Args:
        root: where clients' stores lie.
        shared: indexes by name, which everybody may search and nobody changes through the API.
    """

    def __init__(self, root: Path, files: Files, services: Services, shared: dict[str, Index]) -> None:
        self._root, self._files, self._services = root, files, services
        self.shared = shared
        self._open: OrderedDict[str, Index] = OrderedDict()
        self._lock = threading.Lock()
        self._gone = Gone()

    def find(self, identity: str, owner: str) -> Index:
        """A store that its owner, or everybody, may search; raises `Missing`."""
        if identity in self.shared:
            return self.shared[identity]
        with self._lock:
            found = self._open.get(identity)
            if found is None and _ID.match(identity) and (self._root / identity).is_dir():
                found = self._open[identity] = Index(self._root / identity)
            if found is not None:
                self._open.move_to_end(identity)
            while len(self._open) > _OPEN:
                self._open.popitem(last=False)
        if found is None or found.about.owner != owner:
            hint = nearest(identity, self.shared) or None
            raise Missing(f"there is no vector store {identity[:80]!r}", hint=hint)
        return found

    def use(self, identity: str, owner: str) -> Index:
        """A store that is searched or changed now; raises `Fault` for one that has expired."""
        index = self.find(identity, owner)
        if identity in self.shared:
            return index
        about = index.now() if index.about.days else index.about
        if about.expired or (about.days and time.time() >= self._last_use(identity, index) + about.days * DAY):
            raise Fault(400, "This vector store has expired.", code="vector_store_expired")
        try:
            (self._root / identity / _USED).touch()
        except OSError:
            pass  # A full disk is no reason not to search.
        return index

    def own(self, identity: str, owner: str) -> Index:
        """A store that its owner changes now."""
        self._check_own(identity)
        return self.use(identity, owner)

    def _check_own(self, identity: str) -> None:
        if identity in self.shared:
            raise Refused("this index follows a folder; it is changed there", hint="Run `allmend index` again.")

    def _last_use(self, identity: str, index: Index) -> int:
        """When it was searched or changed last."""
        try:
            used = int((self._root / identity / _USED).stat().st_mtime)
        except OSError:
            used = max((document.added for document in index.documents()), default=0)
        return max(used, index.about.created)

    def create(self, body: CreateStore, owner: str) -> str:
        """An empty store; its id."""
        if len(self.mine(owner)) >= _MOST_STORES:
            raise UsageError(f"{_MOST_STORES} stores are kept here; delete some first")
        service = self._embedder(body.model)
        identity = f"vs_{secrets.token_hex(12)}"
        about = About(
            name=body.name or identity,
            model=service.name,
            digest=service.digest,
            width=service.engine.width,
            owner=owner,
            created=int(time.time()),
            metadata=body.metadata or {},
            days=body.expires_after.days if body.expires_after else None,
        )
        hidden = self._root / f".{identity}"
        Index.create(hidden, about)
        hidden.rename(self._root / identity)
        return identity

    def page(self, owner: str, names: Sequence[str], page: Page) -> Listed[VectorStore]:
        """Those of `names` that are asked for."""
        return page.of([self.describe(name, self.find(name, owner)) for name in names], self._gone)

    def delete(self, identity: str, owner: str) -> Deleted:
        """Delete a store, with what it holds."""
        self._check_own(identity)
        self._gone.note(self.describe(identity, self.find(identity, owner)))
        if not self._remove(identity):  # Somebody else did at the same time.
            raise Missing(f"there is no vector store {identity!r}")
        return Deleted(id=identity, object="vector_store.deleted")

    def _remove(self, identity: str) -> bool:
        gone = self._root / f".{identity}.gone"
        with self._lock:
            self._open.pop(identity, None)
            try:
                (self._root / identity).rename(gone)
            except OSError:
                return False
        shutil.rmtree(gone, ignore_errors=True)
        return True

    def sweep(self) -> None:
        """Empty stores whose time has come, delete those that did so long ago, and what was not made to its end."""
        for folder in self._root.glob("vs_*"):
            try:
                index = Index(folder)
                self._let_go(folder, index)
            except (AllmendError, OSError, sqlite3.Error):
                continue  # It was deleted meanwhile, or cannot be read, or the disk is full.
        remove_left(self._root, ".vs_*")

    def _let_go(self, folder: Path, index: Index) -> None:
        about, now = index.about, time.time()
        if about.expired:
            if self._files.keep and now >= about.expired + self._files.keep:
                self._remove(folder.name)
        elif about.days and now >= self._last_use(folder.name, index) + about.days * DAY:
            Index.create(folder, about.model_copy(update={"expired": int(now), "changes": about.changes + 1}))
            for left in (*folder.glob("graph-*"), *folder.glob("vsfb_*")):
                left.unlink(missing_ok=True)

    def change(self, identity: str, body: ChangeStore, owner: str) -> VectorStore:
        """Rename a store, or note something else about it."""
        index = self.own(identity, owner)
        changes: dict[str, Any] = {}
        if body.name is not None:
            changes["name"] = body.name
        if body.metadata is not None:
            changes["metadata"] = body.metadata
        if "expires_after" in body.model_fields_set:
            changes["days"] = body.expires_after.days if body.expires_after else None
        index.describe(**changes)
        return self.describe(identity, index)

    def uploaded(self, file_id: str, owner: str) -> tuple[FileObject, Path]:
        """A file that its owner uploaded, and where its bytes lie."""
        return self._files.get(file_id, owner), self._files.content(file_id, owner)

    def files(
        self, identity: str, owner: str, page: Page, *, status: str | None = None, batch: str | None = None
    ) -> Listed[StoreFile]:
        """Files of a store: those in a state, or those of a batch."""
        only = self._batch(identity, batch, owner)["file_ids"] if batch else None
        found = [_file(identity, document) for document in self.find(identity, owner).documents()]
        return page.of([each for each in found if status in (None, each.status) and (only is None or each.id in only)])

    def note_batch(self, identity: str, owner: str, file_ids: Sequence[str]) -> StoreFileBatch:
        """Note that files were put into a store together."""
        self.own(identity, owner)
        batch = f"vsfb_{secrets.token_hex(12)}"
        states = [self.file(identity, file_id, owner).status for file_id in dict.fromkeys(file_ids)]
        counts = {"completed": states.count("completed"), "failed": states.count("failed"), "total": len(states)}
        about = {"created_at": int(time.time()), "file_ids": list(dict.fromkeys(file_ids)), "file_counts": counts}
        path = self._root / identity / f"{batch}.json"
        hidden = path.with_name(f".{path.name}")
        hidden.write_text(json.dumps(about), "utf-8")
        hidden.replace(path)
        return self.batch(identity, batch, owner)

    def batch(self, identity: str, batch: str, owner: str) -> StoreFileBatch:
        """Files that were put into a store together."""
        found = self._batch(identity, batch, owner)
        return StoreFileBatch(
            id=batch,
            created_at=found["created_at"],
            vector_store_id=identity,
            file_counts=FileCounts.model_validate(found["file_counts"]),
        )

    def _batch(self, identity: str, batch: str, owner: str) -> dict[str, Any]:
        self.find(identity, owner)
        try:
            if identity in self.shared or not _BATCH.match(batch):
                raise FileNotFoundError
            found: dict[str, Any] = json.loads((self._root / identity / f"{batch}.json").read_text("utf-8"))
            return found
        except (OSError, ValueError):
            raise Missing(f"this store has no file batch {batch[:80]!r}") from None

    def file(self, identity: str, file_id: str, owner: str) -> StoreFile:
        """One of them."""
        return _file(identity, self._document(self.find(identity, owner), file_id))

    def label(self, identity: str, file_id: str, attributes: dict[str, Any], owner: str) -> StoreFile:
        """Give a file other attributes."""
        index = self.own(identity, owner)
        index.label(self._document(index, file_id).path, attributes)
        return self.file(identity, file_id, owner)

    def remove(self, identity: str, file_id: str, owner: str) -> Deleted:
        """Take a file out of a store; the file itself stays."""
        index = self.own(identity, owner)
        index.remove(self._document(index, file_id).path)
        return Deleted(id=file_id, object="vector_store.file.deleted")

    def text(self, identity: str, file_id: str, owner: str) -> list[str]:
        """What a file says, in passages."""
        index = self.find(identity, owner)
        return index.texts(self._document(index, file_id).path)

    def service(self, index: Index) -> Service:
        """The served model that an index was made with; raises `Fault` where it is not served."""
        for service in self._services.all():
            if service.kind == "embed" and service.digest == index.about.digest:
                return service
        words = f"This store was made with {index.about.model}, which is not served now. Add it to `allmend serve`."
        raise Fault(400, words, code="unsupported_model")

    def describe(self, identity: str, index: Index) -> VectorStore:
        """A store as it is shown."""
        documents = index.documents()
        about, last = index.now(), self._last_use(identity, index)
        ends = last + about.days * DAY if about.days else None
        over = bool(about.expired or (ends and time.time() >= ends))
        good = sum(1 for document in documents if document.passages)
        return VectorStore(
            id=identity,
            created_at=index.about.created,
            name=index.about.name,
            usage_bytes=sum(document.size for document in documents),
            file_counts=FileCounts(completed=good, failed=len(documents) - good, total=len(documents)),
            status="expired" if over else "completed",
            last_active_at=last,
            expires_after=StoreExpiry(anchor="last_active_at", days=about.days) if about.days else None,
            expires_at=about.expired or ends,
            metadata=index.about.metadata,
            model=index.about.model,
        )

    def mine(self, owner: str) -> list[str]:
        """Ids of an owner's stores."""
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
        raise Missing(f"this store has no file {file_id[:80]!r}")

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
