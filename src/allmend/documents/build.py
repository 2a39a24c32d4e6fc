"""Bringing an index up to date with a folder: new and changed files are read, those that are gone forgotten."""

from __future__ import annotations

import itertools
import json
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from allmend.compute.limited import Limited
from allmend.digests import bytes_digest
from allmend.documents.passages import Passage, passages
from allmend.documents.reading import MOST_BYTES, MOST_TEXT, READERS
from allmend.documents.store import Document, Index
from allmend.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from allmend.engines.embed import EmbedEngine

_MOST_FILES = 100_000
_AT_ONCE = 256
"""Passages that are embedded together."""
_SHORTEST = 40
"""Characters of a passage that is not cut again, however many tokens they come to."""
_COLUMNS = 120
"""Characters of a table's first line that go with its other lines."""
_NAMED = 12
"""Pages that are named where they could not be read."""
_TOO_LARGE = f"it has more than {MOST_BYTES >> 20} MiB"
Told = Callable[[str, int, int], None]
"""Called with (path, bytes done, bytes in all) of the files that are not as they were."""


@dataclass
class Changes:
    """What was done."""

    indexed: list[str] = field(default_factory=list)
    unchanged: int = 0
    removed: list[str] = field(default_factory=list)
    not_read: dict[str, str] = field(default_factory=dict)
    """Files that are not in the index, with why not; folders that could not be opened."""
    partly: dict[str, str] = field(default_factory=dict)
    """Files of which something is not, with what."""
    passages: int = 0
    """New ones."""


@dataclass(frozen=True)
class Prepared:
    """A document with all that the index takes but its vectors."""

    document: Document
    pieces: list[Passage]
    rows: list[list[int]]
    """The passages as the model reads them."""

    @property
    def tokens(self) -> int:
        """Tokens to embed."""
        return sum(map(len, self.rows))


class Reader:
    """Reads files in a process with limits; close it."""

    def __init__(self) -> None:
        self._read = Limited("allmend.documents.reading:read", memory=1 << 30, seconds=60, most=8 * MOST_TEXT)

    def passages(self, name: str, content: bytes) -> tuple[list[Passage], str | None]:
        """(passages of a file, what of it was not read); raises `InputError` where it cannot be read."""
        if len(content) > MOST_BYTES:
            raise InputError(_TOO_LARGE)
        answer = json.loads(self._read(json.dumps({"name": name}).encode() + b"\n" + content))
        headings = frozenset(answer["headings"])
        found = [piece for page, text in answer["parts"] for piece in passages(text, page=page, headings=headings)]
        if not found:
            raise InputError("there is no text in it")
        if name.lower().endswith((".csv", ".tsv")):
            columns = found[0].text.partition("\n")[0][:_COLUMNS]
            found = [found[0], *(replace(piece, heading=columns) for piece in found[1:])]
        return found, _left_out(answer["missing"], bool(answer["cut"]))

    def close(self) -> None:
        """End the process."""
        self._read.close()


