"""The protocol of embedding engines: rows of token ids in, rows of numbers out.

Everything here is plain values and numpy arrays, so that a server, an index and a bench speak to every engine alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np

Use = Literal["document", "query", "plain"]
"""What a text is for; models that were trained with a prompt for each get it, or the one that stands before all."""


@dataclass(frozen=True)
class Rows:
    """Texts as the model reads them."""

    tokens: list[list[int]]
    """Ids with the model's special tokens, at most the model's limit."""
    cut: tuple[int, ...] = ()
    """Numbers of the texts whose end did not fit."""

    @property
    def count(self) -> int:
        """Tokens in all."""
        return sum(map(len, self.tokens))


class EmbedEngine(Protocol):
    """An embedding model in memory. Every method may be called from any thread."""

    width: int
    """Numbers of an embedding."""
    limit: int
    """Most tokens of a row, special tokens among them."""

    def rows(self, texts: Sequence[str], use: Use = "document") -> Rows:
        """Texts as rows."""

    def framed(self, tokens: Sequence[Sequence[int]]) -> Rows:
        """Rows of the model's own token ids, with its special tokens around those that lack them.

        Raises:
            InputError: an id that the model does not have.
        """

    def submit(self, rows: Sequence[Sequence[int]], *, low: bool = False) -> Future[np.ndarray]:
        """Embed rows, each of 1 to `limit` ids; (N, width) float32. `low` lets everything else go first."""

    def load(self) -> tuple[int, int]:
        """(rows being computed, rows that wait)."""

    def close(self) -> None:
        """Stop; what waits fails."""
