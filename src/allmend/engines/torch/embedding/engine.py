"""The engine: rows of many callers, one thread that computes them together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from allmend.engines.embed import Rows, Use
from allmend.engines.torch.embedding.packs import PACK_TOKENS, packs_of
from allmend.errors import InputError, Unavailable

if TYPE_CHECKING:
    from allmend.engines.torch.embedding.encoder import Pass
    from allmend.engines.torch.embedding.pooling import Pooling

_ROUND_TOKENS = 16 * PACK_TOKENS
"""Tokens that are taken from what waits at once: enough to sort by length, little enough to let newcomers in soon."""


@dataclass
class _Job:
    rows: Sequence[Sequence[int]]
    future: Future[np.ndarray]
    low: bool
    out: np.ndarray
    given: int = 0
    """Rows that were taken up."""
    left: int = 0
    """Rows that are not done."""
    todo: deque[int] = field(default_factory=deque)


class TorchEmbedder:
    """An `EmbedEngine` over one of the passes of `encoder`.

    Args:
        tokenizer: the model's own, fast.
        limit: most tokens of a row.
        width: numbers of an embedding.
    """

    def __init__(
        self, run: Pass, pooling: Pooling, tokenizer: Any, *, limit: int, width: int, pack: int = PACK_TOKENS
    ) -> None:
        self.width, self.limit = width, limit
        self._run, self._pooling, self._pack = run, pooling, pack
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        self.vocabulary = len(tokenizer)
        frame = tokenizer("")["input_ids"]
        # What stands before and after every text: nothing, one token, or one each side.
        added = tokenizer("a", add_special_tokens=False)["input_ids"]
        around = tokenizer("a")["input_ids"]
        before = next((n for n in range(len(around)) if around[n : n + len(added)] == added), 0)
        self._before, self._after = around[:before], around[before + len(added) :]
        self._frame = len(frame)
        self._jobs: list[_Job] = []
        self._changed = threading.Condition()
        self._computing, self._closed = 0, False
        self._thread = threading.Thread(target=self._work, name="embedding", daemon=True)
        self._thread.start()

    def rows(self, texts: Sequence[str], use: Use = "document") -> Rows:
        """Texts as rows; the end of one that is too long is cut off, and `cut` says so."""
        prompt = self._pooling.prompts.get(use, "")
        given = [prompt + text for text in texts]
        if self._pooling.lower:
            given = [text.lower() for text in given]
        # A token is at least a byte of the text; what is far beyond the limit is not worth reading.
        most = 64 * self.limit
        encoded = self._backend.encode_batch([text[:most] for text in given], add_special_tokens=False)
        ids = [encoding.ids for encoding in encoded]
        for number, text in enumerate(given):
            if len(text) > most and len(ids[number]) < self.limit:  # Blanks, or words too long to be known.
                ids[number] = self._backend.encode(text, add_special_tokens=False).ids
        return self._fit(ids)

    def framed(self, tokens: Sequence[Sequence[int]]) -> Rows:
        """Token ids as rows."""
        bare = []
        for row in tokens:
            wrong = next((token for token in row if not 0 <= token < self.vocabulary), None)
            if wrong is not None:
                raise InputError(
                    f"this model has no token {wrong}; its ids end at {self.vocabulary - 1}",
                    hint="Ids must come from the model's own tokenizer; else send text (in LangChain: "
                    "check_embedding_ctx_length=False).",
                )
            bare.append(self._stripped(list(row)))
        return self._fit(bare)

    def _stripped(self, row: list[int]) -> list[int]:
        first, last = len(self._before), len(self._after)
        if row[:first] == self._before and (not last or row[-last:] == self._after) and len(row) >= first + last:
            return row[first : len(row) - last]
        return row

    def _fit(self, bare: list[list[int]]) -> Rows:
        room = self.limit - len(self._before) - len(self._after)
        cut = tuple(number for number, row in enumerate(bare) if len(row) > room)
        rows = [[*self._before, *row[:room], *self._after] for row in bare]
        # A model without special tokens has nothing to say of an empty text; its end of text stands for it.
        empty = self._tokenizer.eos_token_id or self._tokenizer.pad_token_id or 0
        return Rows([row or [empty] for row in rows], cut)

    def submit(self, rows: Sequence[Sequence[int]], *, low: bool = False) -> Future[np.ndarray]:
        """Queue rows; see `EmbedEngine.submit`."""
        if not all(1 <= len(row) <= self.limit for row in rows):
            raise InputError(f"every row needs 1 to {self.limit} tokens")
        future: Future[np.ndarray] = Future()
        out = np.empty((len(rows), self.width), dtype=np.float32)
        if not rows:
            future.set_result(out)
            return future
        job = _Job(rows, future, low, out, left=len(rows), todo=deque(range(len(rows))))
        with self._changed:
            if self._closed:
                raise Unavailable("the embedding engine is closed")
            self._jobs.append(job)
            self._changed.notify()
        return future

    def load(self) -> tuple[int, int]:
        """(rows being computed, rows that wait)."""
        with self._changed:
            return self._computing, sum(len(job.todo) for job in self._jobs)

    def close(self) -> None:
        """Stop after the pack under way."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        for job in self._jobs:
            _tell(job.future, Unavailable("the embedding engine was closed"))

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not self._jobs:
                    self._changed.wait()
                if self._closed:
                    return
                taken = self._take()
                self._computing = len(taken)
            self._round(taken)
            with self._changed:
                self._computing = 0
                self._jobs = [job for job in self._jobs if job.todo]

    def _take(self) -> list[tuple[_Job, int]]:
        """Rows of the next round: an equal share of tokens for every caller; low ones only where no other waits."""
        jobs = [job for job in self._jobs if not job.future.cancelled()]
        self._jobs = jobs
        normal = [job for job in jobs if not job.low] or jobs
        taken: list[tuple[_Job, int]] = []
        for job in normal:
            room = max(_ROUND_TOKENS // len(normal), self.limit)
            while job.todo and room > 0:
                row = job.todo.popleft()
                room -= len(job.rows[row])
                taken.append((job, row))
        return taken

    @torch.inference_mode()
    def _round(self, taken: list[tuple[_Job, int]]) -> None:
        for pack in packs_of([len(job.rows[row]) for job, row in taken], self._pack):
            chosen = [taken[number] for number in pack]
            if self._closed:
                error: Exception | None = Unavailable("the embedding engine was closed")
            else:
                error = self._compute(chosen)
            for job, _ in chosen:
                job.left -= 1
                if error is not None:
                    job.todo.clear()
                    _tell(job.future, error)
                elif job.left == 0:
                    _tell(job.future, job.out)

    def _compute(self, chosen: list[tuple[_Job, int]]) -> Exception | None:
        rows = [job.rows[row] for job, row in chosen]
        try:
            vectors = self._pooling.pooled(self._run(rows), [len(row) for row in rows]).cpu().numpy()
        except Exception as error:  # whatever it is belongs to those who asked, and the thread goes on
            return error
        for (job, row), vector in zip(chosen, vectors, strict=True):
            job.out[row] = vector
        return None


def _tell(future: Future[np.ndarray], outcome: np.ndarray | Exception) -> None:
    """End a future that may have ended already, or be given up in this very moment."""
    try:
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
    except InvalidStateError:
        pass  # Whoever asked has gone.
