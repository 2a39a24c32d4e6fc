"""An index on disk: one SQLite file with documents, passages, their vectors and full-text search.

Vectors lie in SQLite too, as 16-bit floats, so that a document and all that is known of it change in one
transaction. Above a few ten thousand passages a graph beside it (usearch, HNSW) answers instead of a scan; it is made
from the vectors when it is missing or older than they are, and may be deleted at any time.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from allmend.documents.passages import Passage
from allmend.errors import InputError, NotFound
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
        self._graph: tuple[int, Any] | None = None
        self._matrix: tuple[int, Any, Any] | None = None
        try:
            with self._open() as database:
                (value,) = database.execute("SELECT value FROM about").fetchone()
            self.about = About.model_validate_json(value)
        except (sqlite3.DatabaseError, TypeError, ValueError):
            raise InputError("this is not an index, or a broken one", where=str(self._file)) from None

    @classmethod
    def create(cls, folder: Path, about: About) -> Index:
        """A new, empty one."""
        folder.mkdir(parents=True, exist_ok=True)
        hidden = folder / ".index.sqlite.new"
        hidden.unlink(missing_ok=True)
        database = sqlite3.connect(hidden)
        try:
            database.executescript(_SCHEMA)
            database.execute("INSERT INTO about VALUES (?)", (about.model_dump_json(),))
            database.commit()
        finally:
            database.close()
        hidden.replace(folder / "index.sqlite")
        return cls(folder)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self._file, timeout=60)
        try:
            database.execute("PRAGMA foreign_keys = ON")
            database.execute("PRAGMA synchronous = FULL")
            with database:
                yield database
        finally:
            database.close()

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
        with self._writing, self._open() as database:
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
        with self._writing, self._open() as database:
            return database.execute("DELETE FROM documents WHERE path = ?", (path,)).rowcount > 0

    def by_word(self, text: str, most: int) -> list[int]:
        """Passages that share words with `text`, best first (BM25)."""
        words = list(dict.fromkeys(_WORD.findall(text.lower())))[:32]
        if not words:
            return []
        query = " OR ".join(f'"{word}"' for word in words)
        with self._open() as database:
            rows = database.execute("SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?", (query, most))
            return [int(row[0]) for row in rows]

    def by_meaning(self, vector: np.ndarray, most: int) -> list[tuple[int, float]]:
        """(passage, cosine), best first."""
        import numpy as np

        unit = np.asarray(vector, dtype=np.float32)
        unit = unit / (float(np.linalg.norm(unit)) or 1.0)
        version, ids, matrix = self._loaded()
        if not len(ids):
            return []
        graph = self._graph_of(version, ids, matrix) if len(ids) >= GRAPH_FROM else None
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
        self.about = self.about.model_copy(update=changes)
        with self._writing, self._open() as database:
            database.execute("UPDATE about SET value = ?", (self.about.model_dump_json(),))

    def _loaded(self) -> tuple[int, Any, Any]:
        """(version of the data, ids, (N, D) float32 vectors of length 1), read anew where the data changed."""
        import numpy as np

        with self._writing, self._open() as database:
            # The file changes with every commit, whoever makes it.
            version = self._file.stat().st_mtime_ns ^ self._file.stat().st_size
            if self._matrix is None or self._matrix[0] != version:
                rows = database.execute("SELECT id, vector FROM passages ORDER BY id").fetchall()
                ids = np.array([row[0] for row in rows], dtype=np.int64)
                flat = np.frombuffer(b"".join(row[1] for row in rows), dtype=np.float16)
                matrix = flat.reshape(len(rows), self.about.width).astype(np.float32)
                lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
                self._matrix = version, ids, matrix / np.where(lengths > 0, lengths, 1)
            return self._matrix

    def _graph_of(self, version: int, ids: Any, matrix: Any) -> Any | None:
        """The graph over these vectors, from disk where it is of this version; None without usearch."""
        try:
            from usearch.index import Index as Graph
        except ImportError:
            return None
        with self._writing:
            if self._graph is not None and self._graph[0] == version:
                return self._graph[1]
            path = self._folder / f"graph-{version:x}.usearch"
            try:
                graph = Graph.restore(str(path), view=True) if path.is_file() else None
            except (RuntimeError, ValueError):
                graph = None
            if graph is None:
                graph = Graph(ndim=self.about.width, metric="cos", dtype="f16")
                graph.add(ids, matrix)
                for old in self._folder.glob("graph-*.usearch"):
                    old.unlink(missing_ok=True)
                hidden = self._folder / ".graph.new"
                graph.save(str(hidden))
                hidden.replace(path)
            self._graph = version, graph
            return graph
