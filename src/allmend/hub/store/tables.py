"""What is where, in SQL: xorbs with their chunks, files with their terms.

A row appears only after the bytes it speaks of are in the store, and whoever is about to refer to a xorb first renews
its lease (`touched`) in the transaction that needs it: the collection deletes a row only if its lease is old in that
very statement, so the two can never miss each other. Calls block; the async rooms run them in a thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, delete, func, select, update

from allmend.database import reading, writing
from allmend.database.once import insert_new
from allmend.database.schema import hub_chunks, hub_file_xorbs, hub_files, hub_xorbs
from allmend.hub.store import hashes
from allmend.hub.store.objects import now
from allmend.hub.store.shards import Term
from allmend.hub.store.stored import Stored
from allmend.hub.store.xorbs import RECORD, Records

TERM = np.dtype([("xorb", "V32"), ("start", "<u4"), ("end", "<u4"), ("unpacked", "<u4")])
"""A term of a file as it is kept."""

_AT_ONCE = 500  # values in one statement

LEASE_STEP = 60.0
"""Seconds before a file's lease is renewed again by being found: finding must not write each time."""


@dataclass(frozen=True)
class Xorb:
    """A xorb in the store. `chunks` are records of `xorbs.RECORD`, in order; `ends` where each ends, packed."""

    id: int
    hash: str
    object: str
    packed: int
    chunks: Records
    ends: Any


def add_xorb(hash_: str, object_: str, packed: int, chunks: bytes) -> bool:
    """Make a xorb known, whose object is in the store; False when it was known before (its lease is renewed)."""
    array = np.frombuffer(chunks, dtype=RECORD)
    with writing() as connection:
        if touch(connection, [hash_]) == 1:
            return False
        unpacked = int(array["unpacked"].sum(dtype=np.int64))
        row = {"hash": hash_, "object": object_, "packed": packed, "unpacked": unpacked, "chunks": chunks}
        insert_new(connection, hub_xorbs, [row | {"touched": now()}])
        found = connection.execute(select(hub_xorbs.c.id, hub_xorbs.c.object).where(hub_xorbs.c.hash == hash_)).one()
        if found.object != object_:
            return False
        # In one order everywhere: two that insert the same chunks wait for each other and never in a circle.
        places = sorted((name, at) for at, name in enumerate(array["hash"].tolist()))
        insert_new(connection, hub_chunks, [{"hash": name, "xorb_id": found.id, "place": at} for name, at in places])
        return True


def touch(connection: Connection, names: Iterable[str]) -> int:
    """Renew the leases of xorbs; how many of them are there."""
    wanted, found = sorted(set(names)), 0
    for at in range(0, len(wanted), _AT_ONCE):
        some = wanted[at : at + _AT_ONCE]
        found += connection.execute(update(hub_xorbs).where(hub_xorbs.c.hash.in_(some)).values(touched=now())).rowcount
    return found


def hold(names: Iterable[str]) -> int:
    """Renew the leases of xorbs in a transaction of its own; how many of them are there."""
    with writing() as connection:
        return touch(connection, names)


def xorb(name: str) -> Xorb | None:
    """A xorb by name."""
    with reading() as connection:
        row = connection and connection.execute(select(hub_xorbs).where(hub_xorbs.c.hash == name)).first()
    return _xorb(row) if row else None


def _xorb(row: Any) -> Xorb:
    chunks = np.frombuffer(row.chunks, dtype=RECORD)
    ends = np.cumsum(chunks["packed"], dtype=np.int64)
    return Xorb(row.id, row.hash, row.object, row.packed, chunks, ends)


def known_chunks(names: Sequence[bytes]) -> dict[bytes, tuple[str, int]]:
    """Which of `names` are here: xorb and place of each. Leases of the xorbs are renewed."""
    found: dict[bytes, tuple[str, int]] = {}
    unique = list(dict.fromkeys(names))
    with reading() as connection:
        if connection is None:
            return {}
        for at in range(0, len(unique), _AT_ONCE):
            query = (
                select(hub_chunks.c.hash, hub_xorbs.c.hash, hub_chunks.c.place)
                .join(hub_xorbs, hub_xorbs.c.id == hub_chunks.c.xorb_id)
                .where(hub_chunks.c.hash.in_(unique[at : at + _AT_ONCE]))
            )
            found |= {bytes(name): (where, place) for name, where, place in connection.execute(query)}
    if found:
        hold({where for where, _ in found.values()})
    return found


def neighbours(chunk: bytes, most: int) -> list[Xorb]:
    """The xorb that holds `chunk` and those that the files using it use too, `most` at most; leases renewed."""
    with writing() as connection:
        first = connection.execute(select(hub_chunks.c.xorb_id).where(hub_chunks.c.hash == chunk)).scalar()
        if first is None:
            return []
        files = (
            select(hub_file_xorbs.c.xet)
            .join(hub_files, hub_files.c.xet == hub_file_xorbs.c.xet)
            .where(hub_file_xorbs.c.xorb_id == first)
            .order_by(hub_files.c.touched.desc())
            .limit(4)
        )
        chosen = [row[0] for row in connection.execute(files)]
        beside = select(hub_file_xorbs.c.xorb_id).where(hub_file_xorbs.c.xet.in_(chosen)).distinct().limit(most - 1)
        ids = {first, *(row[0] for row in connection.execute(beside))}
        rows = connection.execute(select(hub_xorbs).where(hub_xorbs.c.id.in_(ids))).all()
        touch(connection, [row.hash for row in rows])
    return [_xorb(row) for row in rows]


