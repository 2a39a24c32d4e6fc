"""Loads that users make: streamed chat completions over HTTP, each user asking again as soon as it is answered."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx


@dataclass
class Load:
    """What one side did under one scenario."""

    tokens: int = 0
    seconds: float = 0.0
    first: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Tokens a second in sum, and time to the first token in milliseconds."""
        ordered = sorted(self.first)
        return {
            "tokens_per_second": round(self.tokens / self.seconds, 1) if self.seconds else None,
            "first_token_ms_p50": round(1000 * statistics.median(ordered), 1) if ordered else None,
            "first_token_ms_p99": round(1000 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 1)
            if ordered
            else None,
            "answers": len(ordered),
            "failures": self.failures[:3],
        }


def run(url: str, bodies: list[list[dict[str, Any]]], tokens: int, route: str = "/v1/completions") -> Load:
    """Every user (a list of bodies) on a thread of its own; `tokens` are asked for by each body and counted as asked.

    Servers are told to go on through end tokens; one that ends earlier is counted by what it reports in `usage`.
    """
    load, lock = Load(), threading.Lock()
    begin = threading.Barrier(len(bodies) + 1)

    def user(mine: list[dict[str, Any]]) -> None:
        with httpx.Client(base_url=url, timeout=300) as client:
            begin.wait()
            for body in mine:
                try:
                    first, count = _one(client, route, body, tokens)
                except Exception as error:
                    with lock:
                        load.failures.append(f"{type(error).__name__}: {error}"[:200])
                    continue
                with lock:
                    load.tokens += count
                    load.first.append(first)

    threads = [threading.Thread(target=user, args=(mine,)) for mine in bodies]
    for thread in threads:
        thread.start()
    begin.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    load.seconds = time.perf_counter() - start
    return load


def _one(client: httpx.Client, route: str, body: dict[str, Any], tokens: int) -> tuple[float, int]:
    began, first, usage, pieces = time.perf_counter(), 0.0, None, 0
    with client.stream("POST", route, json=body) as answer:
        if answer.status_code != 200:
            answer.read()
            raise RuntimeError(f"{answer.status_code} {answer.text[:150]}")
        for line in answer.iter_lines():
            if not line.startswith("data: ") or line.endswith("[DONE]"):
                continue
            event = json.loads(line[6:])
            if "error" in event:
                raise RuntimeError(str(event["error"])[:150])
            if any(choice.get("text") or choice.get("tokens") for choice in event.get("choices", ())):
                first = first or time.perf_counter() - began
                pieces += 1
            usage = event.get("usage") or usage
    count = int(usage["completion_tokens"]) if usage else pieces
    return first or time.perf_counter() - began, count


def wait_until(ready: Callable[[], bool], seconds: float = 180) -> None:
    """Until `ready` is true; raises `TimeoutError`."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if ready():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise TimeoutError("the server did not become ready")
