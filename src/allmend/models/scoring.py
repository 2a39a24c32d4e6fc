"""How probable a model finds given tokens: the loss of rows, and the score of labels. No generation.

Rows are laid into packs (see `attention`), hidden states are taken only where a token is predicted that counts, and
logits exist for a few hundred positions at a time. `logprobs` is the one primitive; the rest is bookkeeping.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from allmend.models.attention import segments_of, use_packed
from allmend.models.support import attends_over_packs, hidden_states, logits_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Scored:
    """One row to score: ids, and from which index on its ids count."""

    ids: Sequence[int]
    start: int
    """At least 1: the first token of a row is predicted by nothing."""


@torch.inference_mode()
def logprobs(
    model: PreTrainedModel, rows: Sequence[Scored], pack_tokens: int = 2048, logit_rows: int = 64
) -> list[float]:
    """The sum of log-probabilities of each row's ids from `start` on, natural logarithm, in the order of `rows`."""
    order = sorted(range(len(rows)), key=lambda place: len(rows[place].ids))
    sums = [0.0] * len(rows)
    for pack in _packs(order, rows, pack_tokens, attends_over_packs(model)):
        ids = torch.tensor([[token for place in pack for token in rows[place].ids]], device=model.device)
        keep: list[int] = []
        targets: list[int] = []
        owner: list[int] = []
        offset = 0
        for place in pack:
            row = rows[place]
            keep.extend(range(offset + row.start - 1, offset + len(row.ids) - 1))
            targets.extend(row.ids[row.start :])
            owner.extend([place] * (len(row.ids) - row.start))
            offset += len(row.ids)
        hidden = _hidden(model, ids, [len(rows[place].ids) for place in pack])
        wanted = hidden[0, torch.tensor(keep, dtype=torch.long, device=hidden.device)]
        values = _picked(model, wanted, torch.tensor(targets, dtype=torch.long, device=hidden.device), logit_rows)
        for place, value in zip(owner, values, strict=True):
            sums[place] += value
    return sums


def label_logprobs(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]
) -> list[list[float]]:
    """The log-probability of each label after each prompt: `[prompt][label]`.

    Where every label is one token, one pass over the prompts gives all of them; the sums are the same.
    """
    if all(len(label) == 1 for label in labels):
        return _next_token_logprobs(model, prompts, [label[0] for label in labels])
    rows = [Scored([*prompt, *label], len(prompt)) for prompt in prompts for label in labels]
    sums = logprobs(model, rows)
    return [sums[start : start + len(labels)] for start in range(0, len(sums), len(labels))]


@torch.inference_mode()
def _next_token_logprobs(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], tokens: Sequence[int], pack_tokens: int = 2048
) -> list[list[float]]:
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    result: list[list[float]] = [[] for _ in prompts]
    rows = [Scored(prompt, len(prompt)) for prompt in prompts]
    for pack in _packs(order, rows, pack_tokens, attends_over_packs(model)):
        lengths = [len(prompts[place]) for place in pack]
        ids = torch.tensor([[token for place in pack for token in prompts[place]]], device=model.device)
        ends = torch.tensor(lengths, device=model.device).cumsum(0) - 1
        logits = logits_of(model, _hidden(model, ids, lengths)[0, ends])
        chosen = logits[:, torch.tensor(list(tokens), device=logits.device)].float()
        values = chosen - _log_norm(logits).unsqueeze(1)
        for place, row in zip(pack, values.tolist(), strict=True):
            result[place] = row
    return result


def _packs(order: Sequence[int], rows: Sequence[Scored], limit: int, packable: bool) -> Iterator[list[int]]:
    """Rows in `order`, laid together up to `limit` tokens; one a pack where the model cannot attend over packs."""
    pack: list[int] = []
    tokens = 0
    for place in order:
        length = len(rows[place].ids)
        if pack and (tokens + length > limit or not packable):
            yield pack
            pack, tokens = [], 0
        pack.append(place)
        tokens += length
    if pack:
        yield pack


def _hidden(model: PreTrainedModel, ids: Tensor, lengths: Sequence[int]) -> Tensor:
    if not attends_over_packs(model):
        return hidden_states(model, ids)
    segments = segments_of(lengths, model.device)
    with use_packed(model):
        return hidden_states(model, ids, segments=segments)


def _picked(model: PreTrainedModel, hidden: Tensor, targets: Tensor, rows: int) -> list[float]:
    """Log-probability of each target, `rows` positions at a time."""
    values: list[float] = []
    for start in range(0, hidden.shape[0], rows):
        logits = logits_of(model, hidden[start : start + rows])
        chosen = logits.gather(1, targets[start : start + rows].unsqueeze(1)).squeeze(1).float()
        values.extend(cast(list[float], (chosen - _log_norm(logits)).tolist()))
    return values


def _log_norm(logits: Tensor, rows: int = 16) -> Tensor:
    """logsumexp over the vocabulary in fp32, a few rows at a time so that the fp32 copy stays in the cache."""
    return torch.cat([part.float().logsumexp(dim=1) for part in torch.split(logits, rows)])
