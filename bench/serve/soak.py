"""Mixed traffic for a day: nothing grows, nothing fails that should not, and the ledger is the sum of the answers.

    python bench/serve/soak.py [--hours 24] [--model FOLDER]

Six kinds of client against a server with keys, its engine in a process of its own: streams, whole answers, many
answers to one request, wrong requests, clients that leave in the middle, an administrator who loads and unloads
adapters and makes and revokes keys; and, every `--crash` minutes, a kill -9 of the engine's process. Memory, open
files and threads of the server and the size of its database are written down once a minute. At the end the ledger's
rows are compared with the answers that clients got, id by id where they state usage. `soak.json` beside this file
holds the result, and how long it ran. Without `--model` a model of two layers is made, which leaves the processor to
all else.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from processes import children, memory

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))


class Soak:
    """Clients, and what became of their requests."""

    def __init__(self, url: str, model: str, adapters: list[str], admin: str, folder: str) -> None:
        self.url, self.model, self.adapters, self.admin, self.folder = url, model, adapters, admin, folder
        self.stop = threading.Event()
        self.statuses: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.told: dict[str, tuple[int, int]] = {}
        self.left: set[str] = set()
        self.crashes = 0
        self._lock = threading.Lock()

    def run(self, kind: Any, seed: int) -> None:
        """One client to the end of the soak."""
        chance = random.Random(seed)
        with httpx.Client(base_url=self.url, timeout=120, headers={"authorization": f"Bearer {self.admin}"}) as client:
            while not self.stop.is_set():
                try:
                    kind(self, client, chance)
                except httpx.HTTPError as error:
                    self.note("transport", None if self.stop.is_set() else f"{type(error).__name__}: {error}")

    def body(self, chance: random.Random, **more: Any) -> dict[str, Any]:
        """A request for one of the models."""
        words = " ".join(
            chance.choice(["sea", "wind", "stone", "village", "night"]) for _ in range(chance.randint(1, 60))
        )
        model = chance.choice([self.model, *self.adapters])
        return {"model": model, "messages": [{"role": "user", "content": words}], "max_tokens": chance.randint(1, 24),
                "temperature": chance.choice([0, 0.8]), **more}  # fmt: skip

    def note(self, status: str, unexpected: str | None = None) -> None:
        """Count what became of a request."""
        with self._lock:
            self.statuses[status] += 1
            if unexpected is not None and len(self.wrong) < 50:
                self.wrong.append(unexpected[:300])

    def used(self, answer: httpx.Response, usage: dict[str, Any]) -> None:
        """Keep what an answer says it used."""
        with self._lock:
            self.told[answer.headers["x-usage-id"]] = (usage["prompt_tokens"], usage["completion_tokens"])

    def check(self, answer: httpx.Response, allowed: tuple[int, ...] = (200, 429)) -> bool:
        """Whether it went well; a 503 is only allowed around a crash that was made."""
        fine = answer.status_code in allowed or (answer.status_code == 503 and self.crashes > 0)
        self.note(str(answer.status_code), None if fine else f"{answer.status_code} {answer.text}")
        return answer.status_code == 200


def whole(soak: Soak, client: httpx.Client, chance: random.Random) -> None:
    """A whole answer, or several."""
    answer = client.post("/v1/chat/completions", json=soak.body(chance, n=chance.choice([1, 1, 1, 3])))
    if soak.check(answer):
        soak.used(answer, answer.json()["usage"])


def streamed(soak: Soak, client: httpx.Client, chance: random.Random) -> None:
    """A stream that is read to its end."""
    body = soak.body(chance, stream=True, stream_options={"include_usage": True})
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
        if answer.status_code != 200:
            soak.check(answer)
            return
    if lines and lines[-1] == "data: [DONE]":
        soak.note("200")
        soak.used(answer, json.loads(lines[-2].removeprefix("data: "))["usage"])
    else:
        soak.note("broken stream", None if soak.crashes else f"a stream ended with {lines[-1:]}")


def wrong(soak: Soak, client: httpx.Client, chance: random.Random) -> None:
    """What is refused."""
    body: Any = chance.choice([{}, {"model": "nobody", "messages": []}, [], soak.body(chance, temperatur=1)])
    soak.check(client.post("/v1/chat/completions", json=body), (400, 404, 429))
    soak.check(client.get("/v1/models", headers={"authorization": "Bearer wrong"}), (401,))
    time.sleep(0.02)


def leaving(soak: Soak, client: httpx.Client, chance: random.Random) -> None:
    """A client that hangs up in the middle."""
    body = soak.body(chance, stream=True) | {"max_tokens": 200, "ignore_eos": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        soak.left.add(answer.headers.get("x-usage-id", ""))
        for count, _ in enumerate(answer.iter_lines()):
            if count > chance.randint(1, 20):
                break
    soak.note("left")


def administering(soak: Soak, client: httpx.Client, chance: random.Random) -> None:
    """Adapters come and go; keys are made, used and revoked."""
    from allmend.access import keys

    loaded = {"lora_name": "passing", "lora_path": soak.folder, "load_inplace": True}
    if soak.check(client.post("/v1/load_lora_adapter", json=loaded)):
        soak.check(client.post("/v1/unload_lora_adapter", json={"lora_name": "passing"}))
    made = keys.create("admin", "passing", scopes=["serve:chat"])
    soak.check(client.get("/v1/models", headers={"authorization": f"Bearer {made.text}"}))
    keys.revoke(made.key.id)
    soak.check(client.get("/metrics"))
    soak.stop.wait(1.0)


def make_model(folder: Path) -> tuple[Path, dict[str, Path]]:
    """A model of two layers with two adapters."""
    import torch
    from peft import LoraConfig, get_peft_model

    import tiny

    tiny.model("llama").save_pretrained(folder / "tiny")
    tiny.tokenizer().save_pretrained(folder / "tiny")
    adapters = {}
    for seed, name in enumerate(("mine", "yours")):
        torch.manual_seed(seed)
        get_peft_model(tiny.model("llama"), LoraConfig(r=4, target_modules=["q_proj"])).save_pretrained(folder / name)
        adapters[name] = folder / name
    return folder / "tiny", adapters


def state(pid: int) -> dict[str, int]:
    """What a process holds now."""
    return {
        "memory_mib": memory(pid),
        "files": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
    }


def database_kib(file: Path, run: Soak) -> dict[str, int]:
    """What the database has on disk, its journal apart, beside the answers that it is for."""
    size = lambda path: path.stat().st_size // 1024 if path.exists() else 0
    journal = size(file.with_name(f"{file.name}-wal"))
    return {"answers": len(run.told), "database_kib": size(file), "journal_kib": journal}


def soak(seconds: float, model: str | None, crash: float, look: float, kill: bool = False) -> dict[str, Any]:
    """Run it all; the figures.

    Args:
        kill: end the server by kill -9 in the middle of its work, instead of asking it.
    """
    from allmend.access import keys, usage

    with tempfile.TemporaryDirectory() as home:
        os.environ["ALLMEND_HOME"] = os.environ["ALLMEND_HOME"] if model else str(Path(home) / "home")
        os.environ["ALLMEND_DATABASE"] = f"sqlite:///{home}/soak.sqlite"
        folder, adapters = make_model(Path(home)) if model is None else (Path(model), {})
        made = keys.first_administrator()
        assert made is not None
        command = [sys.executable, "-m", "allmend", "serve", str(folder), "--port", "0", "--with-keys", "--wait", "20s",
                   "--memory", "64M", "--parallel", "16"]  # fmt: skip
        for name, path in adapters.items():
            command += ["--adapter", f"{name}={path}"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        line = ""
        while "Serving at" not in line:
            line = server.stdout.readline()
            assert line, "the server ended"
        url = line.split("Serving at ")[1].split("/v1")[0]
        headers = {"authorization": f"Bearer {made.text}"}
        base = httpx.get(f"{url}/v1/models", headers=headers, timeout=120).json()["data"][0]["id"]
        run = Soak(url, base, list(adapters), made.text, str(adapters.get("mine", "")))
        kinds: list[Any] = [whole, whole, streamed, streamed, wrong, leaving]
        threads = [threading.Thread(target=run.run, args=(kind, seed)) for seed, kind in enumerate(kinds)]
        if adapters:
            threads.append(threading.Thread(target=run.run, args=(administering, 99)))
        for thread in threads:
            thread.start()
        began, states, next_crash = time.monotonic(), [], crash
        while (now := time.monotonic() - began) < seconds and server.poll() is None:
            states.append({"at": round(now), **state(server.pid), **database_kib(Path(home) / "soak.sqlite", run)})
            if now >= next_crash:
                run.crashes += 1
                next_crash += crash
                for child in children(server.pid):
                    os.kill(child, signal.SIGKILL)
            time.sleep(min(look, max(seconds - (time.monotonic() - began), 0.01)))
        lasted = time.monotonic() - began
        alive = server.poll() is None
        # Before it is killed: what fails from then on is no surprise.
        run.crashes += kill
        run.stop.set()
        if kill:
            server.kill()
        for thread in threads:
            thread.join()
        server.terminate()
        code = server.wait(120)
        server.stdout.close()
        sums = {row.group["state"]: row.answers for row in usage.summary(["state"])}
        ledger = {row["id"]: (row["prompt"], row["completion"]) for row in usage.rows() if row["state"] == "settled"}
        quarter = max(len(states) // 4, 1)
        middle = lambda name, part: round(statistics.median(each[name] for each in part))
        return {
            "seconds": round(lasted, 1),
            "crashes": run.crashes,
            "statuses": dict(run.statuses),
            "unexpected": run.wrong,
            "alive_at_the_end": alive,
            "exit_code": code,
            "answers": {"told": len(run.told), "ledger": len(ledger)},
            "prompt_tokens": {"told": _sum(run.told, 0), "ledger": _sum(ledger, 0)},
            "completion_tokens": {"told": _sum(run.told, 1), "ledger": _sum(ledger, 1)},
            "told_and_not_in_the_ledger": sum(ledger.get(name) != used for name, used in run.told.items()),
            "in_the_ledger_and_not_told": len(ledger.keys() - run.told.keys()),
            "of_them_left_when_theirs_was_complete": len(ledger.keys() & run.left),
            "ledger_states": sums,
            "second_quarter": {name: middle(name, states[quarter : 2 * quarter] or states) for name in states[0]},
            "last_quarter": {name: middle(name, states[-quarter:]) for name in states[0]},
            "states": states[:: max(len(states) // 60, 1)],
        }


def _sum(used: dict[str, tuple[int, int]], which: int) -> int:
    return sum(each[which] for each in used.values())


def main() -> None:
    """Run and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--model")
    parser.add_argument("--crash", type=float, default=60.0, help="minutes between two crashes of the engine")
    parser.add_argument("--out", type=Path, default=HERE / "soak.json")
    asked = parser.parse_args()
    seconds = asked.hours * 3600
    figures = soak(seconds, asked.model, asked.crash * 60, look=max(min(60.0, seconds / 60), 0.5))
    from against import machine

    command = f"python bench/serve/soak.py --hours {asked.hours:g} --crash {asked.crash:g}"
    result = {"command": command, "machine": machine(), **figures}
    asked.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({name: value for name, value in result.items() if name != "states"}, indent=1))


if __name__ == "__main__":
    main()
