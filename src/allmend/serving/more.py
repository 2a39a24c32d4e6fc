"""Routes beside text: embeddings, ranking, speech, files, batches, moderations, document search."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import FastAPI, File, Form, Query, Request, UploadFile
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, Response

from allmend.errors import nearest
from allmend.home import root
from allmend.serving import audio, edges, embeddings, moderations, rerank, store_routes
from allmend.serving import visit as visits
from allmend.serving.audio import SpeechRequest, TextFormat, Transcription, VoiceList
from allmend.serving.batch_api import Batch, BatchRequest
from allmend.serving.batch_runner import Runner
from allmend.serving.batches import Batches
from allmend.serving.embeddings import EmbeddingList, EmbeddingRequest
from allmend.serving.faults import Fault, FaultBody, unsupported
from allmend.serving.files import Expiry, FileObject, Files, Purpose
from allmend.serving.inside import owner_of, principal_of
from allmend.serving.lists import Deleted, Listed, Page
from allmend.serving.moderations import Moderation, ModerationRequest
from allmend.serving.registry import Registry
from allmend.serving.rerank import RerankAnswer, RerankRequest
from allmend.serving.responses import ModelCard
from allmend.serving.store_api import CreateStore
from allmend.serving.tidying import KEEP, tidy
from allmend.serving.uploads import CompleteUpload, CreateUpload, Upload, UploadPart, Uploads
from allmend.serving.vector_stores import Stores

if TYPE_CHECKING:
    from allmend.documents.store import Index
    from allmend.verdicts.norms import NormsFile

_WORDS = {
    400: "The request cannot be served as it is",
    401: "The key is missing or wrong",
    403: "Not allowed",
    404: "There is no such thing",
    408: "The deadline that the request named has passed",
    413: "The body is too large",
    429: "A limit of the key is reached, or the queue is too long",
    500: "The model failed",
    503: "The server is shutting down, or a program is missing",
    507: "The server's disk is nearly full",
}
_WRONG: dict[int | str, dict[str, Any]] = {
    status: {"model": FaultBody, "description": words} for status, words in _WORDS.items()
}
FIELDS: dict[str, Any] = {
    "/v1/embeddings": EmbeddingRequest.model_fields,
    "/v1/rerank": RerankRequest.model_fields,
    "/v1/moderations": ModerationRequest.model_fields,
    "/v1/audio/speech": SpeechRequest.model_fields,
    "/v1/batches": BatchRequest.model_fields,
    "/v1/uploads": CreateUpload.model_fields,
    "/v1/vector_stores": CreateStore.model_fields,
}
"""Fields of the bodies, for naming the nearest one of a misspelt one."""


_JOINED = 2
"""Uploads whose parts are joined at once: eight gigabytes take a thread for a minute, and threads are everybody's."""
_NOT_OFFERED = ("include", "chunking_strategy", "known_speaker_names", "known_speaker_references")
"""Fields of OpenAI's forms that nothing here can follow."""


@dataclass
class Kept:
    """What the routes keep, and the owner's norms."""

    norms: NormsFile | None = None
    indexes: dict[str, Index] = field(default_factory=dict)
    """Indexes that everybody may search, by name."""
    folder: Path | None = None
    """Where files, batches and vector stores lie; `ALLMEND_HOME/serve` when not given."""
    seconds: float = KEEP
    """After which files of batches, and batches that ended, are deleted where nobody named a time; 0 for never."""


def add_routes(app: FastAPI, registry: Registry, kept: Kept | None = None) -> None:
    """Add all of them."""
    kept = kept or Kept()
    place = kept.folder or root() / "serve"
    files = Files(place / "files", kept.seconds)
    batches = Batches(place / "batches", files)
    stores = registry.stores = Stores(place / "vector_stores", files, registry.services, kept.indexes)
    uploads = Uploads(place / "uploads", files)
    sweeps = (uploads.sweep, batches.sweep, stores.sweep)  # That of uploads sweeps files too.
    runner = _run_batches(app, registry, batches, sweeps)
    _models(app, registry, kept.norms)
    _audio(app, registry)
    _files(app, files)
    _uploads(app, uploads)
    _batches(app, batches, runner)
    store_routes.add_routes(app, stores, _WRONG)


