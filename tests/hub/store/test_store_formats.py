"""Cuts, names, xorbs and shards: the same as the stock client's, and refused when they lie."""

from __future__ import annotations

import random
import struct

import hf_xet
import lz4.frame
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmend.errors import InputError
from allmend.hub.store import gear, hashes, shards, xorbs


def noise(length: int, seed: int = 0, letters: int = 256) -> bytes:
    if letters == 256:
        return random.Random(seed).randbytes(length)
    return bytes(random.Random(seed).choices(range(letters), k=length))


def name_of(data: bytes, compiled: bool) -> str:
    begin, pairs = 0, []
    for end in gear.cuts(data, last=True, compiled=compiled):
        pairs.append((hashes.chunk_hash(data[begin:end]), end - begin))
        begin = end
    return hashes.text(hashes.file_hash(pairs))


FILES = {
    "empty": b"",
    "one byte": b"x",
    "below the least chunk": noise(8191),
    "zeros, cut at the most": bytes(700_001),
    "exactly the most": bytes(131072),
    "noise": noise(6_000_000),
    "text": b"".join(b"line %d of a log\n" % n for n in range(60_000)),
    "few letters": noise(300_000, letters=3),
}


@pytest.mark.parametrize("compiled", [True, False])
def test_a_file_has_the_name_that_the_stock_client_gives_it(tmp_path, compiled):
    for data in FILES.values():
        (tmp_path / "file").write_bytes(data)
        assert name_of(data, compiled) == hf_xet.hash_files([str(tmp_path / "file")])[0].hash


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 200_000), min_size=1, max_size=12), st.integers(0, 99), st.sampled_from([2, 256]))
def test_cuts_do_not_depend_on_how_the_bytes_arrive(lengths, seed, letters):
    data = noise(sum(lengths), seed, letters)
    whole = gear.cuts(data, last=True)
    assert whole == gear.cuts(data, last=True, compiled=False)
    ends, begin, held = [], 0, b""
    for length in lengths:
        held += data[begin + len(held) : begin + len(held) + length]
        found = gear.cuts(held, last=False)
        ends += [begin + end for end in found]
        if found:
            begin, held = begin + found[-1], held[found[-1] :]
        assert len(held) < gear.MOST
    ends += [begin + end for end in gear.cuts(held, last=True)]
    assert ends == whole


def test_a_byte_moves_only_the_cuts_beside_it():
    data = noise(3_000_000)
    changed = bytearray(data)
    changed[1_500_000] ^= 1
    differing = set(gear.cuts(data, last=True)) ^ set(gear.cuts(bytes(changed), last=True))
    assert all(abs(end - 1_500_000) < 3 * gear.MOST for end in differing)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40_000), st.integers(0, 99), st.sampled_from([1, 2, 9, 256]), st.booleans())
def test_a_packed_chunk_unpacks_to_itself(length, seed, letters, floats):
    data = noise(length, seed, letters) if letters > 1 else bytes(length)
    if floats:
        data = struct.pack(f"<{length}f", *(seed + n / 1000 for n in range(length)))[: xorbs.MOST_UNPACKED]
    chunk, packed = xorbs.pack(data, hashes.chunk_hash(data))
    assert bytes(xorbs.unpack(packed)) == data
    assert (chunk.packed, chunk.unpacked) == (len(packed), len(data))
    assert len(packed) <= len(data) + 8


def xorb_of(*blobs: bytes) -> tuple[str, bytes]:
    chunks = [xorbs.pack(blob, hashes.chunk_hash(blob)) for blob in blobs]
    name = hashes.tree_hash((chunk.hash, chunk.unpacked) for chunk, _ in chunks)
    return hashes.text(name), b"".join(data for _, data in chunks)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=30), st.integers(1, 4000))
def test_a_xorb_reads_the_same_however_it_arrives(lengths, step):
    blobs = [noise(length, n, 5) for n, length in enumerate(lengths)]
    name, data = xorb_of(*blobs)
    for footer in (b"", b"XETBLOB" + noise(400)):
        sent, reader, left, kept = data + footer, xorbs.Reader(), b"", b""
        for at in range(0, len(sent), step):
            left += sent[at : at + step]
            taken = reader.feed(memoryview(left))
            kept, left = kept + left[:taken], b"" if reader.ended else left[taken:]
        assert hashes.text(reader.finish(len(left))) == name
        assert kept == data and [chunk.unpacked for chunk in reader.chunks] == lengths


def test_what_is_no_xorb_is_refused():
    bomb = lz4.frame.compress(bytes(50_000_000))[: 2 * xorbs.MOST_UNPACKED]
    head = bytes([0]) + len(bomb).to_bytes(3, "little") + bytes([1]) + (131072).to_bytes(3, "little")
    for data in (
        b"",
        b"XETBLOB" + bytes(100),
        bytes(8),
        bytes([1]) + (4).to_bytes(3, "little") + bytes([0]) + (4).to_bytes(3, "little") + b"abcd",
        bytes([0]) + (4).to_bytes(3, "little") + bytes([3]) + (4).to_bytes(3, "little") + b"abcd",
        bytes([0]) + (4).to_bytes(3, "little") + bytes([0]) + (5).to_bytes(3, "little") + b"abcd",
        bytes([0]) + (4).to_bytes(3, "little") + bytes([1]) + (5).to_bytes(3, "little") + b"abcd",
        head + bomb,
        xorb_of(b"a" * 100, b"b" * 100)[1][:-1],
        xorb_of(b"a" * 100)[1] + b"XETBLOB" + bytes(1_000_000),
    ):
        reader = xorbs.Reader()
        with pytest.raises(InputError):
            reader.finish(len(data) - reader.feed(memoryview(data)))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 6))
def test_any_bytes_are_a_shard_or_refused(data, kind):
    tag = b"HFRepoMetaData\0" + bytes([85, 105, 103, 69, 106, 123, 129, 87, 131, 165, 189, 217, 92, 205, 209, 74, 169])
    prefix = [b"", tag, tag + struct.pack("<QQ", 2, 0), tag + struct.pack("<QQ", 2, 0) + hashes.BOOKEND + bytes(16)]
    whole = prefix[kind % 4] + data
    try:
        found = shards.parse(whole)
    except InputError:
        return
    # What was read stands in the bytes: no count in them is believed beyond what follows it.
    records = sum(1 + len(file.terms) + len(file.proofs) for file in found.files)
    records += sum(1 + len(xorb.chunks) for xorb in found.xorbs)
    assert whole.startswith(tag) and records * 48 <= len(whole)


def test_a_shard_that_claims_billions_of_records_is_refused_at_once():
    head = shards._HEAD.pack(shards._TAG, 2, 0)
    with pytest.raises(InputError, match="too many"):
        shards.parse(head + shards._FILE.pack(bytes(32), 1 << 31, 0xFFFFFFFF, 0) + bytes(4096))


def test_names_are_read_as_they_are_printed():
    for seed in range(20):
        raw = noise(32, seed)
        assert hashes.raw(hashes.text(raw)) == raw
    for wrong in ("", "g" * 64, "A" * 64, "0" * 63, "0" * 65, "../" * 21 + "a"):
        with pytest.raises(InputError):
            hashes.raw(wrong)
