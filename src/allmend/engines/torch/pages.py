"""The key/value memory: fixed pages that sequences hold by number, so that memory is neither copied nor split up.

Page 0 is never handed out and stays zero: it fills the places of shorter sequences in a batch. A page is zeroed
when it is handed out, so that nothing a former holder left (a broken adapter's infinities, say) is ever read.
"""

from __future__ import annotations

import torch

PAGE_SIZE = 16
"""Tokens a page. Smaller wastes less at a sequence's end, larger copies in bigger runs."""


class Pages:
    """Keys and values of every layer, [pages, page size, key/value heads, head size] each.

    A layer's tensors are made when it first writes, from the shape it writes: no layer has to be known before.
    """

    def __init__(self, count: int, *, size: int = PAGE_SIZE) -> None:
        self.count = count
        self.size = size
        self._free = list(range(count - 1, 0, -1))
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def free(self) -> int:
        """Pages that can be taken now."""
        return len(self._free)

    @property
    def capacity(self) -> int:
        """Tokens that fit when one sequence holds everything."""
        return (self.count - 1) * self.size

    def needed(self, tokens: int) -> int:
        """Pages that `tokens` take."""
        return -(-tokens // self.size)

    @torch.inference_mode()
    def take(self, count: int) -> list[int] | None:
        """`count` zeroed pages, or `None` when there are not as many."""
        if count > len(self._free):
            return None
        taken = [self._free.pop() for _ in range(count)]
        if taken:
            index = torch.tensor(taken)
            for keys, values in self._layers.values():
                keys[index] = 0
                values[index] = 0
        return taken

    def give(self, pages: list[int]) -> None:
        """Hand pages back."""
        self._free.extend(reversed(pages))

    def write(self, layer: int, slots: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> None:
        """Store keys and values of shape [tokens, heads, size] at `slots` (page times page size plus offset)."""
        keys, values = self._tensors(layer, key, value)
        keys.view(-1, *keys.shape[2:]).index_copy_(0, slots, key)
        values.view(-1, *values.shape[2:]).index_copy_(0, slots, value)

    def read(self, layer: int, table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of a page table [batch, pages] as [batch, heads, pages times page size, head size]."""
        keys, values = self._layers[layer]
        return self._gather(keys, table), self._gather(values, table)

    def _gather(self, stored: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        batch, pages = table.shape
        picked = stored.index_select(0, table.reshape(-1))
        return picked.view(batch, pages * self.size, *stored.shape[2:]).transpose(1, 2)

    def _tensors(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self._layers.get(layer)
        if found is None:
            # Zeros that are not touched cost no memory yet on systems that map pages lazily.
            found = (
                key.new_zeros(self.count, self.size, *key.shape[1:]),
                value.new_zeros(self.count, self.size, *value.shape[1:]),
            )
            self._layers[layer] = found
        return found