def update(index: Index, folder: Path, engine: EmbedEngine, told: Told = lambda path, done, total: None) -> Changes:
    """Make the index say what the folder's files say. Stopped half-way, it goes on there the next time."""
    changes = Changes()
    known = {document.path: document for document in index.documents() if document.file_id is None}
    files, closed = _files(folder, changes)
    total = sum(_new_bytes(path, known.get(_name(path, folder))) for path in files)
    reader = Reader()
    waiting: list[Prepared] = []
    done = 0

    def store() -> None:
        nonlocal done
        size, count = sum(each.document.size for each in waiting), sum(len(each.rows) for each in waiting)
        for made, vectors in zip(
            waiting, embedded(engine, waiting, lambda rows: said(size * rows // count)), strict=True
        ):
            index.put(made.document, made.pieces, vectors)
        done += size
        waiting.clear()

    def said(more: int = 0) -> None:
        told(name, min(done + more, total), total)

    try:
        for path in files:
            name = _name(path, folder)
            said()
            try:
                made = _looked_at(reader, path, name, known.get(name), engine)
            except FileNotFoundError:
                continue  # It went while others were read; what is known of it goes below.
            before = known.pop(name, None)
            if made is None:
                _same(before, changes)
            elif not isinstance(made, Prepared):
                index.touch(made)
                _same(before, changes)
            else:
                waiting.append(_told_of(made, before, changes))
            if sum(len(each.pieces) for each in waiting) >= _AT_ONCE:
                store()
        store()
    finally:
        reader.close()
    for name in known:
        if not name.startswith(closed):
            index.remove(name)
            changes.removed.append(name)
    told("", total, total)
    return changes


def prepared(reader: Reader, document: Document, content: bytes, engine: EmbedEngine) -> Prepared:
    """A document's passages, each no longer than the model reads; none, and a note why, where it cannot be read."""
    try:
        found, note = reader.passages(document.path, content)
    except InputError as error:
        return Prepared(replace(document, note=error.message), [], [])
    pieces, rows = _fitting(found, engine)
    return Prepared(replace(document, note=note), pieces, rows)


def embedded(
    engine: EmbedEngine, waiting: Sequence[Prepared], told: Callable[[int], None] = lambda rows: None
) -> list[np.ndarray]:
    """The vectors of each document's passages.

    Args:
        told: called with how many passages are done, now and then.
    """
    import numpy as np

    rows = [row for each in waiting for row in each.rows]
    parts = [np.empty((0, engine.width), dtype=np.float32)]
    for start in range(0, len(rows), _AT_ONCE):
        parts.append(engine.submit(rows[start : start + _AT_ONCE]).result())
        told(min(start + _AT_ONCE, len(rows)))
    vectors = np.concatenate(parts)
    ends = [0]
    for each in waiting:
        ends.append(ends[-1] + len(each.rows))
    return [vectors[start:end] for start, end in itertools.pairwise(ends)]


def _new_bytes(path: Path, before: Document | None) -> int:
    """Bytes of a file that is to be read."""
    try:
        about = path.stat()
    except OSError:
        return 0
    as_it_was = (
        before is not None and before.passages and (before.size, before.modified) == (about.st_size, about.st_mtime_ns)
    )
    return 0 if as_it_was else about.st_size


def _files(folder: Path, changes: Changes) -> tuple[list[Path], tuple[str, ...]]:
    """(files that can be read, sorted; beginnings of paths below folders that cannot be opened).

    Hidden ones and links are left alone.
    """
    found: list[Path] = []
    closed: list[str] = []

    def no_entry(error: OSError) -> None:
        name = _name(Path(error.filename), folder)
        changes.not_read[name] = f"this folder cannot be opened: {error.strerror}; what was indexed of it stays"
        closed.append("" if name == "." else f"{name}/")

    for where, folders, names in os.walk(folder, onerror=no_entry):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(where) / name
            if name.startswith(".") or path.is_symlink() or not path.is_file():
                continue
            if path.suffix.lower().lstrip(".") not in READERS:
                changes.not_read[_name(path, folder)] = "this kind of file is not read"
                continue
            found.append(path)
            if len(found) > _MOST_FILES:
                raise InputError(f"there are more than {_MOST_FILES} files", where=str(folder))
    return found, tuple(closed)


def _name(path: Path, folder: Path) -> str:
    """A file's path in the index: text, also where the bytes of its name are none."""
    return os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")


def _looked_at(
    reader: Reader, path: Path, name: str, before: Document | None, engine: EmbedEngine
) -> Prepared | Document | None:
    """What is new of a file: None where nothing is, a document where only its time is, else all of it.

    What could not be read is tried again each time: the cause may have been this machine's.

    Raises:
        FileNotFoundError: it is not there any more.
    """
    about = path.stat()
    document = Document(name, "", about.st_size, about.st_mtime_ns)
    if before is not None and before.passages and (before.size, before.modified) == (document.size, document.modified):
        return None
    try:
        content = _content(path)
    except FileNotFoundError:
        raise
    except (InputError, OSError) as error:
        note = error.message if isinstance(error, InputError) else f"it cannot be opened: {error.strerror}"
        return Prepared(replace(document, note=note), [], [])
    document = replace(document, digest=bytes_digest(content), size=len(content))
    if before is not None and before.passages and before.digest == document.digest:
        return document
    return prepared(reader, document, content, engine)


def _content(path: Path) -> bytes:
    """A file's bytes; what took its place since it was listed, a link or a pipe, is not opened or waited for."""
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC"):  # Not every system has all of them.
        flags |= getattr(os, name, 0)
    with os.fdopen(os.open(path, flags), "rb") as handle:
        about = os.fstat(handle.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise InputError("it is no file any more")
        content = b"" if about.st_size > MOST_BYTES else handle.read(MOST_BYTES + 1)
    if about.st_size > MOST_BYTES or len(content) > MOST_BYTES:
        raise InputError(_TOO_LARGE)
    return content


def _left_out(missing: Sequence[int], cut: bool) -> str | None:
    """What of a file was not read, in words."""
    words = []
    if missing:
        named = ", ".join(map(str, missing[:_NAMED])) + (" and more" if len(missing) > _NAMED else "")
        words.append(f"page{'s' if len(missing) > 1 else ''} {named} cannot be read")
    if cut:
        words.append("only its beginning is in the index")
    return "; ".join(words) or None


def _fitting(pieces: Sequence[Passage], engine: EmbedEngine) -> tuple[list[Passage], list[list[int]]]:
    """Passages that the model reads to their end, with their tokens: those that are too long are cut in two.

    A line of prose has four characters a token, one of figures or of Chinese hardly more than one.
    """
    rows = engine.rows([_read_as(piece) for piece in pieces])
    too_long = set(rows.cut)
    made: list[Passage] = []
    tokens: list[list[int]] = []
    for number, piece in enumerate(pieces):
        if number not in too_long or len(piece.text) < 2 * _SHORTEST:
            made.append(piece)
            tokens.append(rows.tokens[number])
            continue
        halves = passages(piece.text, page=piece.page, size=len(piece.text) // 2, overlap=0, headings=())
        more, their = _fitting([replace(half, heading=piece.heading) for half in halves], engine)
        made += more
        tokens += their
    return made, tokens


def _same(before: Document | None, changes: Changes) -> None:
    changes.unchanged += 1
    if before is not None and before.note is not None:
        changes.partly[before.path] = before.note


def _told_of(made: Prepared, before: Document | None, changes: Changes) -> Prepared:
    document = made.document
    if made.pieces:
        changes.indexed.append(document.path)
        changes.passages += len(made.pieces)
        if document.note is not None:
            changes.partly[document.path] = document.note
    else:
        changes.not_read[document.path] = document.note or ""
        changes.unchanged += before is not None and not before.passages and before.digest == document.digest
    return made


def _read_as(piece: Passage) -> str:
    """A passage as it is embedded: under its heading."""
    return piece.text if piece.heading is None or piece.heading in piece.text else f"{piece.heading}\n{piece.text}"