def add_files(files: Sequence[tuple[Stored, Sequence[Term]]]) -> bool:
    """Make files known, all or none; False when a xorb of theirs is not (or no longer) here."""
    used = {hashes.text(term.xorb) for _, terms in files for term in terms}
    with writing() as connection:
        if touch(connection, used) != len(used):
            return False
        wanted, ids = sorted(used), dict[str, int]()
        for at in range(0, len(wanted), _AT_ONCE):
            some = hub_xorbs.c.hash.in_(wanted[at : at + _AT_ONCE])
            rows = connection.execute(select(hub_xorbs.c.hash, hub_xorbs.c.id).where(some))
            ids |= {row.hash: row.id for row in rows}
        # In one order everywhere, as for chunks.
        for stored, terms in sorted(files, key=lambda file: file[0].xet):
            if _touch_file(connection, stored.xet):
                continue
            array = np.array([(term.xorb, term.start, term.end, term.unpacked) for term in terms], dtype=TERM)
            values = {"sha256": stored.sha256, "size": stored.size, "terms": array.tobytes(), "touched": now()}
            insert_new(connection, hub_files, [{"xet": stored.xet, **values}])
            uses = sorted({ids[hashes.text(term.xorb)] for term in terms})
            insert_new(connection, hub_file_xorbs, [{"xet": stored.xet, "xorb_id": id_} for id_ in uses])
    return True


def _touch_file(connection: Connection, xet: str) -> bool:
    return connection.execute(update(hub_files).where(hub_files.c.xet == xet).values(touched=now())).rowcount == 1


def find(*, xet: str | None = None, sha256: str | None = None, renew: bool = False) -> Stored | None:
    """A file by either name; with `renew`, its lease is renewed, so that whoever found it may refer to it."""
    column, value = (hub_files.c.xet, xet) if xet is not None else (hub_files.c.sha256, sha256)
    query = select(hub_files.c.xet, hub_files.c.sha256, hub_files.c.size, hub_files.c.touched)
    query = query.where(column == value)
    with reading() as connection:
        row = connection and connection.execute(query.order_by(hub_files.c.xet).limit(1)).first()
    if not row:
        return None
    if renew and now() - row.touched > LEASE_STEP:
        with writing() as connection:
            if not _touch_file(connection, row.xet):
                return None
    return Stored(row.xet, row.sha256, row.size)


def terms(xet: str) -> tuple[int, list[Term]] | None:
    """A file's length and its terms."""
    with reading() as connection:
        query = select(hub_files.c.size, hub_files.c.terms).where(hub_files.c.xet == xet)
        row = connection and connection.execute(query).first()
    if not row:
        return None
    array = np.frombuffer(row.terms, dtype=TERM)
    return row.size, [Term(item["xorb"].tobytes(), *map(int, item.item()[1:])) for item in array]


def sizes(names: Iterable[str]) -> int:
    """The sum of the lengths of files, each counted once."""
    wanted, total = sorted(set(names)), 0
    with reading() as connection:
        for at in range(0, len(wanted) if connection else 0, _AT_ONCE):
            assert connection is not None
            query = select(func.sum(hub_files.c.size)).where(hub_files.c.xet.in_(wanted[at : at + _AT_ONCE]))
            total += int(connection.execute(query).scalar() or 0)
    return total


def old_files(before: float) -> list[str]:
    """Files whose lease is older than `before`."""
    with reading() as connection:
        query = select(hub_files.c.xet).where(hub_files.c.touched < before)
        return [row[0] for row in connection.execute(query)] if connection else []


def drop_files(names: Sequence[str], before: float) -> tuple[int, int]:
    """Forget those of `names` whose lease is still older than `before`; how many, and their bytes."""
    count = size = 0
    for at in range(0, len(names), _AT_ONCE):
        with writing() as connection:
            some = names[at : at + _AT_ONCE]
            old = (hub_files.c.xet.in_(some), hub_files.c.touched < before)
            gone = connection.execute(delete(hub_files).where(*old).returning(hub_files.c.size)).all()
            count, size = count + len(gone), size + sum(int(row[0]) for row in gone)
    return count, size


def drop_xorbs(before: float, most: int = 50) -> list[tuple[str, int]]:
    """Forget some xorbs that no file uses and whose lease is older than `before`; object and length of each."""
    unused = ~select(hub_file_xorbs.c.xet).where(hub_file_xorbs.c.xorb_id == hub_xorbs.c.id).exists()
    with writing() as connection:
        some = select(hub_xorbs.c.id).where(hub_xorbs.c.touched < before, unused).limit(most)
        ids = [row[0] for row in connection.execute(some)]
        # The lease is asked for again in the statement that deletes: on PostgreSQL another may have renewed it since.
        gone = delete(hub_xorbs).where(hub_xorbs.c.id.in_(ids), hub_xorbs.c.touched < before)
        return [
            (row[0], int(row[1])) for row in connection.execute(gone.returning(hub_xorbs.c.object, hub_xorbs.c.packed))
        ]


def named_objects(names: Sequence[str]) -> set[str]:
    """Which of these objects a xorb names."""
    with reading() as connection:
        if connection is None:
            return set()
        query = select(hub_xorbs.c.object).where(hub_xorbs.c.object.in_(names))
        return {row[0] for row in connection.execute(query)}
