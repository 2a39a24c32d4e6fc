"""Bringing an index up to date with a folder: new and changed files are read, those that are gone forgotten."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from allmend.compute.limited import Limited
from allmend.digests import file_digest
from allmend.documents.passages import Passage, passages
from allmend.documents.reading import MOST_BYTES, MOST_TEXT, READERS
from allmend.documents.store import Document, Index
from allmend.errors import InputError

if TYPE_CHECKING:
    from allmend.engines.embed import EmbedEngine

_MOST_FILES = 100_000
_AT_ONCE = 256
"""Passages that are embedded together."""
Told = Callable[[str, int, int], None]
"""Called with (path, files done, files in all)."""


@dataclass
class Changes:
    """What was done."""

    indexed: list[str] = field(default_factory=list)
    unchanged: int = 0
    removed: list[str] = field(default_factory=list)
    not_read: dict[str, str] = field(default_factory=dict)
    """Files that are not in the index, with why not."""
    cut: list[str] = field(default_factory=list)
    """Files of which only the beginning is."""
    passages: int = 0
    """New ones."""


class Reader:
    """Reads files in a process with limits; close it."""

    def __init__(self) -> None:
        self._read = Limited("allmend.documents.reading:read", memory=1 << 30, seconds=60, most=8 * MOST_TEXT)

    def passages(self, name: str, content: bytes) -> tuple[list[Passage], bool]:
        """(passages of a file, whether its end was left out); raises `InputError` where it cannot be read."""
        if len(content) > MOST_BYTES:
            raise InputError(f"it has more than {MOST_BYTES >> 20} MiB")
        answer = json.loads(self._read(json.dumps({"name": name}).encode() + b"\n" + content))
        found = [piece for page, text in answer["parts"] for piece in passages(text, page=page)]
        return found, bool(answer["cut"])

    def close(self) -> None:
        """End the process."""
        self._read.close()


def update(index: Index, folder: Path, engine: EmbedEngine, told: Told = lambda path, done, total: None) -> Changes:
    """Make the index say what the folder's files say. Stopped half-way, it goes on there the next time."""
    changes = Changes()
    known = {document.path: document for document in index.documents() if document.file_id is None}
    files = list(_files(folder, changes))
    reader = Reader()
    waiting: list[tuple[Document, list[Passage]]] = []
    try:
        for number, path in enumerate(files):
            name = path.relative_to(folder).as_posix()
            told(name, number, len(files))
            document = _document(path, name)
            before = known.pop(name, None)
            if before is not None and (before.size, before.modified) == (document.size, document.modified):
                _same(before, changes)
                continue
            document = Document(name, file_digest(path), document.size, document.modified)
            if before is not None and before.digest == document.digest:
                index.touch(document)
                _same(before, changes)
                continue
            waiting.append(_read(reader, path, document, changes))
            if sum(len(pieces) for _, pieces in waiting) >= _AT_ONCE:
                _store(index, waiting, engine, changes)
        _store(index, waiting, engine, changes)
    finally:
        reader.close()
    for name in known:
        index.remove(name)
        changes.removed.append(name)
    told("", len(files), len(files))
    return changes


def add_file(
    index: Index,
    name: str,
    content: bytes,
    engine: EmbedEngine,
    *,
    digest: str,
    file_id: str,
    attributes: dict[str, object],
) -> int:
    """Put one file into an index; its passages. Raises `InputError` where it cannot be read."""
    reader = Reader()
    try:
        pieces, cut = reader.passages(name, content)
    finally:
        reader.close()
    note = "only its beginning is in the index" if cut else None
    document = Document(f"{file_id}/{name}", digest, len(content), 0, note, file_id, dict(attributes))
    vectors = engine.submit(engine.rows([_read_as(piece) for piece in pieces]).tokens).result()
    index.put(document, pieces, vectors)
    return len(pieces)


def _files(folder: Path, changes: Changes) -> Iterator[Path]:
    """Files that can be read, sorted; hidden ones and links are left alone."""
    count = 0
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(where) / name
            if name.startswith(".") or path.is_symlink() or not path.is_file():
                continue
            if path.suffix.lower().lstrip(".") not in READERS:
                changes.not_read[path.relative_to(folder).as_posix()] = "this kind of file is not read"
                continue
            count += 1
            if count > _MOST_FILES:
                raise InputError(f"there are more than {_MOST_FILES} files", where=str(folder))
            yield path


def _document(path: Path, name: str) -> Document:
    about = path.stat()
    return Document(name, "", about.st_size, about.st_mtime_ns)


def _same(before: Document, changes: Changes) -> None:
    changes.unchanged += 1
    if before.note is not None and before.passages == 0:
        changes.not_read[before.path] = before.note
    elif before.note is not None:
        changes.cut.append(before.path)


def _read(reader: Reader, path: Path, document: Document, changes: Changes) -> tuple[Document, list[Passage]]:
    """A document with its passages; none, and why, where it cannot be read."""
    note: str | None = None
    pieces: list[Passage] = []
    try:
        if document.size > MOST_BYTES:
            raise InputError(f"it has more than {MOST_BYTES >> 20} MiB")
        pieces, cut = reader.passages(document.path, path.read_bytes())
        if cut:
            note = "only its beginning is in the index"
            changes.cut.append(document.path)
        elif not pieces:
            raise InputError("there is no text in it")
    except (InputError, OSError) as error:
        note = error.message if isinstance(error, InputError) else str(error.strerror)
        changes.not_read[document.path] = note
    return Document(document.path, document.digest, document.size, document.modified, note), pieces


def _store(index: Index, waiting: list[tuple[Document, list[Passage]]], engine: EmbedEngine, changes: Changes) -> None:
    texts = [_read_as(piece) for _, pieces in waiting for piece in pieces]
    vectors = engine.submit(engine.rows(texts).tokens).result()
    start = 0
    for document, pieces in waiting:
        index.put(document, pieces, vectors[start : start + len(pieces)])
        start += len(pieces)
        if pieces:
            changes.indexed.append(document.path)
            changes.passages += len(pieces)
    waiting.clear()


def _read_as(piece: Passage) -> str:
    """A passage as it is embedded: under its heading."""
    return piece.text if piece.heading is None or piece.heading in piece.text else f"{piece.heading}\n{piece.text}"