def _run_batches(
    app: FastAPI, registry: Registry, batches: Batches, sweeps: Sequence[Callable[[], object]]
) -> Callable[[], None]:
    """Work through batches, and tidy up, as long as the server runs; gives what wakes the work up."""
    runners: list[Runner] = []
    before = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(inner: FastAPI) -> AsyncIterator[Any]:
        async with before(inner) as state:
            runner = Runner(app, registry, batches, _standing_for)
            runners.append(runner)
            tasks = [asyncio.create_task(runner.run()), asyncio.create_task(tidy(sweeps))]
            try:
                yield state
            finally:
                runners.remove(runner)
                for task in tasks:
                    task.cancel()
                for task in tasks:
                    with contextlib.suppress(asyncio.CancelledError):
                        await task

    app.router.lifespan_context = lifespan

    def wake() -> None:
        for runner in runners:
            runner.wake()

    return wake


def _standing_for(key: str) -> Any:
    from allmend.access import keys
    from allmend.serving.desk import WORD

    return WORD if key == WORD.key else keys.standing_for(key)


def cards(registry: Registry) -> list[ModelCard]:
    """What is served beside text, for the list of models."""
    return [
        ModelCard(
            id=service.name,
            created=service.created,
            owned_by="allmend",
            root=service.source,
            max_model_len=service.limit,
            digest=service.digest,
            template="",
            kind=service.kind,
        )
        for service in registry.services.all()
    ]


def _models(app: FastAPI, registry: Registry, norms: NormsFile | None) -> None:
    @app.post("/v1/embeddings", tags=["embeddings"], response_model=EmbeddingList, responses=_WRONG)
    async def create_embeddings(request: Request, body: EmbeddingRequest) -> Response:
        """Texts or tokens to vectors."""
        return await embeddings.answer(request, body, registry)

    # Clients' types have no place for a document that is null.
    ranked: dict[str, Any] = {"tags": ["embeddings"], "responses": _WRONG, "response_model_exclude_none": True}

    @app.post("/v1/rerank", **ranked)
    @app.post("/v2/rerank", **ranked, include_in_schema=False)
    @app.post("/rerank", **ranked, include_in_schema=False)
    async def rank(request: Request, body: RerankRequest) -> RerankAnswer:
        """Documents by how much they say about a question."""
        return await rerank.answer(request, body, registry)

    @app.post("/v1/moderations", tags=["text"], responses=_WRONG)
    async def moderate(request: Request, body: ModerationRequest) -> Moderation:
        """Texts against the owner's norms."""
        return await moderations.answer(request, body, norms)


