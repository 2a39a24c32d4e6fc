"""How long a page of a repository's listing takes, for 100,000 files.

Run: python bench/hub/listing.py

A hub on a loopback port; files in 100 folders, and as many in one folder. Each page is asked for over HTTP, its JSON
read, the next one by the address that the page names. Beside it: the repository's whole description, a question about
1,000 paths, and a commit of one file more.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx


def lines(paths: list[str]) -> bytes:
    """A commit of small files of one content: what is measured is names."""
    head = {"key": "header", "value": {"summary": "Files"}}
    rows = [{"key": "file", "value": {"path": path, "content": "eA==", "encoding": "base64"}} for path in paths]
    return b"".join(json.dumps(row).encode() + b"\n" for row in (head, *rows))


def pages(client: httpx.Client, url: str) -> tuple[list[float], int]:
    """Seconds of each page, and how many entries came."""
    took, count = [], 0
    place: str | None = url
    while place is not None:
        start = time.perf_counter()
        answer = client.get(place)
        count += len(answer.json())
        took.append(time.perf_counter() - start)
        place = answer.links.get("next", {}).get("url")
    return took, count


def timed(rounds: int, work: Any) -> float:
    """Median seconds."""
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def measure(files: int, rounds: int) -> dict[str, Any]:
    """Both shapes."""
    from allmend import start_hub

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ALLMEND_HOME"] = f"{folder}/home"
        os.environ.pop("ALLMEND_DATABASE", None)
        with start_hub(store=f"{folder}/store", port=0, inspect=False) as hub:
            head = {"authorization": f"Bearer {hub.token}"}
            with httpx.Client(base_url=hub.url, headers=head, timeout=600) as client:
                for shape, width in (("folders", 1000), ("flat", files)):
                    names = [f"{n // width:03d}/{n:06d}.txt" if width < files else f"{n:06d}.txt" for n in range(files)]
                    found[shape] = one(client, shape, names, rounds)
    return found


def one(client: httpx.Client, name: str, names: list[str], rounds: int) -> dict[str, Any]:
    """One repository."""
    client.post("/api/repos/create", json={"name": name}).raise_for_status()
    place = f"/api/models/admin/{name}"
    start = time.perf_counter()
    for first in range(0, len(names), 25_000):
        client.post(f"{place}/commit/main", content=lines(names[first : first + 25_000])).raise_for_status()
    filled = time.perf_counter() - start
    runs = [pages(client, f"{place}/tree/main?recursive=true") for _ in range(rounds)]
    assert all(count >= len(names) for _, count in runs)
    every = [seconds for took, _ in runs for seconds in took]
    some = names[:: max(1, len(names) // 1000)][:1000]
    count = iter(range(10_000))
    return {
        "files": len(names),
        "commits_of_25000_seconds": round(filled, 2),
        "pages": len(runs[0][0]),
        "page_median_seconds": round(statistics.median(every), 4),
        "page_worst_seconds": round(max(every), 4),
        "first_page_seconds": round(statistics.median(took[0] for took, _ in runs), 4),
        "description_seconds": round(timed(rounds, lambda: client.get(place).json()), 3),
        "paths_1000_seconds": round(
            timed(rounds, lambda: client.post(f"{place}/paths-info/main", json={"paths": some}).json()), 3
        ),
        "one_more_file_seconds": round(
            timed(rounds, lambda: client.post(f"{place}/commit/main", content=lines([f"more-{next(count)}.txt"]))), 3
        ),
    }


def main() -> None:
    """Measure and write the result beside this file."""
    ask = argparse.ArgumentParser()
    ask.add_argument("--files", type=int, default=100_000)
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    given = ask.parse_args()
    from allmend import __version__

    body = {
        "command": f"python bench/hub/listing.py --files {given.files} --rounds {given.rounds}",
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(),
                    "python": sys.version.split()[0], "allmend": __version__, "database": "sqlite"},
        "result": measure(given.files, given.rounds),
    }  # fmt: skip
    given.out.write_text(json.dumps(body, indent=2) + "\n")
    print(json.dumps(body["result"], indent=2))


if __name__ == "__main__":
    main()
