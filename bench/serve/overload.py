"""Ten times more requests than the server can answer: no 5xx, who is admitted is answered as fast as ever, memory flat.

    python bench/serve/overload.py [--minutes 10] [--model gemma-3-270m] [--times 10]

First the server's capacity is found (as many requests at once as it computes together), then how long an answer takes
when offered half of that, by requests that come at random (Poisson); then ten times the capacity is offered: for half a
minute with the server's default patience (ten seconds), which shows that nobody waits much longer than that, and for
ten minutes with a `--wait` of half of what an answer takes on the calm server. Every answer's status, the time of those
that were admitted (their waiting included) and the memory of the server with its engine's process are recorded;
`overload.json` beside this file holds them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from against import machine
from processes import Isolated

HERE = Path(__file__).parent
TOKENS = 24
PROMPT = "Write a sentence about the sea and the people who live beside it, number "


class Clients:
    """Requests, and what became of them."""

    def __init__(self, server: Isolated) -> None:
        self.server = server
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []
        self.first: list[float] = []
        self._number = 0
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
        self._client = httpx.AsyncClient(timeout=300, limits=limits)

    async def one(self) -> None:
        """One request."""
        self._number += 1
        body = {"model": self.server.model, "prompt": f"{PROMPT}{self._number}:", "max_tokens": TOKENS,
                "ignore_eos": True, "temperature": 0, "stream": True}  # fmt: skip
        began, first = time.perf_counter(), None
        async with self._client.stream("POST", f"{self.server.url}/v1/completions", json=body) as answer:
            last = b""
            async for chunk in answer.aiter_raw():
                if first is None and b"data:" in chunk:
                    first = time.perf_counter() - began
                last = chunk
        whole = answer.status_code != 200 or last.rstrip().endswith(b"[DONE]")
        self.statuses[answer.status_code if whole else 599] += 1
        if answer.status_code == 200:
            self.seconds.append(time.perf_counter() - began)
            self.first.append(first or 0.0)
        elif answer.status_code == 429 and "retry-after" not in answer.headers:
            self.statuses[-429] += 1

    async def closed(self, users: int, seconds: float) -> float:
        """As many at once, one after another; answers a second."""
        until = time.perf_counter() + seconds

        async def user() -> None:
            while time.perf_counter() < until:
                await self.one()

        began = time.perf_counter()
        await asyncio.gather(*(user() for _ in range(users)))
        return self.statuses[200] / (time.perf_counter() - began)

    async def offered(self, rate: float, seconds: float) -> list[int]:
        """Requests at random, `rate` a second; MiB of the server, looked at about a hundred times."""
        chance, began = random.Random(0), time.perf_counter()
        live: set[asyncio.Task[None]] = set()
        memory, next_look, due = [], 0.0, 0.0
        while (now := time.perf_counter() - began) < seconds:
            if now >= next_look:
                memory.append(await asyncio.to_thread(self.server.memory))
                next_look = now + max(seconds / 100, 0.5)
            while due <= now:
                due += chance.expovariate(rate)
                task = asyncio.ensure_future(self.one())
                live.add(task)
                task.add_done_callback(live.discard)
            await asyncio.sleep(max(min(due - (time.perf_counter() - began), 0.2), 0.0))
        await asyncio.gather(*live)
        return memory

    async def close(self) -> None:
        """Close connections."""
        await self._client.aclose()


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


async def phase(server: Isolated, *, rate: float, seconds: float) -> dict[str, Any]:
    """Offer a rate, and say what became of it."""
    clients = Clients(server)
    memory = await clients.offered(rate, seconds)
    await clients.close()
    quarter = max(len(memory) // 4, 1)
    return {
        "offered_per_s": round(rate, 2),
        "seconds": seconds,
        "statuses": {str(status): count for status, count in sorted(clients.statuses.items())},
        "answered_per_s": round(clients.statuses[200] / seconds, 2),
        "seconds_p50": round(percentile(clients.seconds, 0.5), 3),
        "seconds_p99": round(percentile(clients.seconds, 0.99), 3),
        "first_token_p99": round(percentile(clients.first, 0.99), 3),
        "memory_mib_first_quarter": round(statistics.median(memory[:quarter])),
        "memory_mib_last_quarter": round(statistics.median(memory[-quarter:])),
    }


async def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """All phases."""
    server = Isolated(asked.model, "--parallel", str(asked.parallel))
    try:
        clients = Clients(server)
        await clients.closed(asked.parallel, 5)
        warm = Clients(server)
        capacity = await warm.closed(asked.parallel, asked.calm)
        await asyncio.gather(clients.close(), warm.close())
        unloaded = await phase(server, rate=capacity / 2, seconds=asked.calm)
        patient = await phase(server, rate=capacity * asked.times, seconds=asked.calm)
    finally:
        server.close()
    # Whoever would wait longer than half of what an answer takes is told to come again.
    wait = f"{max(unloaded['seconds_p50'] / 2, 0.02):.3f}s"
    server = Isolated(asked.model, "--parallel", str(asked.parallel), "--wait", wait)
    try:
        warm = Clients(server)
        await warm.closed(asked.parallel, 5)
        await warm.close()
        overload = await phase(server, rate=capacity * asked.times, seconds=asked.minutes * 60)
        after = await phase(server, rate=capacity / 2, seconds=asked.calm)
    finally:
        server.close()
    phases = (unloaded, patient, overload, after)
    bad = sum(count for each in phases for status, count in each["statuses"].items() if int(status) >= 500)
    return {
        "parallel": asked.parallel,
        "tokens": TOKENS,
        "capacity_per_s": round(capacity, 2),
        "unloaded": unloaded,
        "overload, waiting at most 10 s (the default)": patient,
        "wait": wait,
        f"overload, waiting at most {wait}": overload,
        "after": after,
        "goals": {
            "5xx": bad,
            "p99_against_unloaded": round(overload["seconds_p99"] / unloaded["seconds_p99"], 2),
            "memory_growth_mib": overload["memory_mib_last_quarter"] - overload["memory_mib_first_quarter"],
        },
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--calm", type=float, default=30.0, help="seconds of each other phase")
    parser.add_argument("--times", type=float, default=10.0)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--model", default="gemma-3-270m")
    asked = parser.parse_args()
    figures = asyncio.run(measure(asked))
    result = {
        "command": " ".join(["python", "bench/serve/overload.py", *sys.argv[1:]]),
        "machine": machine(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "model": Path(asked.model).name,
        **figures,
    }
    (HERE / "overload.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
