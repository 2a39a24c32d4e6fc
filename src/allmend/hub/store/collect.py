"""Taking away what no commit reaches.

Three passes, each safe to be killed in: files that nobody keeps are forgotten; xorbs that no file uses are forgotten
and then their objects removed; objects that no table names are swept. Everything younger than `grace` is left: an
upload in progress has referred to it, or its client may yet. Object names are never used twice, so removing one can
never hit an upload that came meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from allmend.hub.store import tables
from allmend.hub.store.objects import Objects, now

GRACE = 22 * 24 * 3600.0
"""Seconds. The stock client remembers for three weeks which chunks it uploaded and refers to them unasked."""

UNFINISHED = 24 * 3600.0
"""Seconds after which an object that no table names was left by a killed writer: far longer than writing one takes."""

_PAGE = 400


@dataclass(frozen=True)
class Collected:
    """What was taken away: files, xorbs, objects that no table named; bytes freed in the store."""

    files: int
    xorbs: int
    unnamed: int
    freed: int


async def collect(
    objects: Objects, keep: Callable[[], AsyncIterator[str]], *, grace: float, unfinished: float
) -> Collected:
    """See `Store.collect`."""
    before = now() - grace
    old = set(await asyncio.to_thread(tables.old_files, before))
    # Asked after the list was made: a commit that came in between is in the answer, or its file's lease is young.
    async for name in keep():
        old.discard(name)
    files, _ = await asyncio.to_thread(tables.drop_files, sorted(old), before)
    xorbs = freed = 0
    while gone := await asyncio.to_thread(tables.drop_xorbs, before):
        for name, size in gone:
            await objects.remove(name)
            xorbs, freed = xorbs + 1, freed + size
    unnamed, swept = await _sweep(objects, now() - unfinished)
    return Collected(files, xorbs, unnamed, freed + swept)


async def _sweep(objects: Objects, before: float) -> tuple[int, int]:
    count = freed = 0
    page: list[tuple[str, int]] = []

    async def clear() -> None:
        nonlocal count, freed
        named = await asyncio.to_thread(tables.named_objects, [name for name, _ in page])
        for name, size in page:
            if name not in named:
                await objects.remove(name)
                count, freed = count + 1, freed + size
        page.clear()

    async for entry in objects.old("xorbs", before):
        page.append(entry)
        if len(page) >= _PAGE:
            await clear()
    await clear()
    return count, freed + await asyncio.to_thread(objects.sweep_unfinished, before)
