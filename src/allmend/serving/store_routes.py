"""The routes of `/v1/vector_stores`. A key that is narrowed to some stores sees and reaches those alone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from starlette.concurrency import run_in_threadpool

from allmend.serving import store_filling, store_search
from allmend.serving import visit as visits
from allmend.serving.faults import Fault
from allmend.serving.inside import owner_of
from allmend.serving.lists import Deleted, Listed, Page
from allmend.serving.store_api import (
    AddFile,
    AddFiles,
    ChangeStore,
    CreateStore,
    LabelFile,
    SearchPage,
    SearchRequest,
    StoreFile,
    StoreFileBatch,
    TextContent,
    VectorStore,
)
from allmend.serving.vector_stores import Stores

SCOPE = "serve:search"
Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=4096)]
Order = Annotated[Literal["asc", "desc"], Query()]
Status = Annotated[Literal["in_progress", "completed", "failed", "cancelled"] | None, Query(alias="filter")]
Wrong = dict[int | str, dict[str, Any]]


def _may(request: Request, store: str | None) -> str:
    """Whose stores are asked for; raises `Fault` 403 where the key is narrowed to others."""
    if not visits.of(request).principal.allows(SCOPE, store):
        about = f"on {store[:80]}" if store else "on all stores, which this needs"
        words = f"This key does not cover {SCOPE} {about}."
        raise Fault(403, words, type="permission_error", code="insufficient_scope")
    return owner_of(request)


def add_routes(app: FastAPI, stores: Stores, wrong: Wrong) -> None:
    """Add all of them.

    Args:
        wrong: what can go wrong, for the description of the API.
    """
    _stores(app, stores, wrong)
    _files(app, stores, wrong)
    _batches(app, stores, wrong)


def _stores(app: FastAPI, stores: Stores, wrong: Wrong) -> None:
    @app.post("/v1/vector_stores", tags=["documents"], responses=wrong)
    async def create_store(request: Request, body: CreateStore) -> VectorStore:
        """A store of files to search in."""
        owner = _may(request, None)
        store_filling.only_auto(body.chunking_strategy)
        for file_id in body.file_ids or ():
            await run_in_threadpool(stores.uploaded, file_id, owner)
        store_id = await run_in_threadpool(stores.create, body, owner)
        try:
            if body.file_ids:
                await store_filling.fill(request, stores, store_id, [AddFile(file_id=each) for each in body.file_ids])
        except BaseException:
            await run_in_threadpool(stores.delete, store_id, owner)
            raise
        return await run_in_threadpool(lambda: stores.describe(store_id, stores.find(store_id, owner)))

    @app.get("/v1/vector_stores", tags=["documents"], responses=wrong)
    def list_stores(
        request: Request, limit: Limit = 20, after: Cursor = None, before: Cursor = None, order: Order = "desc"
    ) -> Listed[VectorStore]:
        """Stores that you can search."""
        owner, principal = owner_of(request), visits.of(request).principal
        names = [name for name in (*stores.shared, *stores.mine(owner)) if principal.allows(SCOPE, name)]
        return stores.page(owner, names, Page(limit=limit, after=after, before=before, order=order))

    @app.get("/v1/vector_stores/{store_id}", tags=["documents"], responses=wrong)
    def retrieve_store(request: Request, store_id: str) -> VectorStore:
        """One of them."""
        return stores.describe(store_id, stores.find(store_id, _may(request, store_id)))

    @app.post("/v1/vector_stores/{store_id}", tags=["documents"], responses=wrong)
    def change_store(request: Request, store_id: str, body: ChangeStore) -> VectorStore:
        """Rename it."""
        return stores.change(store_id, body, _may(request, store_id))

    @app.delete("/v1/vector_stores/{store_id}", tags=["documents"], responses=wrong)
    def delete_store(request: Request, store_id: str) -> Deleted:
        """Delete it."""
        return stores.delete(store_id, _may(request, store_id))

    @app.post("/v1/vector_stores/{store_id}/search", tags=["documents"], responses=wrong)
    async def search_store(request: Request, store_id: str, body: SearchRequest) -> SearchPage:
        """Passages that say something about a question."""
        return await store_search.answer(request, stores, store_id, body)


def _files(app: FastAPI, stores: Stores, wrong: Wrong) -> None:
    at = "/v1/vector_stores/{store_id}/files"
    # In an index that follows a folder, a file's id is its path there, with slashes.
    one = f"{at}/{{file_id:path}}"

    @app.post(at, tags=["documents"], responses=wrong)
    async def add_store_file(request: Request, store_id: str, body: AddFile) -> StoreFile:
        """Put an uploaded file into a store."""
        owner = _may(request, store_id)
        await store_filling.fill(request, stores, store_id, [body])
        return await run_in_threadpool(stores.file, store_id, body.file_id, owner)

    @app.get(at, tags=["documents"], responses=wrong)
    def list_store_files(
        request: Request,
        store_id: str,
        limit: Limit = 20,
        after: Cursor = None,
        before: Cursor = None,
        order: Order = "desc",
        status: Status = None,
    ) -> Listed[StoreFile]:
        """Files of a store."""
        page = Page(limit=limit, after=after, before=before, order=order)
        return stores.files(store_id, _may(request, store_id), page, status=status)

    @app.get(f"{one}/content", tags=["documents"], responses=wrong)
    def store_file_content(request: Request, store_id: str, file_id: str) -> dict[str, Any]:
        """What a file says, in passages."""
        said = stores.text(store_id, file_id, _may(request, store_id))
        data = [TextContent(text=text).model_dump() for text in said]
        return {"object": "vector_store.file_content.page", "data": data, "has_more": False, "next_page": None}

    @app.get(one, tags=["documents"], responses=wrong)
    def retrieve_store_file(request: Request, store_id: str, file_id: str) -> StoreFile:
        """One of them."""
        return stores.file(store_id, file_id, _may(request, store_id))

    @app.post(one, tags=["documents"], responses=wrong)
    def label_store_file(request: Request, store_id: str, file_id: str, body: LabelFile) -> StoreFile:
        """Give it other attributes."""
        return stores.label(store_id, file_id, dict(body.attributes or {}), _may(request, store_id))

    @app.delete(one, tags=["documents"], responses=wrong)
    def remove_store_file(request: Request, store_id: str, file_id: str) -> Deleted:
        """Take it out of the store."""
        return stores.remove(store_id, file_id, _may(request, store_id))


def _batches(app: FastAPI, stores: Stores, wrong: Wrong) -> None:
    at = "/v1/vector_stores/{store_id}/file_batches"
    one = f"{at}/{{batch_id}}"

    @app.post(at, tags=["documents"], responses=wrong)
    async def add_store_files(request: Request, store_id: str, body: AddFiles) -> StoreFileBatch:
        """Put uploaded files into a store; they are in it when this is answered."""
        owner = _may(request, store_id)
        await store_filling.fill(request, stores, store_id, body.each)
        return await run_in_threadpool(stores.note_batch, store_id, owner, [each.file_id for each in body.each])

    @app.get(one, tags=["documents"], responses=wrong)
    def retrieve_store_batch(request: Request, store_id: str, batch_id: str) -> StoreFileBatch:
        """What became of them."""
        return stores.batch(store_id, batch_id, _may(request, store_id))

    @app.post(f"{one}/cancel", tags=["documents"], responses=wrong)
    def cancel_store_batch(request: Request, store_id: str, batch_id: str) -> StoreFileBatch:
        """What became of them: nothing is left to be cancelled."""
        return stores.batch(store_id, batch_id, _may(request, store_id))

    @app.get(f"{one}/files", tags=["documents"], responses=wrong)
    def list_store_batch_files(
        request: Request,
        store_id: str,
        batch_id: str,
        limit: Limit = 20,
        after: Cursor = None,
        before: Cursor = None,
        order: Order = "desc",
        status: Status = None,
    ) -> Listed[StoreFile]:
        """Files that were put into the store together and still are in it."""
        page = Page(limit=limit, after=after, before=before, order=order)
        return stores.files(store_id, _may(request, store_id), page, status=status, batch=batch_id)
