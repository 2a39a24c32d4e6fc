"""The forward passes: one sequence a time through transformers' own cache, or all of them in one packed row.

`PlainRunner` is the oracle and the off switch; `PackedRunner` is held equal to it by tests, and by a small check
on the real model when an engine starts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from allmend.engines.torch import attention, lora
from allmend.engines.torch.lora import Uses
from allmend.engines.torch.pages import Pages, chain


class Memory:
    """What a runner holds for one sequence."""

    def __init__(self, uses: Uses = ()) -> None:
        self.uses = uses
        self.pages: list[int] = []
        self.names: list[bytes] = []
        """Names of the first pages, as far as they were worked out."""
        self.cache: Any = None


@dataclass(slots=True)
class Segment:
    """Tokens of one sequence to compute in a step."""

    memory: Memory
    tokens: Sequence[int]
    start: int
    """Position of the first of them; everything before it has been computed."""
    keep: int
    """Logits are wanted for this many of the last of them."""
    best_only: bool = False
    """Only the best token of each is wanted; a runner that has `best` may leave the logits undefined."""


class Runner(Protocol):
    """Computes segments and remembers keys and values."""

    capacity: int | None
    """Tokens that fit in all, `None` where there is no limit of its own."""
    best: list[tuple[int, float]] | None
    """After a run, where the runner knows it: the best token at each segment's last place, with its logit."""

    def reserve(self, memory: Memory, tokens: int) -> bool:
        """Hold room for a sequence of `tokens`; false when there is none now."""

    def release(self, memory: Memory) -> None:
        """Free what a sequence holds."""

    def recall(self, memory: Memory, tokens: Sequence[int], most: int) -> int:
        """Hold what is remembered of the beginning of `tokens`; how many of them need not be computed, up to `most`.

        Only for a sequence that holds nothing yet.
        """

    def note(self, memory: Memory, tokens: Sequence[int], computed: int) -> None:
        """Remember the pages that are full now that `computed` of `tokens` are computed."""

    def run(self, segments: list[Segment]) -> list[torch.Tensor]:
        """Float32 logits [keep, vocabulary] of each segment."""


class PlainRunner:
    """One sequence a time, each with transformers' own `DynamicCache`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.capacity: int | None = None
        self.best: list[tuple[int, float]] | None = None

    def reserve(self, memory: Memory, tokens: int) -> bool:
        """Always: the cache grows as it needs."""
        return True

    def release(self, memory: Memory) -> None:
        """Drop the sequence's cache."""
        memory.cache = None

    def recall(self, memory: Memory, tokens: Sequence[int], most: int) -> int:
        """Nothing is remembered."""
        return 0

    def note(self, memory: Memory, tokens: Sequence[int], computed: int) -> None:
        """Nothing is remembered."""

    def run(self, segments: list[Segment]) -> list[torch.Tensor]:
        """Each segment in a forward pass of its own."""
        return [self._run(segment) for segment in segments]

    @torch.inference_mode()
    def _run(self, segment: Segment) -> torch.Tensor:
        from transformers import DynamicCache

        memory = segment.memory
        if segment.start == 0 or memory.cache is None:
            memory.cache = DynamicCache(config=self._model.config)
        ids = torch.tensor([list(segment.tokens)], device=self._model.device)
        with _routes([(0, len(segment.tokens), memory.uses)] if memory.uses else [], len(segment.tokens)):
            answer = self._model(
                input_ids=ids, past_key_values=memory.cache, use_cache=True, logits_to_keep=max(segment.keep, 1)
            )
        logits: torch.Tensor = answer.logits[0].float()
        return logits[len(logits) - segment.keep :]


