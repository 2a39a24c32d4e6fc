"""`allmend index`: a folder's documents, searchable by meaning and by word."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from allmend.errors import InputError, NotFound, UsageError
from allmend.home import file_name, home, root
from allmend.nouns.noun import Noun, Part
from allmend.verbs.settings import Settings

if TYPE_CHECKING:
    from allmend.documents.store import Index
    from allmend.models.fetch import Progress
    from allmend.nouns.model import Model

DEFAULT_MODEL = "all-minilm-l6-v2"
_LONGEST = 2000


class IndexSettings(Settings):
    """Settings of `allmend index`."""

    name: str | None = None
    """What the index is called; the folder's name when not given."""

    model: str | None = None
    """The embedding model; what the index was made with, or all-minilm-l6-v2."""

    ask: str | None = None
    """Search: print the passages that say most about this."""

    most: int = Field(5, ge=1, le=50)
    """Passages that a search gives."""

    rebuild: bool = False
    """Begin with an empty index and read everything anew."""


class Passage(Part):
    """A passage that was found."""

    path: str
    page: int | None = None
    heading: str | None = None
    text: str
    score: float
    """1 where meaning and words both put it first."""


class Indexed(Noun):
    """What an index holds now, and what was done for that."""

    schema_: Literal["allmend.indexed/1"] = Field("allmend.indexed/1", alias="schema")
    name: str
    folder: str | None = None
    model: str
    documents: int
    passages: int
    indexed: int = 0
    """Files that were read this time."""
    unchanged: int = 0
    removed: int = 0
    not_read: dict[str, str] = Field(default_factory=dict)
    """Files that are not in it, with why not; folders that could not be opened."""
    partly: dict[str, str] = Field(default_factory=dict)
    """Files of which something is not in it, with what."""
    seconds: float = 0.0
    found: list[Passage] = Field(default_factory=list)
    """Where something was asked: the passages, best first."""


class Indexes(Noun):
    """Indexes on this machine."""

    schema_: Literal["allmend.indexes/1"] = Field("allmend.indexes/1", alias="schema")
    indexes: list[Indexed]


def index_folder(name: str) -> Path:
    """Where an index lies."""
    return root() / "indexes" / file_name(name)


def index(
    folder: str | Path | None,
    *,
    name: str | None = None,
    model: str | None = None,
    ask: str | None = None,
    most: int = 5,
    rebuild: bool = False,
    progress: Progress | None = None,
    watch: Callable[[str, int, int], None] = lambda path, done, total: None,
) -> Indexed:
    """Index a folder, or bring its index up to date; with `ask`, search in it.

    Without a folder, the index `name` is searched as it is.

    Raises:
        NotFound: there is no such folder or index.
        UsageError: the index was made with another model, or follows another folder.
    """
    given = {"name": name, "model": model, "ask": ask, "most": most, "rebuild": rebuild}
    settings = IndexSettings.of(given)
    if folder is None and settings.name is None:
        raise UsageError("name a folder, or an index with --name", hint="Like: allmend index notes/")
    if folder is None and settings.rebuild:
        raise UsageError("--rebuild needs the folder to read", hint="Like: allmend index notes/ --rebuild")
    path = None if folder is None else Path(folder).expanduser().resolve()
    if path is not None and not path.is_dir():
        raise NotFound("there is no such folder", where=str(folder))
    called = settings.name or (path.name if path is not None else "") or "root"
    return _indexed(path, called, settings, progress, watch)


def _indexed(
    path: Path | None,
    called: str,
    settings: IndexSettings,
    progress: Progress | None,
    watch: Callable[[str, int, int], None],
) -> Indexed:
    from allmend.documents import build
    from allmend.documents.asking import ask as search
    from allmend.documents.store import About, Index
    from allmend.engines.torch.embedding.setup import build_embedder
    from allmend.models.kind import kind_of
    from allmend.models.resolve import resolve

    began = time.perf_counter()
    at = index_folder(called)
    found = _there(at, settings)
    if found is None and path is None:
        raise NotFound(f"there is no index {called!r}", hint="Make it with: allmend index FOLDER")
    if found is not None and path is not None and found.about.folder not in (None, str(path)):
        raise UsageError(
            f"the index {called!r} follows {found.about.folder}", hint="Give this one another name with --name."
        )
    chosen = resolve(settings.model or (found.about.model if found else DEFAULT_MODEL), progress)
    if kind_of(chosen) != "embed":
        raise InputError(f"{chosen.name} makes no embeddings", where="--model", hint=f"Like {DEFAULT_MODEL}.")
    if found is not None and not settings.rebuild and found.about.digest != chosen.digest:
        raise UsageError(f"the index was made with {found.about.model}", where=called, hint="--rebuild makes it anew.")
    engine = build_embedder(chosen)
    try:
        # Only now, when nothing can be wrong any more, does a rebuilt one take the old one's place.
        if found is None or settings.rebuild:
            about = About(
                name=called, model=_lasting(chosen), digest=chosen.digest, width=engine.width, folder=str(path),
                created=int(time.time()),
            )  # fmt: skip
            home("indexes")
            found = Index.create(at, about)
        changes = build.update(found, path, engine, watch) if path is not None else build.Changes()
        passages: list[Passage] = []
        if settings.ask is not None:
            (vector,) = engine.submit(engine.rows([settings.ask[:_LONGEST]], "query").tokens).result()
            passages = [
                Passage(path=hit.path, page=hit.page, heading=hit.heading, text=hit.text, score=round(hit.score, 4))
                for hit in search(found, settings.ask, vector, most=settings.most)
            ]
    finally:
        engine.close()
    return Indexed(
        name=called,
        folder=found.about.folder,
        model=found.about.model,
        documents=sum(1 for document in found.documents() if document.passages),
        passages=found.count(),
        indexed=len(changes.indexed),
        unchanged=changes.unchanged,
        removed=len(changes.removed),
        not_read=changes.not_read,
        partly=changes.partly,
        seconds=round(time.perf_counter() - began, 3),
        found=passages,
    )


def _there(at: Path, settings: IndexSettings) -> Index | None:
    """The index that is there; a broken one is none where it is to be made anew."""
    from allmend.documents.store import Index

    if not (at / "index.sqlite").is_file():
        return None
    try:
        return Index(at)
    except InputError as error:
        if settings.rebuild:
            return None
        raise InputError(error.message, where=error.where, hint="--rebuild makes it anew.") from None


def _lasting(model: Model) -> str:
    """A model as it is found again from anywhere."""
    return model.name if model.source in ("catalogue", "hub") else str(model.path)


def indexes() -> Indexes:
    """Every index that `allmend index` made; a broken one holds nothing, and says so."""
    from allmend.documents.store import Index

    found = []
    for file in sorted((root() / "indexes").glob("*/index.sqlite")):
        try:
            opened = Index(file.parent)
        except InputError as error:
            broken = {file.name: f"{error.message}; --rebuild makes it anew"}
            found.append(Indexed(name=file.parent.name, model="unknown", documents=0, passages=0, not_read=broken))
            continue
        good = [document for document in opened.documents() if document.passages]
        found.append(
            Indexed(
                name=opened.about.name,
                folder=opened.about.folder,
                model=opened.about.model,
                documents=len(good),
                passages=opened.count(),
            )
        )
    return Indexes(indexes=found)
