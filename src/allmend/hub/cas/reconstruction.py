"""How a client puts a file together: the answer to `GET /v1/reconstructions/FILE`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allmend.errors import NotFound
from allmend.hub.store import Store, hashes, reading

Address = Callable[[str, int, int], str]
"""The address of bytes `start` to `end` (included) of a xorb."""


async def answer(store: Store, xet: str, start: int, end: int | None, address: Address) -> dict[str, Any] | None:
    """The body for a range of a file; None when the range begins behind its end. Raises `NotFound`."""
    found = await store.terms(xet)
    if found is None:
        raise NotFound("there is no such file in the store", where=xet)
    size, terms = found
    stop = size if end is None else min(end, size)
    if start >= size and size:
        return None
    wanted = await reading.within(store.catalogue, terms, start, stop)
    rows, ranges = [], dict[str, list[tuple[int, int]]]()
    for term in wanted.terms:
        name = hashes.text(term.xorb)
        rows.append({"hash": name, "unpacked_length": term.unpacked, "range": {"start": term.start, "end": term.end}})
        ranges.setdefault(name, []).append((term.start, term.end))
    fetch: dict[str, list[dict[str, Any]]] = {}
    for name, wide in ranges.items():
        xorb = await store.catalogue.xorb(name)
        fetch[name] = []
        for first, last in _joined(wide):
            begin = int(xorb.ends[first - 1]) if first else 0
            finish = int(xorb.ends[last - 1]) - 1
            fetch[name].append(
                {
                    "range": {"start": first, "end": last},
                    "url": address(name, begin, finish),
                    "url_range": {"start": begin, "end": finish},
                }
            )
    return {"offset_into_first_range": wanted.skip, "terms": rows, "fetch_info": fetch}


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found
