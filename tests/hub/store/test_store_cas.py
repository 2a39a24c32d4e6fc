"""The Xet routes: the stock client against them, and everything that lies, refused."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import struct
import subprocess
import sys
import time

import httpx
import pytest

from allmend.errors import DoesNotFit, Refused
from allmend.hub.cas import CasTokens
from allmend.hub.store import Store, hashes, shards, xorbs


def noise(length: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(length)


def read(store: Store, xet: str) -> bytes:
    async def go() -> bytes:
        return b"".join([piece async for piece in store.read(xet)])

    return asyncio.run(go())


def stat(store: Store, data: bytes):
    return asyncio.run(store.stat(sha256=hashlib.sha256(data).hexdigest()))


def test_the_stock_client_uploads_and_downloads(store, serve, tmp_path):
    floats = struct.pack("<500000f", *(n / 1000 for n in range(500_000)))
    data = noise(9_000_000) + floats + b"a line of text\n" * 100_000
    (tmp_path / "file").write_bytes(data)
    (tmp_path / "small").write_bytes(b"small")
    cas = serve(store)
    cas.upload(tmp_path / "file", tmp_path / "small")
    stored = stat(store, data)
    assert stored is not None and stored.size == len(data)
    assert read(store, stored.xet) == data
    assert cas.download(stored.xet, len(data), tmp_path / "back") == data

    async def again() -> None:
        async def plain():
            yield data

        # The same bytes by another way have the same name and take no room.
        before = [name async for name in store.objects.old("xorbs", 1e12)]
        assert await store.put(plain()) == stored
        assert [name async for name in store.objects.old("xorbs", 1e12)] == before

    asyncio.run(again())


def test_what_was_put_plainly_downloads_by_the_stock_client(tmp_path, serve):
    store = Store.open(tmp_path / "store")
    data = noise(5_000_000) + bytes(3_000_000)

    async def plain():
        yield data

    stored = asyncio.run(store.put(plain()))
    assert serve(store).download(stored.xet, len(data), tmp_path / "back") == data


def test_a_client_that_never_uploaded_sends_only_what_differs(tmp_path, serve):
    store = Store.open(tmp_path / "store")
    data = bytearray(noise(20_000_000))
    cas = serve(store)

    async def plain():
        yield bytes(data)

    asyncio.run(store.put(plain()))
    data[12_000_000] ^= 1
    (tmp_path / "file").write_bytes(data)
    cas.upload(tmp_path / "file")
    assert read(store, stat(store, bytes(data)).xet) == bytes(data)
    sent = sum(length for method, path, length in cas.asked if method == "POST" and "/telemetry" not in path)
    assert sent < 0.015 * len(data)


def xorb_of(*blobs: bytes) -> tuple[bytes, bytes, list[tuple[bytes, int]]]:
    chunks = [xorbs.pack(blob, hashes.chunk_hash(blob)) for blob in blobs]
    pairs = [(chunk.hash, chunk.unpacked) for chunk, _ in chunks]
    return hashes.tree_hash(pairs), b"".join(data for _, data in chunks), pairs


def shard_of(xorb: bytes, pairs: list[tuple[bytes, int]], digest: bytes, **lies: object) -> bytes:
    """A shard of one file that is one whole xorb, true but for `lies`."""
    size = sum(length for _, length in pairs)
    true = {
        "file": hashes.file_hash(pairs),
        "term": (xorb, 0, size, 0, len(pairs)),
        "proof": hashes.range_hash(b"".join(name for name, _ in pairs)),
        "sha256": hashes.raw(digest.hex()),
        "flags": 3 << 30,
        "listed": pairs,
    } | lies
    proofs = [shards._TERM.pack(true["proof"], 0, 0, 0, 0)] if true["flags"] & 1 << 31 else []
    listed = true["listed"]
    return b"".join(
        [
            shards._HEAD.pack(shards._TAG, 2, 0),
            shards._FILE.pack(true["file"], true["flags"], 1, 0),
            shards._TERM.pack(*true["term"]),
            *proofs,
            shards._TERM.pack(true["sha256"], 0, 0, 0, 0),
            shards._FILE.pack(hashes.BOOKEND, 0, 0, 0),
            shards._TERM.pack(xorb, 0, len(listed), size, 0),
            *(shards._TERM.pack(name, 0, length, 0, 0) for name, length in listed),
            shards._TERM.pack(hashes.BOOKEND, 0, 0, 0, 0),
        ]
    )


def test_a_shard_that_lies_is_refused_and_nothing_of_it_kept(tmp_path, serve):
    store = Store.open(tmp_path / "store")
    cas = serve(store)
    blobs = [noise(40_000, n) for n in range(5)]
    xorb, packed, pairs = xorb_of(*blobs)
    data = b"".join(blobs)
    digest = hashlib.sha256(data).digest()
    head = {"Authorization": f"Bearer {cas.tokens.mint('r', 'write')[0]}"}
    name, size = hashes.text(xorb), len(data)
    with httpx.Client(base_url=cas.url, headers=head, timeout=120) as client:
        wrong = client.post(f"/v1/xorbs/default/{hashes.text(noise(32))}", content=packed)
        assert wrong.status_code == 400 and "name" in wrong.json()["error"]
        assert client.post("/v1/shards", content=shard_of(xorb, pairs, digest)).status_code == 400  # no xorb yet
        assert client.post(f"/v1/xorbs/default/{name}", content=packed).json() == {"was_inserted": True}
        assert client.post(f"/v1/xorbs/default/{name}", content=packed).json() == {"was_inserted": False}
        swapped = [pairs[1], pairs[0], *pairs[2:]]
        for lies in (
            {"file": noise(32)},
            {"proof": noise(32)},
            {"flags": 1 << 30},
            {"sha256": noise(32)},
            {"term": (xorb, 0, size - 1, 0, 5)},
            {"term": (xorb, 0, size, 0, 6)},
            {"term": (xorb, 0, size, 3, 3)},
            {"term": (xorb, 0, size, 4, 0xFFFFFFFF)},
            {"term": (noise(32), 0, size, 0, 5)},
            {"listed": swapped},
            {"listed": pairs[:-1]},
        ):
            answer = client.post("/v1/shards", content=shard_of(xorb, pairs, digest, **lies))
            assert answer.status_code == 400, (lies, answer.text)
            assert stat(store, data) is None
        assert client.post("/v1/shards", content=shard_of(xorb, pairs, digest)).json() == {"result": 1}
    assert read(store, stat(store, data).xet) == data


def test_damaged_bodies_never_break_the_server_or_get_in(tmp_path, serve):
    store = Store.open(tmp_path / "store")
    cas = serve(store)
    xorb, packed, pairs = xorb_of(*(noise(3000, n) for n in range(4)), bytes(9000))
    whole = {
        f"/v1/xorbs/default/{hashes.text(xorb)}": packed,
        "/v1/shards": shard_of(xorb, pairs, hashlib.sha256(b"").digest()),
    }
    draw = random.Random(7)
    head = {"Authorization": f"Bearer {cas.tokens.mint('r', 'write')[0]}"}
    with httpx.Client(base_url=cas.url, headers=head, timeout=120) as client:
        for path, body in whole.items():
            for _ in range(60):
                damaged = bytearray(body)
                for _ in range(draw.choice([1, 1, 2, 20])):
                    damaged[draw.randrange(len(damaged))] = draw.randrange(256)
                cut = draw.choice([len(damaged), draw.randrange(len(damaged))])
                if bytes(damaged[:cut]) == body:
                    continue
                answer = client.post(path, content=bytes(damaged[:cut]))
                assert answer.status_code == 400, answer.text
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_tokens_allow_what_they_say_and_no_more(tmp_path, serve):
    store = Store.open(tmp_path / "store")
    cas = serve(store)
    xorb, packed, _ = xorb_of(b"secret" * 1000)
    name = hashes.text(xorb)
    with httpx.Client(base_url=cas.url, timeout=120) as client:

        def ask(method: str, path: str, token: str | None, **more) -> int:
            head = {"Authorization": f"Bearer {token}"} if token else {}
            return client.request(method, path, headers=head | more.pop("headers", {}), **more).status_code

        write, reading = cas.tokens.mint("r", "write")[0], cas.tokens.mint("r", "read")[0]
        foreign = CasTokens(os.urandom(32)).mint("r", "write")[0]
        ended = CasTokens(cas.tokens._secret, seconds=-5).mint("r", "write")[0]
        for token in (None, "", "x.y", foreign, ended, reading + "a", "é.é"):
            if token and not token.isascii():
                continue
            for method, path in (
                ("POST", f"/v1/xorbs/default/{name}"),
                ("POST", "/v1/shards"),
                ("GET", f"/v1/reconstructions/{name}"),
                ("GET", f"/v1/chunks/default/{name}"),
                ("HEAD", f"/v1/xorbs/default/{name}"),
            ):
                assert ask(method, path, token) == 401, (method, path, token)
        assert ask("POST", f"/v1/xorbs/default/{name}", reading, content=packed) == 403
        assert ask("POST", "/v1/shards", reading) == 403
        assert ask("POST", f"/v1/xorbs/default/{name}", write, content=packed) == 200
        # Bytes go out to signed addresses only, and only those that were signed.
        until = int(time.time()) + 60
        signature = cas.tokens.sign_bytes(name, 0, len(packed) - 1, until)
        good = {"from": 0, "to": len(packed) - 1, "until": until, "signature": signature}
        assert ask("GET", f"/v1/xorbs/default/{name}", None, params=good) == 206
        for change in ({"to": 5}, {"until": until + 1}, {"signature": "x"}, {"from": "é"}):
            assert ask("GET", f"/v1/xorbs/default/{name}", write, params=good | change) == 403
        assert ask("GET", f"/v1/xorbs/default/{name}", write) == 403
        assert ask("GET", f"/v1/xorbs/default/{name}", None, params=good, headers={"Range": "bytes=1-2"}) == 403
        for path in ("/v1/xorbs/default/..%2f..%2fetc", "/v1/reconstructions/zz", "/v1/chunks/default/1"):
            assert ask("GET", path, write) in (400, 403, 404)
        assert ask("POST", f"/v1/xorb-grants/default/{name}", write) == 404
        assert ask("POST", "/v1/telemetry", None, content=b"{}") == 200


def test_the_hub_may_refuse_files_and_hide_them(tmp_path, serve):
    store = Store.open(tmp_path / "store")
    (tmp_path / "file").write_bytes(noise(100_000))

    async def admitted(grant, files):
        assert grant.repository == "some/repository"
        raise DoesNotFit(f"{sum(one.size for one in files)} bytes are too many")

    async def visible(grant, xet):
        return False

    with pytest.raises(Exception, match=r"(?i)413|too large|error"):
        serve(store, admitted=admitted).upload(tmp_path / "file")
    assert stat(store, noise(100_000)) is None
    stored = asyncio.run(store.put_small(b"hidden"))
    cas = serve(store, visible=visible)
    head = {"Authorization": f"Bearer {cas.tokens.mint('r', 'read')[0]}"}
    assert httpx.get(f"{cas.url}/v1/reconstructions/{stored.xet}", headers=head, timeout=120).status_code == 404
    with pytest.raises(Refused):
        cas.tokens.verify("nonsense")


_UPLOADING = """
import asyncio, random, sys
from allmend.hub.store import Store
async def go():
    store = Store.open(sys.argv[1])
    print("ready", flush=True)
    for n in range(int(sys.argv[2]), 10**6):
        data = random.Random(n % 7).randbytes(300_000) + random.Random(n).randbytes(200_000)
        async def pieces():
            yield data
        stored = await store.put(pieces())
        print(stored.xet, flush=True)
        if n % 3 == 0:
            async def keep():
                yield stored.xet
            await store.collect(keep, grace=0.2, unfinished=3600)
asyncio.run(go())
"""


def test_a_killed_writer_leaves_whole_files_only(tmp_path):
    """A sample of `bench/hub/kills.py`: uploads and collections, killed anywhere."""
    draw = random.Random(3)
    store = Store.open(tmp_path / "store")
    for turn in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", _UPLOADING, str(tmp_path / "store"), str(turn * 1000)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None and child.stdout.readline() == b"ready\n"
        time.sleep(draw.uniform(0, 0.6))
        child.kill()
        child.communicate()
    from sqlalchemy import select

    from allmend import database
    from allmend.database.schema import hub_files

    with database.writing() as connection:
        names = [row[0] for row in connection.execute(select(hub_files.c.xet))]
    for name in names:
        assert hashlib.sha256(read(store, name)).hexdigest() == asyncio.run(store.stat(xet=name)).sha256
    taken = asyncio.run(store.collect(_nothing, grace=-1, unfinished=-1))
    assert taken.files == len(names)
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


async def _nothing():
    return
    yield
