"""Uploads, shards, finds and collections, killed (SIGKILL) at random points; what is left is read back, every byte.

After each kill the store is opened anew and every file it knows is read through and held against its SHA-256; files
that an upload had reported as stored and that are kept must be there. At the end everything is collected, and neither
a row nor an object may be left. The figure is 200 kills in pieces (`--kills 50 --seed N`, N from 1 to 4), each
added to what `kills.json` has; the test suite runs a sample.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator

from common import HERE, folder, write

WORK = """
import asyncio, random, sys
from allmend.hub.store import Store, hashes, shards, xorbs

async def plain(store, draw):
    data = random.Random(draw.randrange(9)).randbytes(400_000) + draw.randbytes(draw.randrange(1, 900_000))
    async def pieces():
        for at in range(0, len(data), 99_999):
            yield data[at:at + 99_999]
    return await store.put(pieces())

async def xet(store, draw):
    blobs = [draw.randbytes(draw.randrange(9000, 120_000)) for _ in range(draw.randrange(1, 30))]
    chunks = [xorbs.pack(blob, hashes.chunk_hash(blob)) for blob in blobs]
    pairs = [(chunk.hash, chunk.unpacked) for chunk, _ in chunks]
    root, size = hashes.tree_hash(pairs), sum(map(len, blobs))
    async def body():
        for _, data in chunks:
            yield data
    await store.take_xorb(hashes.text(root), body())
    proof = hashes.range_hash(b"".join(name for name, _ in pairs))
    shard = b"".join([
        shards._HEAD.pack(shards._TAG, 2, 0), shards._FILE.pack(hashes.file_hash(pairs), 1 << 31, 1, 0),
        shards._TERM.pack(root, 0, size, 0, len(pairs)), shards._TERM.pack(proof, 0, 0, 0, 0),
        shards._FILE.pack(hashes.BOOKEND, 0, 0, 0), shards._TERM.pack(hashes.BOOKEND, 0, 0, 0, 0)])
    return (await store.take_shard(shard))[0]

async def small(store, draw):
    return (await store.put_many([draw.randbytes(draw.randrange(2000)) for _ in range(9)]))[0]

async def go():
    store = Store.open(sys.argv[1])
    draw, kept = random.Random(int(sys.argv[2])), sys.argv[3:]
    print("ready", flush=True)
    while True:
        stored = await draw.choice([plain, plain, xet, small])(store, draw)
        kept.append(stored.xet)
        print(stored.xet, flush=True)
        if draw.random() < 0.4:
            async def keep():
                for name in kept:
                    yield name
            await store.collect(keep, grace=0.05, unfinished=0.05 if draw.random() < 0.5 else 3600)
asyncio.run(go())
"""


async def whole(store: object, names: list[str]) -> int:
    from allmend.hub.store import Store

    assert isinstance(store, Store)
    for name in names:
        digest = hashlib.sha256()
        async for piece in store.read(name):
            digest.update(piece)
        stored = await store.stat(xet=name)
        assert stored is not None and stored.sha256 == digest.hexdigest(), name
    return len(names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    draw = random.Random(flags.seed)
    with folder() as place:
        os.environ["ALLMEND_HOME"] = str(place / "home")
        from sqlalchemy import select

        from allmend import database
        from allmend.database.schema import hub_files
        from allmend.hub.store import Store

        kept: list[str] = []
        read = reported = leftovers = 0
        for turn in range(flags.kills):
            command = [sys.executable, "-c", WORK, str(place / "store"), str(1000 * flags.seed + turn), *kept]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert child.stdout is not None and child.stdout.readline() == "ready\n"
            time.sleep(draw.uniform(0, 0.5))
            child.kill()
            told = [line.strip() for line in child.communicate()[0].splitlines() if len(line) == 64]
            reported += len(told)
            store = Store.open(place / "store")
            with database.writing() as connection:
                names = [row[0] for row in connection.execute(select(hub_files.c.xet))]
            missing = (set(told) | set(kept)) - set(names)
            assert not missing, missing
            read += asyncio.run(whole(store, names))
            kept = (kept + told)[-12:]

        async def nothing() -> AsyncIterator[str]:
            return
            yield

        asyncio.run(store.collect(nothing, grace=-1, unfinished=-1))
        leftovers = len([path for path in (place / "store").rglob("*") if path.is_file()])
        with database.writing() as connection:
            rows = len(connection.execute(select(hub_files.c.xet)).all())
        assert leftovers == rows == 0
    found = {"kills": flags.kills, "files_reported_stored": reported, "files_read_back_whole": read}
    result = HERE / "kills.json"
    before = json.loads(result.read_text()) if result.exists() else {}
    seeds = before.get("seeds", [])
    if flags.seed in seeds:
        before, seeds = {}, []
    summed = {name: count + before.get(name, 0) for name, count in found.items()}
    # An assertion above ends the run before this is written when anything is lost, half there or left over.
    write("kills", {"seeds": [*seeds, flags.seed], **summed, "lost_or_half_there": 0, "left_after_collecting_all": 0})


if __name__ == "__main__":
    main()
