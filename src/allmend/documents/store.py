"""An index on disk: one SQLite file with documents, passages, their vectors and full-text search.

Vectors lie in SQLite too, as 16-bit floats, so that a document and all that is known of it change in one
transaction. Above a few ten thousand passages a graph beside it (usearch, HNSW) answers instead of a scan; it is made
from the vectors when it is missing or older than they are, and may be deleted at any time.
"""

from __future__ import annotations

import json
import math
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from allmend.documents.graph import Graph
from allmend.documents.passages import Passage
from allmend.errors import AllmendError, InputError, NotFound, Unavailable
from allmend.nouns.noun import Part

if TYPE_CHECKING:
    import numpy as np

_SCHEMA = """
CREATE TABLE about (value TEXT NOT NULL);
CREATE TABLE documents (
  id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, file_id TEXT, digest TEXT NOT NULL, size INTEGER NOT NULL,
  modified INTEGER NOT NULL, added INTEGER NOT NULL, note TEXT, attributes TEXT NOT NULL DEFAULT '{}'
);
CREATE TABLE passages (
  id INTEGER PRIMARY KEY, document INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
  place INTEGER NOT NULL, page INTEGER, heading TEXT, text TEXT NOT NULL, vector BLOB NOT NULL
);
CREATE INDEX passages_document ON passages (document);
CREATE VIRTUAL TABLE words USING fts5 (text, content='passages', content_rowid='id', tokenize='porter unicode61');
CREATE TRIGGER passages_in AFTER INSERT ON passages BEGIN
  INSERT INTO words (rowid, text) VALUES (new.id, new.text);
END;
CREATE TRIGGER passages_out AFTER DELETE ON passages BEGIN
  INSERT INTO words (words, rowid, text) VALUES ('delete', old.id, old.text);
END;
PRAGMA user_version = 1;
"""
GRAPH_FROM = 20_000
"""Passages from which on a graph answers; below, all vectors are compared, which is exact and as fast."""
_WORD = re.compile(r"\w+", re.UNICODE)


class About(Part):
    """What an index is."""

    name: str
    model: str
    """The embedding model, as it is asked for."""
    digest: str
    """The model's digest: vectors of different models say nothing of each other."""
    width: int
    folder: str | None = None
    """The folder it follows."""
    owner: str | None = None
    """Whose it is; everybody's where none is named."""
    created: int = 0
    metadata: dict[str, str] = Field(default_factory=dict)
    days: int | None = None
    """After so many without use it expires."""
    expired: int | None = None
    """When it did: nothing is in it any more."""
    changes: int = 0
    """How often what it holds was changed."""


@dataclass(frozen=True)
class Document:
    """A file that was read, or could not be."""

    path: str
    digest: str
    size: int
    modified: int
    note: str | None = None
    """Why it is not, or not all, in the index."""
    file_id: str | None = None
    attributes: dict[str, Any] | None = None
    added: int = 0
    passages: int = 0


@dataclass(frozen=True)
class Found:
    """A passage with where it stands."""

    id: int
    path: str
    file_id: str | None
    page: int | None
    heading: str | None
    text: str
    attributes: dict[str, Any]
    score: float = 0.0