class PagedRunner:
    """What runners over pages share: how sequences hold them."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.capacity: int | None = pages.capacity
        self.best: list[tuple[int, float]] | None = None

    def reserve(self, memory: Memory, tokens: int) -> bool:
        """Take the pages that are still missing."""
        missing = self.pages.needed(tokens) - len(memory.pages)
        if missing <= 0:
            return True
        taken = self.pages.take(missing)
        if taken is None:
            return False
        memory.pages.extend(taken)
        return True

    def release(self, memory: Memory) -> None:
        """Hand the sequence's pages back."""
        self.pages.give(memory.pages)
        memory.pages, memory.names = [], []

    def recall(self, memory: Memory, tokens: Sequence[int], most: int) -> int:
        """Hold the pages that are remembered of the beginning of `tokens`."""
        size = self.pages.size
        while self.pages.remember and (len(memory.pages) + 1) * size <= most:
            name = self._name(memory, tokens, len(memory.pages))
            page = self.pages.find(name)
            if page is None:
                break
            memory.names.append(name)
            memory.pages.append(page)
        return len(memory.pages) * size

    def note(self, memory: Memory, tokens: Sequence[int], computed: int) -> None:
        """Remember the pages that are full now."""
        if not self.pages.remember:
            return
        for place in range(len(memory.names), computed // self.pages.size):
            memory.names.append(self._name(memory, tokens, place))
            self.pages.name(memory.pages[place], memory.names[-1])

    def _name(self, memory: Memory, tokens: Sequence[int], place: int) -> bytes:
        size = self.pages.size
        before = memory.names[place - 1] if place else _root(memory.uses)
        return chain(before, tokens[place * size : (place + 1) * size])


class PackedRunner(PagedRunner):
    """All segments in one forward pass, keys and values in pages."""

    def __init__(self, model: Any, pages: Pages) -> None:
        super().__init__(pages)
        self._model = model

    @torch.inference_mode()
    def run(self, segments: list[Segment]) -> list[torch.Tensor]:
        """One forward pass; sequences with the same adapters lie side by side."""
        order = in_order(segments)
        ordered = [segments[place] for place in order]
        step, kept = self._lay_out(ordered)
        tokens = [token for segment in ordered for token in segment.tokens]
        positions = [segment.start + place for segment in ordered for place in range(len(segment.tokens))]
        device = self._model.device
        with _routes(route(ordered), len(tokens)), _packed(self._model, step):
            answer = self._model(
                input_ids=torch.tensor([tokens], device=device),
                position_ids=torch.tensor([positions], device=device),
                use_cache=False,
                logits_to_keep=torch.tensor(kept or [0], device=device),
            )
        logits: torch.Tensor = answer.logits[0].float()
        results: list[torch.Tensor] = [logits] * len(segments)
        row = 0
        for place, segment in zip(order, ordered, strict=True):
            results[place] = logits[row : row + segment.keep]
            row += segment.keep
        return results

    def _lay_out(self, segments: list[Segment]) -> tuple[attention.Step, list[int]]:
        """The step's index tensors, and the rows whose logits are wanted."""
        size, device = self.pages.size, self._model.device
        slots: list[int] = []
        stretches: list[attention.Stretch] = []
        rows: list[int] = []
        positions: list[int] = []
        tables: list[list[int]] = []
        kept: list[int] = []
        offset = 0
        for segment in segments:
            count, held = len(segment.tokens), segment.memory.pages
            places = range(segment.start, segment.start + count)
            slots.extend(held[place // size] * size + place % size for place in places)
            used = held[: self.pages.needed(segment.start + count)]
            if count == 1:
                rows.append(offset)
                positions.append(segment.start)
                tables.append(used)
            else:
                stretches.append(attention.Stretch(offset, count, segment.start, torch.tensor([used], device=device)))
            kept.extend(range(offset + count - segment.keep, offset + count))
            offset += count
        width = max((len(table) for table in tables), default=0)
        table = torch.tensor([held + [0] * (width - len(held)) for held in tables], dtype=torch.long, device=device)
        step = attention.Step(
            self.pages,
            torch.tensor(slots, device=device),
            stretches,
            torch.tensor(rows, dtype=torch.long, device=device),
            torch.tensor(positions, dtype=torch.long, device=device),
            table.view(len(rows), width),
        )
        return step, kept


def _root(uses: Uses) -> bytes:
    """Names what a sequence is computed with; the base is the same for all pages of a runner."""
    parts = [f"{adapter.identity}*{scale!r}" for adapter, scale in uses]
    return hashlib.blake2b("+".join(parts).encode(), digest_size=24).digest()


def route_key(uses: Uses) -> tuple[tuple[str, float], ...]:
    """Equal where the same is applied."""
    return tuple((adapter.identity, scale) for adapter, scale in uses)


def in_order(segments: list[Segment]) -> list[int]:
    """Places of the segments, those with the same adapters side by side."""
    return sorted(range(len(segments)), key=lambda place: route_key(segments[place].memory.uses))


def route(segments: list[Segment]) -> lora.Routes:
    """Runs of rows with the same adapters, of segments that lie in that order."""
    routes: lora.Routes = []
    offset = 0
    for segment in segments:
        uses, end = segment.memory.uses, offset + len(segment.tokens)
        if uses:
            if routes and routes[-1][1] == offset and route_key(routes[-1][2]) == route_key(uses):
                routes[-1] = (routes[-1][0], end, uses)
            else:
                routes.append((offset, end, uses))
        offset = end
    return routes


@contextmanager
def _routes(routes: lora.Routes, rows: int) -> Iterator[None]:
    lora.ACTIVE.routes, lora.ACTIVE.rows = routes, rows
    try:
        yield
    finally:
        lora.ACTIVE.routes = None


@contextmanager
def _packed(model: Any, step: attention.Step) -> Iterator[None]:
    """Switch the model's attention over for one forward pass."""
    before = model.config._attn_implementation
    attention.ACTIVE.step = step
    model.config._attn_implementation_internal = attention.NAME
    try:
        yield
    finally:
        model.config._attn_implementation_internal = before
        attention.ACTIVE.step = None
