"""A graph (usearch, HNSW) over an index's vectors, beside it on disk; it may be deleted at any time."""

from __future__ import annotations

import hashlib
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any


class Graph:
    """The graphs of one index: one for every version of its vectors, the newest alone kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._making = threading.Lock()
        self._made: tuple[str, Any] | None = None
        self._asked = ""

    def over(self, version: str, ids: Any, matrix: Any) -> Any | None:
        """The graph over these vectors (N, D), from disk where it is of this version.

        None without usearch, for the first question after a change, and while one is made.
        """
        try:
            from usearch.index import Index as Made
        except ImportError:
            return None
        made = self._made
        if made is not None and made[0] == version:
            return made[1]
        if not self._making.acquire(blocking=False):
            return None  # Making one takes a minute for a hundred thousand: others compare all meanwhile.
        try:
            if self._made is not None and self._made[0] == version:
                return self._made[1]
            path = self._folder / f"graph-{hashlib.sha256(version.encode()).hexdigest()[:16]}.usearch"
            try:
                graph = Made.restore(str(path), view=True) if path.is_file() else None
            except (RuntimeError, ValueError):
                graph = None
            if graph is None and self._asked != version:
                # While an index grows, every question meets another version; making a graph for each takes longer.
                self._asked = version
                return None
            if graph is None:
                graph = Made(ndim=matrix.shape[1], metric="cos", dtype="f16")
                graph.add(ids, matrix)
                for old in self._folder.glob("graph-*.usearch"):
                    old.unlink(missing_ok=True)
                # Several servers may make the same; where there is no room for it, it is made again the next time.
                hidden = self._folder / f".graph-{uuid.uuid4().hex}.new"
                with suppress(OSError, RuntimeError):
                    graph.save(str(hidden))
                    hidden.replace(path)
                hidden.unlink(missing_ok=True)
            self._made = version, graph
            return graph
        finally:
            self._making.release()
