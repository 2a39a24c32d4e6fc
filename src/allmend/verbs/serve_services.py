"""What `allmend serve` offers beside text: models of other kinds, indexes of documents, norms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allmend.errors import NotFound, UsageError, nearest
from allmend.nouns.choice import Choice

if TYPE_CHECKING:
    from allmend.documents.store import Index
    from allmend.models.fetch import Progress
    from allmend.models.kind import Kind
    from allmend.nouns.model import Model
    from allmend.serving.registry import Registry

Note = Callable[[str, Choice], None]


def load_service(model: Model, kind: Kind, *, dtype: str | None = None, note: Note = lambda name, choice: None) -> Any:
    """An engine of a model that does not write text, as the protocol of its kind has it.

    Raises:
        InputError: the model cannot be used.
        Unavailable: a package that it needs is not installed.
    """
    if kind == "embed":
        from allmend.engines.torch.embedding.setup import build_embedder

        return build_embedder(model, dtype=dtype, chosen=lambda choice: note(model.name, choice))
    if kind == "rank":
        from allmend.engines.torch.embedding.pairs import PairScorer

        return PairScorer(model)
    if kind == "transcribe":
        from allmend.engines.speech.whisper import WhisperEngine

        note(model.name, Choice(name="weights", value="int8", reason="what CTranslate2 computes fastest here"))
        return WhisperEngine(model.path)
    from allmend.engines.speech.piper import PiperVoice

    voice = PiperVoice(model.path)
    note(model.name, Choice(name="program", value="piper", reason=voice.program))
    return voice


def open_indexes(
    wanted: Sequence[str], registry: Registry, *, progress: Progress | None = None, note: Note
) -> dict[str, Index]:
    """Indexes as `NAME` or `NAME=FOLDER`, brought up to date, with the models they need in service.

    Raises:
        NotFound: there is no index or folder of that name.
    """
    from allmend.documents.store import Index
    from allmend.verbs.index import index, index_folder, indexes

    found: dict[str, Index] = {}
    for text in wanted:
        name, given, folder = text.partition("=")
        if not name or (given and not folder):
            raise UsageError(f"{text!r} is not NAME or NAME=FOLDER", where="--index")
        if given:
            if not Path(folder).expanduser().is_dir():
                raise NotFound(f"there is no folder {folder!r}", where="--index")
            done = index(folder, name=name, progress=progress)
            reason = f"{done.indexed} read, {done.unchanged} as before, {len(done.not_read)} not read"
            note(name, Choice(name="passages", value=done.passages, reason=reason))
        elif not (index_folder(name) / "index.sqlite").is_file():
            known = [each.name for each in indexes().indexes]
            hint = nearest(name, known) or "Make it with: allmend index FOLDER"
            raise NotFound(f"there is no index {name!r}", where="--index", hint=hint)
        found[name] = Index(index_folder(name))
        serve_model_of(found[name], registry, progress=progress, note=note)
    return found


def serve_model_of(found: Index, registry: Registry, *, progress: Progress | None = None, note: Note) -> None:
    """Put the model that an index was made with into service, if it is not."""
    from allmend.models.kind import kind_of
    from allmend.models.resolve import resolve

    about = found.about
    if any(service.digest == about.digest for service in registry.services.all()):
        return
    model = resolve(about.model, progress)
    if model.digest != about.digest:
        raise UsageError(
            f"the index {about.name!r} was made with another {about.model} than the one that is here",
            hint="Make it again: allmend index FOLDER --rebuild",
        )
    registry.services.add(model, kind_of(model), load_service(model, "embed", note=note))
    note(model.name, Choice(name="served", value=model.name, reason=f"the index {about.name!r} needs it"))
