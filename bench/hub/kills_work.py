"""What is killed by `kills.py`: a store at work, and a whole hub at work, each in a process of its own.

Both run until they are killed, and say in lines what they are about to do and what was done. What a file of the hub
holds follows from its path alone, so that whoever looks afterwards can tell whether it is whole.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import threading
from collections.abc import Callable
from typing import Any

Say = Callable[[Any], None]


def store_at_work(place: str, seed: int, kept: list[str], say: Say) -> None:
    """Plain uploads, xorbs with shards, small files, finds and collections, in a random order, without end."""
    from allmend.hub.store import Store

    async def go() -> None:
        store = Store.open(place)
        draw = random.Random(seed)
        say("ready")
        while True:
            stored = await draw.choice([_plain, _plain, _xet, _small])(store, draw)
            kept.append(stored.xet)
            say(stored.xet)
            if draw.random() < 0.4:

                async def keep() -> Any:
                    for name in kept:
                        yield name

                await store.collect(keep, grace=0.05, unfinished=0.05 if draw.random() < 0.5 else 3600)

    asyncio.run(go())


async def _plain(store: Any, draw: random.Random) -> Any:
    data = random.Random(draw.randrange(9)).randbytes(400_000) + draw.randbytes(draw.randrange(1, 900_000))

    async def pieces() -> Any:
        for at in range(0, len(data), 99_999):
            yield data[at : at + 99_999]

    return await store.put(pieces())


async def _xet(store: Any, draw: random.Random) -> Any:
    from allmend.hub.store import hashes, shards, xorbs

    blobs = [draw.randbytes(draw.randrange(9000, 120_000)) for _ in range(draw.randrange(1, 30))]
    chunks = [xorbs.pack(blob, hashes.chunk_hash(blob)) for blob in blobs]
    pairs = [(chunk.hash, chunk.unpacked) for chunk, _ in chunks]
    root, size = hashes.tree_hash(pairs), sum(map(len, blobs))

    async def body() -> Any:
        for _, data in chunks:
            yield data

    await store.take_xorb(hashes.text(root), body())
    proof = hashes.range_hash(b"".join(name for name, _ in pairs))
    shard = b"".join([
        shards._HEAD.pack(shards._TAG, 2, 0), shards._FILE.pack(hashes.file_hash(pairs), 1 << 31, 1, 0),
        shards._TERM.pack(root, 0, size, 0, len(pairs)), shards._TERM.pack(proof, 0, 0, 0, 0),
        shards._FILE.pack(hashes.BOOKEND, 0, 0, 0), shards._TERM.pack(hashes.BOOKEND, 0, 0, 0, 0)])  # fmt: skip
    return (await store.take_shard(shard))[0]


async def _small(store: Any, draw: random.Random) -> Any:
    return (await store.put_many([draw.randbytes(draw.randrange(2000)) for _ in range(9)]))[0]


def content(path: str) -> bytes:
    """What the file at `path` holds; large files of one number begin alike."""
    draw = random.Random(path)
    if path.endswith(".txt"):
        return draw.randbytes(draw.randrange(3000))
    return random.Random(len(path)).randbytes(150_000) + draw.randbytes(draw.randrange(200_000))


def hub_at_work(place: str, seed: int, key: str, there: list[str], say: Say) -> None:
    """A hub that two clients commit to (whole files, LFS), squash and collect, without end.

    Args:
        there: the files that the repository has; each client owns those whose path begins with its number.
    """
    import httpx

    from allmend.hub.collecting import collect
    from allmend.verbs.start_hub import start_hub

    server = start_hub(store=place, port=0, inspect=False)
    key = key or server.token or ""
    head = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=server.url, headers=head, timeout=60) as client:
        client.post("/api/repos/create", json={"name": "kept"})
    said = threading.Lock()

    def tell(what: dict[str, Any]) -> None:
        with said:
            say(what)

    def work(number: int) -> None:
        draw = random.Random(f"{seed} {number}")
        mine = {path for path in there if path.startswith(f"{number}/")}
        with httpx.Client(base_url=server.url, headers=head, timeout=60) as client:
            while True:
                _commit(client, number, draw, mine, tell)
                if draw.random() < 0.15:
                    client.post("/api/models/admin/kept/super-squash/main", json={})
                if draw.random() < 0.3:
                    asyncio.run(collect(server.hub.store, older=0.2))
                    tell({"collected": 1})

    tell({"key": key})
    workers = [threading.Thread(target=work, args=(number,), daemon=True) for number in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def _commit(client: Any, number: int, draw: random.Random, mine: set[str], tell: Say) -> None:
    gone = sorted(mine)[: draw.randrange(1, 4)] if len(mine) > 6 else []
    new = [
        f"{number}/{draw.randrange(10**9)}.{draw.choice(['txt', 'bin', 'bin'])}" for _ in range(draw.randrange(1, 4))
    ]
    lines: list[tuple[str, dict[str, Any]]] = [("header", {"summary": "work"})]
    lines += [("deletedFile", {"path": path}) for path in gone]
    for path in new:
        data = content(path)
        if path.endswith(".txt"):
            text = base64.b64encode(data).decode()
            lines.append(("file", {"path": path, "content": text, "encoding": "base64"}))
        else:
            name = hashlib.sha256(data).hexdigest()
            _put(client, name, data)
            lines.append(("lfsFile", {"path": path, "algo": "sha256", "oid": name, "size": len(data)}))
    tell({"try": number, "new": new, "gone": gone})
    body = b"".join(json.dumps({"key": kind, "value": value}).encode() + b"\n" for kind, value in lines)
    answer = client.post("/api/models/admin/kept/commit/main", content=body)
    done = answer.status_code == 200
    if done:
        mine.difference_update(gone)
        mine.update(new)
    tell({"done" if done else "refused": number, "status": answer.status_code})


def _put(client: Any, name: str, data: bytes) -> None:
    asked = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": name, "size": len(data)}]}
    item = client.post("/admin/kept.git/info/lfs/objects/batch", json=asked).json()["objects"][0]
    for action in ("upload", "verify"):
        if action in item.get("actions", {}):
            href = item["actions"][action]["href"]
            if action == "upload":
                client.put(href, content=data)
            else:
                client.post(href, json={"oid": name, "size": len(data)})


def child(kind: str, place: str, seed: int, told: Any, end: Any) -> None:
    """Run one of the two in this process; what is said goes down the pipe `end`."""

    def say(what: Any) -> None:
        end.send_bytes(json.dumps(what).encode())

    if kind == "store":
        store_at_work(place, seed, told, say)
    else:
        key, there = told
        hub_at_work(place, seed, key, there, say)
