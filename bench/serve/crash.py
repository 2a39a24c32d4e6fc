"""The engine's process is killed in the middle of its work: how soon the server answers again, and who notices.

    python bench/serve/crash.py [--rounds 5] [--model gemma-3-270m] [--users 8]

Users ask through OpenAI's stock client, one answer after the other, over a server with its engine in a process of its
own. Each round the engine's process gets kill -9 while answers are under way. Counted are the answers that clients got
in the end, the 503s that they were told (only what was in flight), and the seconds from the kill to the first answer
to a request that began after it, less the time that loading takes: that is measured at the first start, from the
process's beginning to the server's readiness. `crash.json` beside this file holds the result.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from against import machine
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from processes import Isolated

HERE = Path(__file__).parent
TOKENS = 8


class Users:
    """Whoever asks, and what became of it."""

    def __init__(self, url: str, model: str) -> None:
        self.statuses: Counter[int] = Counter()
        self.failed: list[str] = []
        self.answers: list[float] = []
        """When each came."""
        self.stop = False
        self.model = model
        hooks = {"response": [self._note]}
        self._http = DefaultAsyncHttpxClient(timeout=300, event_hooks=hooks)
        self._client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=8, http_client=self._http)

    async def _note(self, answer: Any) -> None:
        self.statuses[answer.status_code] += 1

    async def one(self, number: int) -> None:
        """Ask until told to stop."""
        while not self.stop:
            try:
                await self._client.completions.create(
                    model=self.model, prompt=f"The sea, says number {number},", max_tokens=TOKENS, temperature=0
                )
            except Exception as error:
                self.failed.append(f"{type(error).__name__}: {error}"[:200])
                continue
            self.answers.append(time.monotonic())

    async def close(self) -> None:
        """Close connections."""
        await self._http.aclose()


async def rounds(asked: argparse.Namespace) -> dict[str, Any]:
    """All rounds."""
    server = Isolated(asked.model)
    try:
        users = Users(server.url, server.model)
        tasks = [asyncio.ensure_future(users.one(number)) for number in range(asked.users)]
        await asyncio.sleep(asked.calm)
        back, told = [], []
        for _ in range(asked.rounds):
            (engine,) = server.engines()
            before = users.statuses[503]
            os.kill(engine, signal.SIGKILL)
            killed = time.monotonic()
            # Everybody's request was in flight; what is asked from now on, again or for the first time, is answered.
            while not (answered := [when for when in users.answers if when > killed + 0.05]):
                await asyncio.sleep(0.01)
            back.append(min(answered) - killed)
            await asyncio.sleep(asked.calm)
            told.append(users.statuses[503] - before)
        users.stop = True
        await asyncio.gather(*tasks)
        await users.close()
    finally:
        server.close()
    return {
        "users": asked.users,
        "loading_seconds": round(server.loading, 2),
        "seconds_from_kill_to_answer": [round(each, 2) for each in back],
        "told_503_each_round": told,
        "answers": len(users.answers),
        "statuses": {str(status): count for status, count in sorted(users.statuses.items())},
        "requests_that_failed_in_the_end": users.failed,
        "goals": {
            "seconds_beyond_loading": round(statistics.median(back) - server.loading, 2),
            "most_seconds_beyond_loading": round(max(back) - server.loading, 2),
            "failed_in_the_end": len(users.failed),
        },
    }


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--calm", type=float, default=5.0, help="seconds before each kill")
    parser.add_argument("--model", default="gemma-3-270m")
    asked = parser.parse_args()
    figures = asyncio.run(rounds(asked))
    result = {
        "command": " ".join(["python", "bench/serve/crash.py", *sys.argv[1:]]),
        "machine": machine(),
        "model": Path(asked.model).name,
        **figures,
    }
    (HERE / "crash.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