def _audio(app: FastAPI, registry: Registry) -> None:
    heard: dict[int | str, dict[str, Any]] = {
        **_WRONG,
        200: {"description": "The text, in the format asked for", "model": Transcription},
    }

    @app.post("/v1/audio/transcriptions", tags=["audio"], response_model=None, responses=heard)
    async def transcriptions(
        request: Request,
        file: Annotated[UploadFile, File()],
        model: Annotated[str, Form(min_length=1, max_length=1024)],
        language: Annotated[str | None, Form(max_length=32)] = None,
        prompt: Annotated[str | None, Form(max_length=4096)] = None,
        response_format: Annotated[TextFormat | None, Form()] = None,
        temperature: Annotated[float | None, Form(ge=0, le=1)] = None,
        granularities: Annotated[
            list[Literal["word", "segment"]] | None, Form(alias="timestamp_granularities[]", max_length=2)
        ] = None,
        stream: Annotated[bool | None, Form()] = None,
        chunking_strategy: Annotated[Literal["auto"] | None, Form()] = None,
    ) -> Response:
        """Speech to text, in the language spoken."""
        await _only(
            request, "file", "model", "language", "prompt", "response_format", "temperature",
            "timestamp_granularities[]", "stream", "chunking_strategy",
        )  # fmt: skip
        form = {
            "model": model, "language": language, "prompt": prompt, "response_format": response_format,
            "temperature": temperature, "granularities": granularities, "stream": stream,
        }  # fmt: skip
        return await audio.transcribe(request, registry, file, form, translate=False)

    @app.post("/v1/audio/translations", tags=["audio"], response_model=None, responses=heard)
    async def translations(
        request: Request,
        file: Annotated[UploadFile, File()],
        model: Annotated[str, Form(min_length=1, max_length=1024)],
        prompt: Annotated[str | None, Form(max_length=4096)] = None,
        response_format: Annotated[TextFormat | None, Form()] = None,
        temperature: Annotated[float | None, Form(ge=0, le=1)] = None,
    ) -> Response:
        """Speech in any language to English text."""
        await _only(request, "file", "model", "prompt", "response_format", "temperature")
        form = {
            "model": model, "prompt": prompt, "response_format": response_format, "temperature": temperature
        }  # fmt: skip
        return await audio.transcribe(request, registry, file, form, translate=True)

    sounds = {"description": "The sound", "content": {"audio/mpeg": {}, "audio/wav": {}}}

    @app.get("/v1/audio/voices", tags=["audio"], responses={key: _WRONG[key] for key in (401, 403)})
    async def list_voices(request: Request) -> VoiceList:
        """Voices to ask for."""
        principal = visits.of(request).principal
        return audio.voices(registry, lambda model: bool(principal.allows("serve:audio", model)))

    @app.post("/v1/audio/speech", tags=["audio"], response_model=None, responses={**_WRONG, 200: sounds})
    async def speech(request: Request, body: SpeechRequest) -> Response:
        """Text to speech."""
        return await audio.speak(request, body, registry)


def _files(app: FastAPI, files: Files) -> None:
    @app.post("/v1/files", tags=["files"], responses=_WRONG)
    async def upload(
        request: Request,
        file: Annotated[UploadFile, File()],
        purpose: Annotated[Purpose, Form()],
        anchor: Annotated[Literal["created_at"] | None, Form(alias="expires_after[anchor]")] = None,
        seconds: Annotated[int | None, Form(alias="expires_after[seconds]", ge=3600, le=30 * 24 * 3600)] = None,
    ) -> FileObject:
        """Leave a file here."""
        await _only(request, "file", "purpose", "expires_after[anchor]", "expires_after[seconds]")
        if (anchor is None) != (seconds is None):
            raise Fault(400, "expires_after has an anchor and seconds.", param="expires_after", code="invalid_value")
        expires = Expiry(anchor=anchor, seconds=seconds) if anchor is not None and seconds is not None else None
        kept = partial(files.add, name=file.filename or "", purpose=purpose, owner=owner_of(request), expires=expires)
        return await run_in_threadpool(kept, file.file)

    @app.get("/v1/files", tags=["files"], responses=_WRONG)
    def list_files(
        request: Request,
        purpose: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
        after: Annotated[str | None, Query(max_length=200)] = None,
        order: Annotated[Literal["asc", "desc"], Query()] = "desc",
    ) -> Listed[FileObject]:
        """Your files."""
        return files.page(owner_of(request), Page(limit=limit, after=after, order=order), purpose)

    @app.get("/v1/files/{file_id}", tags=["files"], responses=_WRONG)
    def retrieve_file(request: Request, file_id: str) -> FileObject:
        """One of them."""
        return files.get(file_id, owner_of(request))

    @app.delete("/v1/files/{file_id}", tags=["files"], responses=_WRONG)
    def delete_file(request: Request, file_id: str) -> Deleted:
        """Delete it."""
        return files.delete(file_id, owner_of(request))

    content = {"description": "The bytes", "content": {"application/octet-stream": {}}}

    @app.get(
        "/v1/files/{file_id}/content", tags=["files"], response_class=FileResponse, responses={**_WRONG, 200: content}
    )
    def file_content(request: Request, file_id: str) -> Response:
        """What is in it."""
        path = files.content(file_id, owner_of(request))
        if edges.is_head(request.scope):  # Nobody is to read gigabytes that nobody is sent.
            length = {"content-length": str(path.stat().st_size), "accept-ranges": "bytes"}
            return Response(headers=length, media_type="application/octet-stream")
        return FileResponse(path, media_type="application/octet-stream")


