"""Uploads, commits, squashes and collections, killed (SIGKILL) at random points; what is left is read back, every byte.

store   plain uploads, xorbs with shards, finds and collections: files that were reported as stored, and that are kept,
        are there
hub     a whole hub to which two clients commit while it squashes and collects: the branch is where the last answered
        commit left it, or one commit further where one was under way; its files are whole

After each kill everything is opened anew and each file is held against its SHA-256 or its contents. At the end all is
collected, and neither a row nor an object may be left. The figure is 200 kills in pieces (`--of store --kills 50
--seed N`), each added to what `kills.json` has; a piece that was added before is not run again. The test suite runs a
sample.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import os
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import kills_work
from common import HERE, folder, write


def killed(kind: str, place: str, seed: int, told: Any, seconds: float) -> list[Any]:
    """Let it work, kill it that long after its first word, and give back what it said."""
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=kills_work.child, args=(kind, place, seed, told, theirs))
    child.start()
    theirs.close()
    if not ours.poll(120):
        raise SystemExit("the work did not begin")
    time.sleep(seconds)
    child.kill()
    child.join()
    said = []
    try:
        while True:
            said.append(json.loads(ours.recv_bytes()))
    except (EOFError, OSError):
        return said


async def whole(store: Any, names: list[str]) -> int:
    """Read these files and hold them against their SHA-256; how many."""
    for name in names:
        digest = hashlib.sha256()
        async for piece in store.read(name):
            digest.update(piece)
        stored = await store.stat(xet=name)
        assert stored is not None and stored.sha256 == digest.hexdigest(), name
    return len(names)


async def nothing() -> AsyncIterator[str]:
    """No file is kept."""
    return
    yield


def of_store(place: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill a store at work; see the module."""
    from sqlalchemy import select

    from allmend import database
    from allmend.database.schema import hub_files
    from allmend.hub.store import Store

    draw = random.Random(seed)
    kept: list[str] = []
    read = reported = 0
    for turn in range(kills):
        said = killed("store", str(place / "store"), 1000 * seed + turn, kept, draw.uniform(0, 0.5))
        told = [each for each in said if each != "ready"]
        reported += len(told)
        store = Store.open(place / "store")
        with database.writing() as connection:
            names = [row[0] for row in connection.execute(select(hub_files.c.xet))]
        missing = (set(told) | set(kept)) - set(names)
        assert not missing, missing
        read += asyncio.run(whole(store, names))
        kept = (kept + told)[-12:]
    asyncio.run(store.collect(nothing, grace=-1, unfinished=-1))
    assert left(place) == 0
    return {"kills": kills, "files_reported_stored": reported, "files_read_back_whole": read}


def of_hub(place: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill a hub at work; see the module."""
    from allmend import database
    from allmend.hub import repositories
    from allmend.hub.collecting import collect
    from allmend.hub.store import Store

    draw = random.Random(seed)
    key, there = "", set[str]()
    done = read = collected = 0
    for turn in range(kills):
        seconds = draw.uniform(0, 1.5)
        said = killed("hub", str(place / "store"), 1000 * seed + turn, (key, sorted(there)), seconds)
        waiting: dict[int, dict[str, Any]] = {}
        for each in said:
            key = each.get("key", key)
            collected += each.get("collected", 0)
            if "try" in each:
                waiting[each["try"]] = each
            elif "done" in each:
                done += 1
                there = _after(there, waiting.pop(each["done"]))
            elif "refused" in each:
                waiting.pop(each["refused"])
        store = Store.open(place / "store")
        files = _files(store)
        for each in waiting.values():
            # Under way when it was killed: it happened, whole, or it did not.
            if set(each["new"]) & set(files):
                there = _after(there, each)
        assert set(files) == there, set(files) ^ there
        for path, data in files.items():
            assert data == kills_work.content(path), path
        read += len(files)
    with database.writing() as connection:
        found = repositories.lookup(connection, "model", "admin", "kept")
        assert found is not None
        repositories.remove(connection, found)
    asyncio.run(collect(store, older=-60.0))
    asyncio.run(store.collect(nothing, grace=-1, unfinished=-1))
    assert left(place) == 0
    return {"kills": kills, "commits_answered": done, "collections": collected, "files_read_back_whole": read}


def _after(there: set[str], commit: dict[str, Any]) -> set[str]:
    return (there - set(commit["gone"])) | set(commit["new"])


def _files(store: Any) -> dict[str, bytes]:
    """Every file of the branch, read."""
    from allmend import database
    from allmend.hub import commits, describing, refs, repositories
    from allmend.hub.objects import File

    with database.writing() as connection:
        found = repositories.lookup(connection, "model", "admin", "kept")
        if found is None:
            return {}
        tree = commits.load(connection, refs.resolve(connection, found.id, "main")).tree
        files: list[tuple[str, File]] = list(describing.files_of(connection, tree))

    async def go() -> dict[str, bytes]:
        return {path: await store.read_small(file.key) for path, file in files if path != ".gitattributes"}

    return asyncio.run(go())


def left(place: Path) -> int:
    """Objects and rows of files that are still there."""
    from sqlalchemy import func, select

    from allmend import database
    from allmend.database.schema import hub_files, hub_xorbs

    with database.writing() as connection:
        rows = sum(
            int(connection.execute(select(func.count()).select_from(t)).scalar() or 0) for t in (hub_files, hub_xorbs)
        )
    return rows + len([path for path in (place / "store" / "xorbs").rglob("*") if path.is_file()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--of", choices=("store", "hub"), default="store")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    multiprocessing.set_start_method("forkserver")
    multiprocessing.set_forkserver_preload(["kills_work", "allmend.hub.server", "allmend.hub.app", "httpx"])
    result = HERE / "kills.json"
    before = json.loads(result.read_text()) if result.exists() else {}
    mine = before.get(flags.of, {})
    if flags.seed in mine.get("seeds", []):
        print(f"kills of the {flags.of} with seed {flags.seed} are in kills.json")
        return
    with folder() as place:
        os.environ |= {"ALLMEND_HOME": str(place / "home"), "ALLMEND_DATABASE": f"sqlite:///{place / 'hub.sqlite'}"}
        found = (of_store if flags.of == "store" else of_hub)(place, flags.kills, flags.seed)
    # An assertion ends the run before this is written when anything is lost, half there or left over.
    summed = {name: count + mine.get(name, 0) for name, count in found.items()}
    kinds = {kind: before[kind] for kind in ("store", "hub") if kind in before}
    kinds[flags.of] = {"seeds": [*mine.get("seeds", []), flags.seed], **summed}
    total = sum(each["kills"] for each in kinds.values())
    write("kills", {**kinds, "all_kills": total, "lost_or_half_there": 0, "left_after_collecting_all": 0})


if __name__ == "__main__":
    main()
