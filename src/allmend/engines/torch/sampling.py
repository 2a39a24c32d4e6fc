"""From logits to the next token."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch

from allmend.engines.constraint import Constraint
from allmend.engines.text import Sampling, TokenInfo
from allmend.engines.torch.native.draw import TRIES, draw

_FIRST_LOOK = 512
"""Tokens sorted at first for top-p; only a flat distribution needs the whole vocabulary sorted."""


class Sampler:
    """Picks tokens for one request: its settings, its random numbers, what it has picked so far."""

    def __init__(self, sampling: Sampling, constraint: Constraint | None = None) -> None:
        self.sampling = sampling
        self.constraint = constraint
        # Python's own generator: one number a token, without a tensor for each request.
        self._random = random.Random(sampling.seed) if sampling.seed is not None else random.Random()
        self._counts: dict[int, int] = {}
        self._penalised = sampling.presence_penalty != 0 or sampling.frequency_penalty != 0
        self._bias = dict(sampling.logit_bias)

    @property
    def greedy(self) -> bool:
        """Whether the best token of the untouched logits is always the one picked."""
        plain = not self._penalised and not self._bias and self.constraint is None
        return self.sampling.temperature == 0 and plain

    def pick(self, logits: torch.Tensor) -> int:
        """The next token from float32 logits of shape [vocabulary], which are left as they are."""
        token = self._pick(self.adjusted(logits))
        self.took(token)
        return token

    def took(self, token: int) -> None:
        """Count a token that was picked."""
        if self._penalised:
            self._counts[token] = self._counts.get(token, 0) + 1
        if self.constraint is not None:
            self.constraint.took(token)

    @property
    def drawable(self) -> bool:
        """Whether compiled code draws for these settings: it knows temperature and top-p."""
        settings = self.sampling
        return settings.temperature >= 1e-3 and settings.top_k <= 0 and settings.top_p > 0.3

    def numbers(self, count: int) -> list[float]:
        """Random numbers in [0, 1)."""
        return [self._random.random() for _ in range(count)]

    def adjusted(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits with penalties, biases and what the grammar allows; `logits` itself where there are none."""
        if not self._bias and not self._counts and self.constraint is None:
            return logits
        logits = logits.clone()
        if self.constraint is not None:
            self.constraint.allow(logits)
        if self._counts:
            ids = torch.tensor(list(self._counts), device=logits.device)
            counts = torch.tensor(list(self._counts.values()), dtype=logits.dtype, device=logits.device)
            logits[ids] -= self.sampling.presence_penalty + self.sampling.frequency_penalty * counts
        if self._bias:
            ids = torch.tensor(list(self._bias), device=logits.device)
            logits[ids] += torch.tensor(list(self._bias.values()), dtype=logits.dtype, device=logits.device)
        return logits

    def _pick(self, logits: torch.Tensor) -> int:
        settings = self.sampling
        if settings.temperature == 0:
            return int(logits.argmax())
        if settings.top_k == 1:
            return int(logits.argmax())
        scaled = logits / settings.temperature
        if not math.isfinite(float(scaled.max())):
            # A temperature so small that the division overflows is greedy in all but name.
            return int(logits.argmax())
        if settings.top_k > 0 or settings.top_p < 1:
            kept, ids = _nucleus(scaled, settings.top_k, settings.top_p)
        else:
            kept, ids = torch.softmax(scaled, dim=-1), None
        place = self._draw(kept)
        return place if ids is None else int(ids[place])

    def _draw(self, weights: torch.Tensor) -> int:
        """An index with probability proportional to `weights`, by inverting their running sum."""
        running = weights.double().cumsum(dim=-1)
        threshold = self._random.random() * float(running[-1])
        place = int(torch.searchsorted(running, threshold, right=True))
        place = min(place, len(weights) - 1)
        while weights[place] == 0 and place > 0:
            place -= 1
        return place


def pick_all(samplers: Sequence[Sampler], rows: Sequence[torch.Tensor]) -> list[int]:
    """The next token of each request from its float32 logits [vocabulary], which are left as they are."""
    found = [-1] * len(samplers)
    places = [place for place, sampler in enumerate(samplers) if sampler.drawable]
    if places:
        mine = [samplers[place] for place in places]
        drawn = draw(
            [sampler.adjusted(rows[place]) for sampler, place in zip(mine, places, strict=True)],
            [sampler.sampling.temperature for sampler in mine],
            [sampler.sampling.top_p for sampler in mine],
            [sampler.numbers(TRIES if sampler.sampling.top_p < 1 else 2) for sampler in mine],
        )
        for place, token in zip(places, drawn or (), strict=drawn is not None):
            found[place] = token
            if token >= 0:
                samplers[place].took(token)
    return [
        token if token >= 0 else sampler.pick(row) for token, sampler, row in zip(found, samplers, rows, strict=True)
    ]


def _nucleus(scaled: torch.Tensor, top_k: int, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (not renormalised) and ids of the tokens that top-k, then top-p, keep; best first."""
    vocabulary = scaled.shape[-1]
    count = min(top_k, vocabulary) if top_k > 0 else min(_FIRST_LOOK, vocabulary)
    values, ids = scaled.topk(count)
    # Top-p counts within what top-k kept; without top-k, within all.
    total = values.logsumexp(-1) if top_k > 0 else scaled.logsumexp(-1)
    probabilities = (values - total).exp()
    if top_p >= 1:
        return probabilities, ids
    running = probabilities.cumsum(-1)
    if top_k <= 0 and count < vocabulary and float(running[-1]) < top_p:
        values, ids = scaled.sort(descending=True)
        probabilities = (values - total).exp()
        running = probabilities.cumsum(-1)
    # A token stays while the mass before it is short of top_p: at least one stays.
    keep = max(int(((running - probabilities) < top_p).sum()), 1)
    return probabilities[:keep], ids[:keep]


def token_info(logits: torch.Tensor, token: int, top: int) -> TokenInfo:
    """`token` with its log-probability under `logits` (float32, [vocabulary]) and the `top` best beside it."""
    total = float(logits.logsumexp(-1))
    best: Sequence[tuple[int, float]] = ()
    if top > 0:
        values, ids = logits.topk(min(top, logits.shape[-1]))
        best = [(int(i), float(v) - total) for v, i in zip(values, ids, strict=True)]
    return TokenInfo(token, float(logits[token]) - total, tuple(best))