def _uploads(app: FastAPI, uploads: Uploads) -> None:
    @app.post("/v1/uploads", tags=["files"], responses=_WRONG)
    def create_upload(request: Request, body: CreateUpload) -> Upload:
        """Begin a large file, which comes in parts."""
        return uploads.create(body, owner_of(request))

    @app.post("/v1/uploads/{upload_id}/parts", tags=["files"], responses=_WRONG)
    async def add_upload_part(request: Request, upload_id: str, data: Annotated[UploadFile, File()]) -> UploadPart:
        """Leave a part of it here."""
        await _only(request, "data")
        return await run_in_threadpool(uploads.add, upload_id, data.file, owner_of(request))

    joining = asyncio.Semaphore(_JOINED)

    @app.post("/v1/uploads/{upload_id}/complete", tags=["files"], responses=_WRONG)
    async def complete_upload(request: Request, upload_id: str, body: CompleteUpload) -> Upload:
        """Make its parts a file."""
        async with joining:
            return await run_in_threadpool(uploads.complete, upload_id, body, owner_of(request))

    @app.post("/v1/uploads/{upload_id}/cancel", tags=["files"], responses=_WRONG)
    def cancel_upload(request: Request, upload_id: str) -> Upload:
        """Forget it."""
        return uploads.cancel(upload_id, owner_of(request))


async def _only(request: Request, *known: str) -> None:
    """Raise `Fault` for a field of a form that is not known: a misspelt one must not pass silently."""
    for name in await request.form():
        if name not in known:
            if name.partition("[")[0] in _NOT_OFFERED:
                raise unsupported(name[:80], name[:80])
            hint = nearest(name, known, 1)
            words = f"Unrecognized request argument supplied: {name[:80]}"
            raise Fault(400, f"{words}. {hint}" if hint else words, param=name[:80], code="unknown_parameter")


def _batches(app: FastAPI, batches: Batches, wake: Callable[[], None]) -> None:
    @app.post("/v1/batches", tags=["batches"], responses=_WRONG)
    async def create_batch(request: Request, body: BatchRequest) -> Batch:
        """Have a file of requests worked through when nobody waits."""
        made = await run_in_threadpool(batches.create, body, owner_of(request), principal_of(request))
        wake()
        return made

    @app.get("/v1/batches", tags=["batches"], responses=_WRONG)
    def list_batches(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: Annotated[str | None, Query(max_length=200)] = None,
    ) -> Listed[Batch]:
        """Your batches."""
        return batches.page(owner_of(request), Page(limit=limit, after=after))

    @app.get("/v1/batches/{batch_id}", tags=["batches"], responses=_WRONG)
    def retrieve_batch(request: Request, batch_id: str) -> Batch:
        """How far it is."""
        return batches.get(batch_id, owner_of(request))

    @app.post("/v1/batches/{batch_id}/cancel", tags=["batches"], responses=_WRONG)
    async def cancel_batch(request: Request, batch_id: str) -> Batch:
        """Begin no more of its requests."""
        cancelled = await run_in_threadpool(batches.cancel, batch_id, owner_of(request))
        wake()
        return cancelled
