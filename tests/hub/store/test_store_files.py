"""Files put, read, found and collected; in a folder and in an S3-compatible bucket."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import update

from allmend import database
from allmend.database.schema import hub_chunks, hub_file_xorbs, hub_files, hub_xorbs
from allmend.errors import DoesNotFit, InputError, NotFound, Unavailable, UsageError
from allmend.hub.store import Store, hashes, reading, xorbs
from allmend.hub.store.folder import FileWriter
from allmend.hub.store.shards import Term


def noise(length: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(length)


async def pieces(data: bytes, step: int = 300_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), step):
        yield data[at : at + step]


async def nothing() -> AsyncIterator[str]:
    return
    yield


async def read(store: Store, xet: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([piece async for piece in store.read(xet, start, end)])


async def objects(store: Store) -> dict[str, int]:
    return {name: size async for name, size in store.objects.old("xorbs", 1e12)}


def test_a_file_comes_back_whole_and_in_ranges(store):
    data = noise(9_000_000) + bytes(2_000_000) + b"text " * 300_000

    async def go() -> None:
        stored = await store.put(pieces(data), sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        assert stored.sha256 == hashlib.sha256(data).hexdigest()
        assert await store.stat(xet=stored.xet) == await store.stat(sha256=stored.sha256) == stored
        assert await read(store, stored.xet) == data
        for start, end in ((0, 1), (1, 70_000), (8_999_999, 9_000_001), (len(data) - 1, None), (len(data), None)):
            assert await read(store, stored.xet, start, end) == data[start:end]
        draw = random.Random(1)
        for _ in range(12):
            start, end = sorted(draw.sample(range(len(data) + 100), 2))
            assert await read(store, stored.xet, start, end) == data[start:end]
        assert sum((await objects(store)).values()) < 9_500_000

    asyncio.run(go())


def test_what_is_here_is_not_stored_again(store):
    data = noise(8_000_000)
    changed = bytearray(data)
    changed[4_000_000] ^= 1

    async def go() -> None:
        first = await store.put(pieces(data))
        before = sum((await objects(store)).values())
        assert await store.put(pieces(data, 77_777)) == first
        assert sum((await objects(store)).values()) == before
        second = await store.put(pieces(bytes(changed)))
        assert sum((await objects(store)).values()) - before < 300_000
        assert await read(store, second.xet) == bytes(changed)
        assert await store.used([first.xet, second.xet, first.xet]) == 2 * len(data)

    asyncio.run(go())


def test_small_files_share_an_object(store):
    blobs = [b"", b"{}", b"# card\n" * 50, b"{}", *(b"file %d" % n for n in range(200))]

    async def go() -> None:
        stored = await store.put_many(blobs)
        assert [await store.read_small(one.xet) for one in stored] == blobs
        assert stored[1] == stored[3] and len(await objects(store)) == 1
        assert await store.read_small((await store.put_small(b"alone")).xet) == b"alone"

    asyncio.run(go())


def test_what_is_not_as_announced_is_refused_and_unknown(store):
    data = noise(500_000)

    async def go() -> None:
        for error, wrong in (
            (InputError, {"sha256": "0" * 64}),
            (InputError, {"size": len(data) - 1}),
            (InputError, {"size": len(data) + 1}),
            (DoesNotFit, {"most": 1000}),
        ):
            with pytest.raises(error):
                await store.put(pieces(data), **wrong)
        assert await store.stat(sha256=hashlib.sha256(data).hexdigest()) is None
        with pytest.raises(NotFound):
            await read(store, "0" * 64)

    asyncio.run(go())


def test_an_upload_that_breaks_off_leaves_nothing_known(store):
    async def broken() -> AsyncIterator[bytes]:
        yield noise(7_000_000)
        raise ConnectionError("gone")

    async def go() -> None:
        with pytest.raises(ConnectionError):
            await store.put(broken())
        await store.collect(nothing, grace=-1, unfinished=-1)
        assert await objects(store) == {}

    asyncio.run(go())


def rows() -> dict[str, int]:
    from sqlalchemy import func, select

    with database.reading() as connection:
        tables = (hub_files, hub_xorbs, hub_chunks, hub_file_xorbs)
        return {table.name: connection.execute(select(func.count()).select_from(table)).scalar() for table in tables}


def test_the_collection_takes_what_nobody_keeps_and_nothing_else(store):
    shared, one, other = noise(2_000_000, 1), noise(2_000_000, 2), noise(2_000_000, 3)

    async def go() -> None:
        kept = await store.put(pieces(shared + one))
        dropped = await store.put(pieces(shared + other))

        async def keep() -> AsyncIterator[str]:
            yield kept.xet

        assert (await store.collect(keep)).files == 0  # young
        taken = await store.collect(keep, grace=-1, unfinished=-1)
        assert taken.files == 1 and taken.freed > 1_800_000
        assert await store.stat(xet=dropped.xet) is None
        assert await read(store, kept.xet) == shared + one
        taken = await store.collect(nothing, grace=-1, unfinished=-1)
        assert rows() == dict.fromkeys(("hub_files", "hub_xorbs", "hub_chunks", "hub_file_xorbs"), 0)
        assert await objects(store) == {}

    asyncio.run(go())


def test_a_file_that_was_just_found_is_not_collected(store):
    async def go() -> None:
        stored = await store.put_small(b"found again")
        with database.writing() as connection:
            connection.execute(update(hub_files).values(touched=0.0))
            connection.execute(update(hub_xorbs).values(touched=0.0))
        assert await store.stat(xet=stored.xet) is not None
        await store.collect(nothing, grace=3600)
        assert await store.read_small(stored.xet) == b"found again"

    asyncio.run(go())


def test_an_upload_between_is_never_lost_to_the_collection(tmp_path):
    """Uploads of shared chunks race with collections that keep nothing for long: each ends whole or clearly refused."""
    store = Store.open(tmp_path / "store")
    data = [noise(300_000, 5) + noise(200_000, n) for n in range(4)]

    async def go() -> None:
        kept: set[str] = set()

        async def keep() -> AsyncIterator[str]:
            for name in list(kept):
                yield name

        async def upload(turn: int) -> None:
            for _ in range(6):
                try:
                    stored = await store.put(pieces(data[turn]), size=len(data[turn]))
                    kept.add(stored.xet)
                except Unavailable:
                    continue

        async def collecting() -> None:
            for _ in range(25):
                await store.collect(keep, grace=0.05, unfinished=60)
                await asyncio.sleep(0)

        await asyncio.gather(*(upload(turn) for turn in range(4)), collecting())
        for name in kept:
            if await store.stat(xet=name):
                assert hashlib.sha256(await read(store, name)).hexdigest() == (await store.stat(xet=name)).sha256

    asyncio.run(go())


def test_damage_is_noticed_and_never_given_out(tmp_path):
    store = Store.open(tmp_path / "store")
    data = noise(1_000_000)

    async def go() -> None:
        stored = await store.put(pieces(data))
        [path] = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
        damaged = bytearray(path.read_bytes())
        damaged[600_000] ^= 1
        path.write_bytes(damaged)
        got = bytearray()
        with pytest.raises(InputError, match="damaged"):
            async for piece in store.read(stored.xet):
                got += piece
        assert data.startswith(bytes(got))

    asyncio.run(go())


def test_places_that_cannot_be_used_are_said(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", "nothing://there", "s3://"):
        with pytest.raises(UsageError):
            Store.open(place)


def test_a_writer_that_was_given_up_writes_nothing_more(tmp_path):
    given_up, other = FileWriter(tmp_path, "xorbs/aa/one"), FileWriter(tmp_path, "xorbs/aa/two")
    given_up.write(b"begun")
    given_up.abandon()
    other.write(b"other")  # takes the number that the first file had
    for late in (lambda: given_up.write(b"late"), given_up.close):
        with pytest.raises(Unavailable):
            late()
    given_up.abandon()
    other.close()
    assert [(path.name, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file()] == [("two", b"other")]


def test_many_small_chunks_and_compressed_ones_among_raw_read_back(store):
    blobs = [bytes([n % 256, n // 256]) * 3 for n in range(1200)] + [b"a" * 9000, noise(9000), noise(130_000, 5)]

    async def go():
        chunks = [xorbs.pack(blob, hashes.chunk_hash(blob)) for blob in blobs]
        name = hashes.tree_hash((chunk.hash, chunk.unpacked) for chunk, _ in chunks)

        async def body():
            data = b"".join(data for _, data in chunks)
            for at in range(0, len(data), 70_001):
                yield data[at : at + 70_001]

        assert await store.take_xorb(hashes.text(name), body())
        xorb = await store.catalogue.xorb(hashes.text(name))
        whole = b"".join(blobs)
        term = Term(name, 0, len(blobs), len(whole))
        for start, end in ((0, len(whole)), (1, 6001), (7190, 20_000), (len(whole) - 1, len(whole))):
            found = [bytes(piece) async for piece in reading.read(store.objects, store.catalogue, [term], start, end)]
            assert b"".join(found) == whole[start:end]
        parts = reading.pieces(xorb, 0, len(blobs))
        packed = [bytes(piece) async for piece in reading.packed(store.objects, store.catalogue, parts)]
        assert b"".join(packed) == b"".join(data for _, data in chunks)

    asyncio.run(go())
