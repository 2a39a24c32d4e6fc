"""The most memory the server holds while ten files of 1 GB go in at once, and while they come out at once.

In by plain PUT (the server cuts, hashes and packs) and by the stock client (it verifies xorbs); out by plain GETs of
rebuilt files. Random bytes: nothing is shared and nothing compresses. `--of plain` or `--of client` runs one half, and
adds it to what `memory.json` has.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
from common import HERE, client, folder, noise, peak, server, write

AT_ONCE = 10


def together(work: Callable[[int], None]) -> float:
    begin = time.perf_counter()
    failed: list[BaseException] = []

    def one(turn: int) -> None:
        try:
            work(turn)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(turn,)) for turn in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return round(time.perf_counter() - begin, 1)


def plain(place: Path, size: int) -> dict[str, object]:
    """In by plain PUT, out by plain GET."""
    result: dict[str, object] = {}
    names: dict[int, str] = {}
    with server(place) as (url, pid):
        result["idle_mb"] = peak(pid)

        def put(turn: int) -> None:
            generator = np.random.default_rng(turn)
            pieces = (generator.bytes(min(1 << 20, size - at)) for at in range(0, size, 1 << 20))
            answer = httpx.put(f"{url}/plain", content=pieces, timeout=900)
            names[turn] = answer.raise_for_status().json()["xet"]

        result["plain_put"] = {"seconds": together(put), "peak_mb": peak(pid)}
    with server(place) as (url, pid):

        def get(turn: int) -> None:
            total = 0
            with httpx.stream("GET", f"{url}/plain/{names[turn]}", timeout=900) as answer:
                for piece in answer.iter_raw():
                    total += len(piece)
            assert total == size, total

        result["plain_get"] = {"seconds": together(get), "peak_mb": peak(pid)}
    return result


def by_client(place: Path, size: int) -> dict[str, object]:
    """In by the stock client."""
    with server(place) as (url, pid):
        file = noise(place / "file", size, 99)

        def upload(turn: int) -> None:
            # One file, ten clients: every one sends all of it, since none is known before the first shard.
            client(url, place / f"cache{turn}", upload=[str(file)])

        return {"stock_client_up": {"seconds": together(upload), "peak_mb": peak(pid)}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--of", choices=("plain", "client"))
    parser.add_argument("--megabytes", type=int, default=1000)
    flags = parser.parse_args()
    size = flags.megabytes * 1_000_000
    written = HERE / "memory.json"
    before = json.loads(written.read_text()) if flags.of and written.exists() else {}
    kept = ("idle_mb", "plain_put", "plain_get", "stock_client_up") if before.get("bytes_each") == size else ()
    result: dict[str, object] = {"bytes_each": size, "at_once": AT_ONCE}
    result |= {name: before[name] for name in kept if name in before}
    for name, work in (("plain", plain), ("client", by_client)):
        if flags.of in (None, name):
            with folder() as place:
                result |= work(place, size)
    write("memory", result)


if __name__ == "__main__":
    main()
