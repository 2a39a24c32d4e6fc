"""What the HTTP layer costs: processor time of the server for a request and for a token, at 32 streams at once.

    python bench/serve/overhead.py [--rounds 5] [--requests 256]

The engine computes nothing (`still_engine.py`). Requests of 1 and of 101 tokens run through a server in a process of
its own, 32 at once, from clients in another process; the difference is what a token costs, the rest what a request
costs. Processor time of the server (with its engine's process, where there is one) is counted, so other work on the
machine moves the figures little. Sides, interleaved: open to all; keys, limits and the ledger; and with the engine in
a process of its own. Medians of the rounds go to `overhead.json` beside this file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).parent
STREAMS = 32
SIDES = ("open", "keys", "keys, engine apart")


def serve(side: str) -> None:
    """A server over the still engine; prints its port, its key, and its engine's process."""
    import still_engine

    import tiny
    from allmend.access import accounts, keys
    from allmend.access.limits import Limits
    from allmend.engines.apart.engine import start
    from allmend.nouns.model import Model
    from allmend.serving import server
    from allmend.serving.app import create_app
    from allmend.serving.desk import Desk, with_keys
    from allmend.serving.registry import Registry
    from allmend.verbs.serve_engine import Described

    key, desk, engine_pid = "none", Desk(), 0
    if side != "open":
        accounts.create("bench")
        limits = Limits(requests_per_minute=10**7, tokens_per_minute=10**9, concurrent=10**5)
        key = keys.create("bench", "bench", scopes=["serve:chat"], limits=limits).text
        desk = with_keys()
    engine: Any = still_engine.StillEngine()
    if side.endswith("apart"):
        engine, _ = start("still_engine:build", ())
        engine_pid = engine.pid
    registry = Registry()
    fields = {"name": "still", "path": ".", "digest": "0" * 64, "format": "safetensors", "source": "folder"}
    about = Model.model_construct(**fields, base=None)
    registry.add_base(Described(about, tiny.tokenizer(), None, 4096), engine)
    listening = server.bind("127.0.0.1", 0)
    running = server.Server(create_app(registry, desk=desk), registry, listening, "127.0.0.1", desk=desk).start()
    print(json.dumps({"url": running.url, "key": key, "pids": [os.getpid(), engine_pid]}), flush=True)
    sys.stdin.read()
    running.close()
    os._exit(0)


async def load(url: str, key: str, requests: int, tokens: int) -> list[float]:
    """Run requests, `STREAMS` at once; seconds of each."""
    took: list[float] = []
    left = iter(range(requests))
    body = {
        "model": "still", "messages": [{"role": "user", "content": "Say something of the sea, please."}],
        "max_tokens": tokens, "stream": True,
    }  # fmt: skip
    headers = {"authorization": f"Bearer {key}"}

    async def one(client: httpx.AsyncClient) -> None:
        for _ in left:
            began = time.perf_counter()
            async with client.stream("POST", f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
                assert answer.status_code == 200, await answer.aread()
                async for _chunk in answer.aiter_raw():
                    pass
            took.append(time.perf_counter() - began)

    # Clients keep their connections, as OpenAI's does: the default here would close twelve of 32 each time.
    limits = httpx.Limits(max_connections=STREAMS, max_keepalive_connections=STREAMS)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:
        await asyncio.gather(*(one(client) for _ in range(STREAMS)))
    return took


def processor_seconds(pids: list[int]) -> float:
    """Processor time that processes have used."""
    ticks = 0
    for pid in pids:
        if pid:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(side: str, requests: int) -> dict[str, float]:
    """One side, once."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "ALLMEND_HOME": home, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
        command = [sys.executable, __file__, "--serve", side]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        assert process.stdin is not None and process.stdout is not None
        try:
            ready = json.loads(process.stdout.readline())
            run = lambda count, tokens: asyncio.run(load(ready["url"], ready["key"], count, tokens))
            run(64, 10)
            used = {}
            for tokens in (1, 101):
                before = processor_seconds(ready["pids"])
                run(requests, tokens)
                used[tokens] = (processor_seconds(ready["pids"]) - before) / requests * 1000
        finally:
            process.stdin.close()
            process.wait(timeout=60)
    a_token = (used[101] - used[1]) / 100
    return {"request_ms": used[1] - a_token, "token_ms": a_token}


def main() -> None:
    """Measure all sides and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve)
        return
    samples: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(asked.rounds):
        for side in SIDES:
            samples[side].append(measure(side, asked.requests))
            print(side, samples[side][-1], flush=True)
    from against import machine

    result = {
        "command": " ".join(["python", "bench/serve/overhead.py", *sys.argv[1:]]),
        "machine": machine(),
        "streams": STREAMS,
        "goal": {"request_ms": 3.0, "token_ms": 0.1},
        "sides": {
            side: {name: round(statistics.median(each[name] for each in found), 4) for name in found[0]}
            for side, found in samples.items()
        },
        "rounds": samples,
    }
    (HERE / "overhead.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["sides"], indent=1))


if __name__ == "__main__":
    main()
