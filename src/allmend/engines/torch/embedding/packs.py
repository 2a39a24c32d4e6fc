"""Which rows are computed together: like lengths beside each other, as many tokens as a pack may have."""

from __future__ import annotations

from collections.abc import Sequence

PACK_TOKENS = 1024
"""Tokens of a pack: what a layer makes of them should stay in the processor's cache (measured; see the bench)."""


def packs_of(lengths: Sequence[int], most: int = PACK_TOKENS) -> list[list[int]]:
    """Rows by number in packs of at most `most` tokens, longest first; a longer row has a pack of its own."""
    packs: list[list[int]] = []
    filled = most + 1
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if filled + lengths[row] > most:
            packs.append([])
            filled = 0
        packs[-1].append(row)
        filled += lengths[row]
    return packs
