"""The bytes of a file, wherever the store keeps them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from allmend.hub.objects import File
from allmend.hub.store import Store

Bodies = AsyncIterator[bytes | memoryview]
"""A body, piece by piece."""


async def contents(store: Store, file: File, start: int = 0, end: int | None = None) -> Bodies:
    """Bytes `start` to `end` of a file."""
    if file.sha256 is None:
        data = await store.read_small(file.key)
        yield data[start:end]
        return
    async for chunk in store.read(file.key, start, end):
        yield chunk
