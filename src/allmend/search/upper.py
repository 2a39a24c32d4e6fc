"""Adapters in the upper layers alone: what enters the lowest of them is worked out once a token, and kept.

The frozen layers below give the same whatever the adapter, so every pass over the rows and every trial can begin
above them (Skip2-LoRA, arXiv:2410.21073, does so for small networks). A table holds one line a token; packs then name
lines of the table where they otherwise name tokens, and the stack of layers begins where the table ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from allmend.adapters.attach import linear_layers
from allmend.data import Tokens
from allmend.errors import UsageError
from allmend.models.loading import Loaded
from allmend.tuning.fast.stack import Stack
from allmend.tuning.packs import Pack, grouped, pack
from allmend.tuning.passes import Passes

FILE = "below.bin"
IN_MEMORY = 2 << 30
"""Bytes up to which the table is kept in memory; a larger one is a file in the run's folder."""


def upper_targets(model: Any, layers: int, targets: Sequence[str]) -> tuple[str, ...]:
    """Full names of the linear layers in the `layers` uppermost decoder layers.

    Raises:
        UsageError: the model has fewer layers, or is none of numbered layers.
    """
    count = int(getattr(model.config, "num_hidden_layers", 0))
    if not 1 <= layers <= count:
        raise UsageError(f"the model has {count} layers", where="--upper-layers", hint=f"Name 1 to {count}.")
    found = []
    for name in linear_layers(model):
        parts = name.split(".")
        numbers = [int(part) for part in parts if part.isdigit()]
        wanted = not targets or parts[-1] in targets or name in targets
        if numbers and numbers[0] >= count - layers and wanted:
            found.append(name)
    if not found:
        raise UsageError("no linear layer of the upper layers is among the targets", where="--targets")
    return tuple(found)


def cache_file(folder: Path, loaded: Loaded, rows: Sequence[Tokens]) -> Path | None:
    """Where the table is to be; None for memory."""
    size = sum(map(len, rows)) * int(loaded.model.config.hidden_size) * loaded.dtype.itemsize
    return folder / FILE if size > IN_MEMORY else None


@dataclass
class Below:
    """What enters layer `start`, for some rows; filled as they are first seen."""

    start: int
    table: Tensor
    """(tokens of all rows, D) in the model's dtype."""
    first: dict[int, int]
    """Line of a row's first token, by the row's identity."""
    rows: list[Tokens]
    """Held, so that identities last."""
    known: set[int]
    file: Path | None = None

    @classmethod
    def of(cls, passes: Passes, rows: Sequence[Tokens], file: Path | None = None) -> Below | None:
        """An empty table; None where the layers are the model's own, or the lowest of them has a LoRA."""
        stack = passes.stack
        if stack is None or stack.lowest == 0:
            passes.choose("below", None, "nothing can be kept: " + ("the layers are the model's own" if stack is None
                                                                     else "the lowest layer has a LoRA"))  # fmt: skip
            return None
        first, lines = {}, 0
        for row in rows:
            first[id(row)] = lines
            lines += len(row)
        width, kind = stack.norm.shape[0], passes.loaded.dtype
        if file is None:
            # Pages of it are taken as they are written.
            table = torch.empty(lines, width, dtype=kind, device=passes.loaded.device)
        else:
            table = torch.from_file(str(file), shared=True, size=lines * width, dtype=kind).view(lines, width)
        size = lines * width * kind.itemsize >> 20
        where = "memory" if file is None else "a file"
        passes.choose("below", f"{size} MiB in {where}", f"what enters layer {stack.lowest} is worked out once a token")
        return cls(stack.lowest, table, first, list(rows), set(), file)

    @torch.no_grad()
    def fill(self, stack: Stack, rows: Sequence[Tokens], limit: int) -> None:
        """Work out what is missing of these rows, by the layers below."""
        missing = [row for row in rows if id(row) not in self.known]
        if not missing:
            return
        lower = replace(stack, layers=stack.layers[: self.start], top_where_learned=False)
        for group in grouped(missing, limit):
            made = pack(group, self.table.device)
            every = torch.arange(made.ids.shape[1], device=self.table.device)
            _, record = lower.run(made.ids, made.segments, every, keep=False)
            assert record.x is not None
            begin = 0
            for row in group:
                at = self.first[id(row)]
                self.table[at : at + len(row)] = record.x[begin : begin + len(row)]
                begin += len(row)
                self.known.add(id(row))

    def lines(self, group: Sequence[Tokens], prefix: int) -> Tensor:
        """(1, T) lines of a pack's tokens: the shared prefix from its first row, then what each row has beyond it."""
        parts = [torch.arange(self.first[id(group[0])], self.first[id(group[0])] + prefix)] if prefix else []
        parts += [torch.arange(self.first[id(row)] + prefix, self.first[id(row)] + len(row)) for row in group]
        return torch.cat(parts).unsqueeze(0).to(self.table.device)


@dataclass
class Above(Passes):
    """Passes that begin at the table."""

    below: Below | None = None
    whole: Stack | None = None

    def _packs(self, rows: Sequence[Tokens]) -> list[Pack]:
        assert self.below is not None and self.whole is not None
        self.below.fill(self.whole, rows, self.pack_tokens)
        found = []
        for group in grouped(rows, self.pack_tokens):
            made = pack(group, self.loaded.device, self.tricks.share_prefix)
            found.append(replace(made, ids=self.below.lines(group, made.segments.prefix)))
        return found

    def stepped(self) -> None:
        """The LoRA's weights have changed."""
        if self.whole is not None:
            self.whole.refresh()

    def close(self) -> None:
        """Give the model its own memory back."""
        self.stack = None
        if self.whole is not None:
            self.whole.release()
            self.whole = None


def above(passes: Passes, below: Below | None) -> Passes:
    """The same passes from the table upwards; as they are where there is no table."""
    stack = passes.stack
    if below is None or stack is None:
        return passes
    upper = replace(stack, layers=stack.layers[below.start :], embed=lambda lines: below.table[lines])
    values = {field.name: getattr(passes, field.name) for field in fields(Passes)}
    return Above(**{**values, "stack": upper}, below=below, whole=stack)
