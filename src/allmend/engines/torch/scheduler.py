"""Which sequences run in the next step.

Every running sequence takes its next token in every step; a prompt is computed beside that in chunks, so that a
long one holds nobody up. When memory runs out, the sequence that came last gives its pages back, waits, and is
computed again later: its tokens are kept, so its answer goes on where it was.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from allmend.engines.torch.runner import Runner, Segment
from allmend.engines.torch.sequence import Sequence

_SCORED_CHUNK = 32
"""Prompt tokens a step when each needs its logits: a row of a large vocabulary is a megabyte."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much runs at once."""

    running: int = 32
    """Sequences in one step."""
    chunk: int = 512
    """Prompt tokens computed in one step, all sequences together."""


class Scheduler:
    """Sequences that wait (first come, first served) and sequences that run."""

    def __init__(self, runner: Runner, limits: Limits) -> None:
        self._runner = runner
        self._limits = limits
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []

    def add(self, sequence: Sequence) -> None:
        """Take a sequence in."""
        self.waiting.append(sequence)

    def sweep(self) -> None:
        """Let go of what has ended or was cancelled."""
        for sequence in [*self.running, *self.waiting]:
            if sequence.cancelled:
                sequence.finish("cancelled")
        for sequence in self.running:
            if sequence.finished:
                self._runner.release(sequence.memory)
        self.running = [sequence for sequence in self.running if not sequence.finished]
        if any(sequence.finished for sequence in self.waiting):
            self.waiting = deque(sequence for sequence in self.waiting if not sequence.finished)

    def plan(self) -> list[tuple[Sequence, Segment]]:
        """The next step; empty when nothing is left to do."""
        self.sweep()
        steps: list[tuple[Sequence, Segment]] = []
        budget = self._limits.chunk
        before = list(self.running)
        for sequence in before:
            if sequence not in self.running:
                break  # It gave its pages up for an older one, and so did all after it.
            count = self._chunk(sequence, budget)
            if count == 0 or not self._make_room(sequence, sequence.computed + count):
                continue
            budget -= count if count > 1 else 0
            steps.append(self._step(sequence, count))
        if len(self.running) < len(before):
            return steps  # Memory is short: nobody new comes in now.
        while self.waiting and len(self.running) < self._limits.running and budget > 0:
            sequence = self.waiting[0]
            if sequence.computed == 0:
                found = self._runner.recall(sequence.memory, sequence.tokens, sequence.reusable)
                sequence.computed = found
                sequence.recalled(found)
            count = self._chunk(sequence, budget)
            if not self._runner.reserve(sequence.memory, sequence.computed + count):
                # What it recalled is let go: those who run may need the room.
                self._runner.release(sequence.memory)
                sequence.rewind()
                break
            self.running.append(self.waiting.popleft())
            budget -= count
            steps.append(self._step(sequence, count))
        return steps

    def _chunk(self, sequence: Sequence, budget: int) -> int:
        missing = len(sequence.tokens) - sequence.computed
        if missing == 1:
            return 1
        most = min(budget, _SCORED_CHUNK) if sequence.scores_prompt else budget
        return max(min(missing, most), 0)

    def _make_room(self, sequence: Sequence, tokens: int) -> bool:
        """Hold pages for `sequence`, taking them from later ones where needed.

        Those come after it in `running`, so none of them is in the step yet.
        """
        while not self._runner.reserve(sequence.memory, tokens):
            last = self.running[-1]
            self._put_back(last)
            if last is sequence:
                return False
        return True

    def _put_back(self, sequence: Sequence) -> None:
        self._runner.release(sequence.memory)
        sequence.rewind()
        self.running.remove(sequence)
        self.waiting.appendleft(sequence)

    def _step(self, sequence: Sequence, count: int) -> tuple[Sequence, Segment]:
        start = sequence.computed
        tokens = sequence.tokens[start : start + count]
        return sequence, Segment(sequence.memory, tokens, start, sequence.rows_wanted(start, count), sequence.best_only)
