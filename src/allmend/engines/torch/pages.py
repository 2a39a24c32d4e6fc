"""The key/value memory: fixed pages that sequences hold by number, so that memory is neither copied nor split up.

Page 0 is never handed out and stays zero: it fills the places of shorter sequences in a batch. A page is zeroed
when it is handed out, so that nothing a former holder left (a broken adapter's infinities, say) is ever read.

A full page can be remembered by what it was computed from: a chain of digests over the base, the adapters' contents
and scales, and every token up to its end. Whoever needs the same page later shares it. Nothing else can name it, so
one adapter's memory is never taken for another's, nor for the base's. Pages that nobody holds stay until their room
is needed, those unused longest going first.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence

import torch

PAGE_SIZE = 16
"""Tokens a page. Smaller wastes less at a sequence's end, larger copies in bigger runs."""


def chain(before: bytes, tokens: Sequence[int]) -> bytes:
    """The name of a page that holds `tokens` after the page, or the beginning, named `before`."""
    return hashlib.blake2b(array("q", tokens).tobytes(), key=before[:64], digest_size=24).digest()


class Pages:
    """Keys and values of every layer, [pages, page size, key/value heads, head size] each.

    A layer's tensors are made when it first writes, from the shape it writes: no layer has to be known before.

    Args:
        remember: keep full pages that are named, for whoever needs them again.
    """

    def __init__(self, count: int, *, size: int = PAGE_SIZE, remember: bool = True) -> None:
        self.count = count
        self.size = size
        self.remember = remember
        self._free = list(range(count - 1, 0, -1))
        self._holders: dict[int, int] = {}
        self._names: dict[int, bytes] = {}
        self._named: dict[bytes, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def free(self) -> int:
        """Pages that can be taken now."""
        return len(self._free) + len(self._idle)

    @property
    def idle(self) -> int:
        """Pages that are remembered and held by nobody."""
        return len(self._idle)

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
        if count > self.free:
            return None
        taken = []
        for _ in range(count):
            if not self._free:
                page, _ = self._idle.popitem(last=False)
                del self._named[self._names.pop(page)]
                self._free.append(page)
            taken.append(self._free.pop())
        self._holders.update(dict.fromkeys(taken, 1))
        if taken and self._layers:
            for keys, values in self._layers.values():
                index = torch.tensor(taken, device=keys.device)
                keys[index] = 0
                values[index] = 0
        return taken

    def give(self, pages: list[int]) -> None:
        """Hand pages back; the last first, since the first ones serve more of those who come."""
        for page in reversed(pages):
            self._holders[page] -= 1
            if self._holders[page]:
                continue
            del self._holders[page]
            if page in self._names:
                self._idle[page] = None
            else:
                self._free.append(page)

    def name(self, page: int, name: bytes) -> None:
        """Remember a full page that is held now; where another page has the name, that one stays."""
        if self.remember and name not in self._named:
            self._named[name] = page
            self._names[page] = name

    def find(self, name: bytes) -> int | None:
        """The page of that name, held once more; `None` where there is none."""
        page = self._named.get(name)
        if page is not None:
            self._idle.pop(page, None)
            self._holders[page] = self._holders.get(page, 0) + 1
        return page

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