class Index:
    """An index in a folder. Any thread may use it; one writes at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._file = folder, folder / "index.sqlite"
        if not self._file.is_file():
            raise NotFound("there is no index here", where=str(folder), hint="Make one with: allmend index FOLDER")
        self._writing = threading.Lock()
        self._graph = Graph(folder)
        self._matrix: tuple[str, Any, Any] | None = None
        with self._open() as database:
            self.about = self._described(self._value(database))

    @classmethod
    def create(cls, folder: Path, about: About) -> Index:
        """A new, empty one; in place of one that is there, which stays as it is until then."""
        folder.mkdir(parents=True, exist_ok=True)
        # Several processes may make the same one at once.
        hidden = folder / f".index-{uuid.uuid4().hex}.new"
        try:
            database = sqlite3.connect(hidden)
            try:
                database.executescript(_SCHEMA)
                database.execute("INSERT INTO about VALUES (?)", (about.model_dump_json(),))
                database.commit()
            finally:
                database.close()
            # What an old one left to be undone must not be done to the new one.
            (folder / "index.sqlite-journal").unlink(missing_ok=True)
            hidden.replace(folder / "index.sqlite")
        finally:
            hidden.unlink(missing_ok=True)
        return cls(folder)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            # Without `rw` SQLite makes an empty file where the index was deleted.
            database = sqlite3.connect(f"{self._file.absolute().as_uri()}?mode=rw", uri=True, timeout=60)
            try:
                database.execute("PRAGMA foreign_keys = ON")
                database.execute("PRAGMA synchronous = FULL")
                with database:
                    yield database
            finally:
                database.close()
        except sqlite3.DatabaseError as error:
            raise self._wrong(error) from None

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """A transaction that changes what is found; the count of changes tells everybody who has read it before."""
        with self._writing, self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            about = self._described(self._value(database))
            self._describe(database, about.model_copy(update={"changes": about.changes + 1}))

    def _wrong(self, error: sqlite3.DatabaseError) -> AllmendError:
        where = str(self._file)
        if not self._file.is_file():
            return NotFound("this index was deleted", where=where)
        if isinstance(error, sqlite3.OperationalError) and "no such" not in str(error):
            return Unavailable(f"the index cannot be used now: {error}", where=where)
        return InputError("this is not an index, or a broken one", where=where)

    def _value(self, database: sqlite3.Connection) -> str:
        found = database.execute("SELECT value FROM about").fetchone()
        return str(found[0]) if found else ""

    def _described(self, value: str) -> About:
        try:
            return About.model_validate_json(value)
        except ValueError:
            raise InputError("this is not an index, or a broken one", where=str(self._file)) from None

    def _describe(self, database: sqlite3.Connection, about: About) -> None:
        database.execute("UPDATE about SET value = ?", (about.model_dump_json(),))
        self.about = about

    def now(self) -> About:
        """What it says of itself at this moment, whoever changed that."""
        with self._open() as database:
            self.about = self._described(self._value(database))
        return self.about

    def documents(self) -> list[Document]:
        """All that were looked at, by path."""
        with self._open() as database:
            rows = database.execute(
                "SELECT path, digest, size, modified, note, file_id, attributes, added, "
                "(SELECT COUNT(*) FROM passages WHERE document = documents.id) FROM documents ORDER BY path"
            ).fetchall()
        return [
            Document(row[0], row[1], row[2], row[3], row[4], row[5], json.loads(row[6]), row[7], row[8]) for row in rows
        ]

    def count(self) -> int:
        """Passages."""
        with self._open() as database:
            return int(database.execute("SELECT COUNT(*) FROM passages").fetchone()[0])

    def put(self, document: Document, pieces: Sequence[Passage], vectors: np.ndarray) -> None:
        """Add a document, or replace what was known of its path, in one transaction."""
        import numpy as np

        if vectors.shape != (len(pieces), self.about.width):
            raise ValueError(f"{len(pieces)} passages and vectors of shape {vectors.shape}")
        with self._change() as database:
            database.execute("DELETE FROM documents WHERE path = ?", (document.path,))
            number = database.execute(
                "INSERT INTO documents (path, file_id, digest, size, modified, added, note, attributes) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    document.path, document.file_id, document.digest, document.size, document.modified,
                    int(time.time()), document.note, json.dumps(document.attributes or {}),
                ),
            ).lastrowid  # fmt: skip
            halves = vectors.astype(np.float16)
            database.executemany(
                "INSERT INTO passages (document, place, page, heading, text, vector) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (number, place, piece.page, piece.heading, piece.text, halves[place].tobytes())
                    for place, piece in enumerate(pieces)
                ],
            )

    def touch(self, document: Document) -> None:
        """Note a file's new time where its contents are the same."""
        with self._writing, self._open() as database:
            database.execute("UPDATE documents SET modified = ? WHERE path = ?", (document.modified, document.path))

    def remove(self, path: str) -> bool:
        """Forget a document; whether it was there."""
        with self._change() as database:
            return database.execute("DELETE FROM documents WHERE path = ?", (path,)).rowcount > 0

    def label(self, path: str, attributes: dict[str, Any]) -> bool:
        """Note other attributes of a document; whether it was there."""
        with self._change() as database:
            changed = database.execute(
                "UPDATE documents SET attributes = ? WHERE path = ?", (json.dumps(attributes), path)
            )
            return changed.rowcount > 0

    def within(self, test: Callable[[dict[str, Any]], bool]) -> set[int]:
        """Passages of the documents whose attributes pass `test`."""
        with self._open() as database:
            rows = database.execute("SELECT id, attributes FROM documents").fetchall()
            good = json.dumps([number for number, attributes in rows if test(json.loads(attributes))])
            found = database.execute(
                "SELECT id FROM passages WHERE document IN (SELECT value FROM json_each(?))", (good,)
            ).fetchall()
        return {row[0] for row in found}

    def by_word(self, text: str, most: int, among: Collection[int] | None = None) -> list[int]:
        """Passages that share words with `text`, best first (BM25)."""
        words = _words(text)
        if not words:
            return []
        query = " OR ".join(f'"{word}"' for word in words)
        only = "" if among is None else "AND rowid IN (SELECT value FROM json_each(?)) "
        given = [query, *([] if among is None else [json.dumps(list(among))]), most]
        with self._open() as database:
            rows = database.execute(f"SELECT rowid FROM words WHERE words MATCH ? {only}ORDER BY rank LIMIT ?", given)
            return [int(row[0]) for row in rows]

    def share_of_words(self, text: str, ids: Collection[int]) -> dict[int, float]:
        """How much of what `text` names stands in each of these passages, 0 to 1.

        A word counts by how few passages of the index have it (BM25's weight of a word, as Lucene writes it, which is
        never negative); one that none has counts too, for it stands in no passage.
        """
        words = _words(text)
        found, whole = dict.fromkeys(ids, 0.0), 0.0
        if not words or not found:
            return found
        chosen = json.dumps(list(found))
        with self._open() as database:
            database.execute("BEGIN")
            many = int(database.execute("SELECT COUNT(*) FROM passages").fetchone()[0])
            for word in words:
                having, among = database.execute(
                    "SELECT COUNT(*), GROUP_CONCAT(CASE WHEN rowid IN (SELECT value FROM json_each(?)) THEN rowid END) "
                    "FROM words WHERE words MATCH ?",
                    (chosen, f'"{word}"'),
                ).fetchone()
                weight = math.log1p((many - having + 0.5) / (having + 0.5))
                whole += weight
                for number in (among or "").split(",") if among else ():
                    found[int(number)] += weight
        return {number: min(sum_ / whole, 1.0) for number, sum_ in found.items()}

    def cosines(self, vector: np.ndarray, ids: Collection[int]) -> dict[int, float]:
        """Of these passages' vectors with one; a passage that is gone has none."""
        import numpy as np

        unit = _unit(vector)
        _, all_ids, matrix = self._loaded()
        self._check_width(matrix, unit)
        asked = np.fromiter(ids, dtype=np.int64, count=len(ids))
        rows = np.searchsorted(all_ids, asked)
        rows = rows[np.isin(asked, all_ids[rows[rows < len(all_ids)]])]  # Ids are in order.
        return dict(zip(all_ids[rows].tolist(), (matrix[rows] @ unit).tolist(), strict=True))

    def by_meaning(
        self, vector: np.ndarray, most: int, among: Collection[int] | None = None
    ) -> list[tuple[int, float]]:
        """(passage, cosine), best first; of the passages `among` alone where they are given."""
        import numpy as np

        unit = _unit(vector)
        version, ids, matrix = self._loaded()
        self._check_width(matrix, unit)
        if among is not None:
            chosen = np.isin(ids, np.fromiter(among, dtype=np.int64, count=len(among)))
            ids, matrix = ids[chosen], matrix[chosen]
        if not len(ids):
            return []
        graph = self._graph.over(version, ids, matrix) if among is None and len(ids) >= GRAPH_FROM else None
        if graph is not None:
            hits = graph.search(unit, min(most, len(ids)))
            return [(int(key), 1.0 - float(distance)) for key, distance in zip(hits.keys, hits.distances, strict=True)]
        scores = matrix @ unit
        best = np.argsort(-scores, kind="stable")[:most]
        return [(int(ids[place]), float(scores[place])) for place in best]

    def get(self, ids: Sequence[int]) -> dict[int, Found]:
        """Passages by number."""
        marks = ",".join("?" * len(ids))
        with self._open() as database:
            rows = database.execute(
                "SELECT p.id, d.path, d.file_id, p.page, p.heading, p.text, d.attributes FROM passages p "
                f"JOIN documents d ON d.id = p.document WHERE p.id IN ({marks})",
                list(ids),
            ).fetchall()
        return {row[0]: Found(row[0], row[1], row[2], row[3], row[4], row[5], json.loads(row[6])) for row in rows}

    def texts(self, path: str) -> list[str]:
        """A document's passages, in order."""
        with self._open() as database:
            rows = database.execute(
                "SELECT text FROM passages JOIN documents d ON d.id = document WHERE d.path = ? ORDER BY place", (path,)
            ).fetchall()
        return [row[0] for row in rows]

    def describe(self, **changes: Any) -> None:
        """Change what the index says of itself."""
        with self._writing, self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            self._describe(database, self._described(self._value(database)).model_copy(update=changes))

    def _check_width(self, matrix: Any, unit: Any) -> None:
        if matrix.shape[1] != len(unit):
            raise InputError("the index was made anew with another model", where=str(self._file))

    def _loaded(self) -> tuple[str, Any, Any]:
        """(version of the data, ids, (N, D) float32 vectors of length 1), read anew where the data changed."""
        import numpy as np

        with self._writing, self._open() as database:
            database.execute("BEGIN")
            # What an index says of itself counts its changes, whoever makes them; the file's time does not tell two
            # changes within a tick of the system's clock apart.
            version = self._value(database)
            if self._matrix is None or self._matrix[0] != version:
                self.about = self._described(version)
                rows = database.execute("SELECT id, vector FROM passages ORDER BY id").fetchall()
                ids = np.array([row[0] for row in rows], dtype=np.int64)
                flat = np.frombuffer(b"".join(row[1] for row in rows), dtype=np.float16)
                matrix = flat.reshape(len(rows), self.about.width).astype(np.float32)
                lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
                self._matrix = version, ids, matrix / np.where(lengths > 0, lengths, 1)
            return self._matrix


def _words(text: str) -> list[str]:
    """What is looked for of a question."""
    return [word for word in dict.fromkeys(_WORD.findall(text.lower())) if word.strip("_")][:32]


def _unit(vector: np.ndarray) -> Any:
    import numpy as np

    unit = np.asarray(vector, dtype=np.float32)
    return unit / (float(np.linalg.norm(unit)) or 1.0)
