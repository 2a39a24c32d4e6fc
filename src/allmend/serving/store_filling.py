"""Uploaded files into a vector store, on the account of whoever asks: the tokens of their passages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from allmend.digests import bytes_digest
from allmend.documents import build
from allmend.documents.reading import MOST_BYTES
from allmend.documents.store import Document, Index
from allmend.serving import visit as visits
from allmend.serving.charge import charged
from allmend.serving.faults import Fault, unsupported
from allmend.serving.files import FileObject
from allmend.serving.inside import owner_of
from allmend.serving.store_api import AddFile

if TYPE_CHECKING:
    from allmend.engines.embed import EmbedEngine
    from allmend.serving.vector_stores import Stores


async def fill(request: Request, stores: Stores, identity: str, bodies: Sequence[AddFile]) -> None:
    """Put files into a store, one after the other; one that cannot be read is there too, and says why.

    Where a limit of tokens is reached on the way, the files after it are not read, and say so.

    Raises:
        Fault: not even the first is within the limits, or the store's model is not served.
        NotFound: there is no such store, or one of the files is not there.
    """
    owner = owner_of(request)
    index = await run_in_threadpool(stores.own, identity, owner)
    given = [(body, *await run_in_threadpool(stores.uploaded, body.file_id, owner)) for body in bodies]
    for body in bodies:
        only_auto(body.chunking_strategy)
    service = stores.service(index)
    visit = visits.of(request)
    visit.route = "/v1/vector_stores/files"  # Without the store's id: usage is summed by route.
    reader = build.Reader()
    stopped: Fault | None = None
    try:
        # Reading files takes seconds, minutes even: who asks for an embedding neither waits behind that nor is told so.
        queue = f"{service.name}/files"
        async with charged(request, "serve:search", service.name, resource=identity, queue=queue) as charge:
            for place, (body, about, path) in enumerate(given):
                made = _empty(about, body, str(stopped)) if stopped else None
                if made is None:
                    made = await run_in_threadpool(_read, reader, about, path, body, service.engine)
                    try:
                        visit.reserve(made.tokens)
                    except Fault as fault:
                        if place == 0:
                            raise
                        stopped = fault
                        made = _empty(about, body, str(fault))
                await run_in_threadpool(_keep, index, made, service.engine)
                charge.prompt += made.tokens
    finally:
        await run_in_threadpool(reader.close)


def only_auto(strategy: dict[str, JsonValue] | None) -> None:
    """Raise `Fault` for passages of another size than ours."""
    if strategy is not None and strategy.get("type") != "auto":
        raise unsupported("a chunking_strategy other than 'auto'", "chunking_strategy")


def _document(about: FileObject, body: AddFile, digest: str) -> Document:
    attributes: dict[str, object] = dict(body.attributes or {})
    return Document(f"{about.id}/{about.filename}", digest, about.bytes, 0, None, about.id, attributes)


def _empty(about: FileObject, body: AddFile, why: str) -> build.Prepared:
    return build.Prepared(replace(_document(about, body, ""), note=why), [], [])


def _read(reader: build.Reader, about: FileObject, path: Path, body: AddFile, engine: EmbedEngine) -> build.Prepared:
    if about.bytes > MOST_BYTES:
        return _empty(about, body, f"it has more than {MOST_BYTES >> 20} MiB")
    try:
        content = path.read_bytes()
    except FileNotFoundError:  # It was deleted while others were read.
        return _empty(about, body, "it was deleted")
    return build.prepared(reader, _document(about, body, bytes_digest(content)), content, engine)


def _keep(index: Index, made: build.Prepared, engine: EmbedEngine) -> None:
    (vectors,) = build.embedded(engine, [made])
    index.put(made.document, made.pieces, vectors)
