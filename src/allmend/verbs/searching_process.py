"""What a worker in a process of its own holds: rows, model and settings as the search has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from allmend import data
from allmend.adapters import LoraConfig
from allmend.data import Tokens
from allmend.search.trainer import Shared, Siblings
from allmend.search.upper import upper_targets
from allmend.tuning.tricks import Tricks
from allmend.verbs.tuning_plan import PACK_TOKENS


def siblings(
    source: str, settings: dict[str, Any], digest: str, context: int, select: list[int], threads: int | None
) -> Siblings:
    """Make it; called in that process.

    Args:
        source, settings, digest: the data and settings of the verb, and what the data's digest must be.
        select: places of the selection rows among the split's.

    Raises:
        InputError: the data has changed.
    """
    import torch

    from allmend.errors import InputError
    from allmend.models import parse, resolve
    from allmend.models.loading import load
    from allmend.verbs.tune import TuneSettings
    from allmend.verbs.tuning_rows import read_dataset

    if threads:
        torch.set_num_threads(threads)
    mine = TuneSettings.of(settings)
    dataset = read_dataset(source, mine)
    if dataset.examples.sha256 != digest:
        raise InputError("the data file has changed since the search began", where=source)
    loaded = load(resolve(parse(mine.model)), mine.dtype, bits=mine.base_bits)
    template = data.template(mine.template) if mine.template else data.of_tokenizer(loaded.tokenizer)

    def encode(rows: Sequence[data.Row]) -> list[Tokens]:
        return list(data.encode_rows(rows, loaded.tokenizer, template, context=context))

    targets = mine.targets
    if mine.upper_layers is not None:
        targets = upper_targets(loaded.model, mine.upper_layers, targets)
    config = LoraConfig(alpha=mine.alpha, dropout=mine.dropout, targets=targets)
    shared = Shared(
        config, mine.seed, PACK_TOKENS, Tricks.without(*mine.without), threads, upper_layers=mine.upper_layers or 0
    )
    chosen = [dataset.select[place] for place in select]
    return Siblings(loaded, encode(dataset.train), encode(chosen), shared)
