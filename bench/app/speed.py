"""What a served notebook costs: its first page, a run of almost nothing, and twenty people at once.

The same notebook (one parameter, one line that shows it) is served by `allmend app`, by Voilà where it can do the job,
and run by papermill where that can. Voilà runs the notebook to make its page, so its first page is its run; papermill
serves nobody. Rounds are interleaved; medians are given, with every value beside them.

    OMP_NUM_THREADS=2 python bench/app/speed.py --rounds 7 --peers PYTHON --out bench/app/speed.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

CELLS = ('number = 1 #@param {type:"integer"}', "print('the answer is', number + 1)")
PAPERMILL = """
import json, sys, time
import papermill
import ipykernel, nbclient
took = []
for place in range(int(sys.argv[2])):
    began = time.perf_counter()
    given = {'parameters': {'number': place}, 'progress_bar': False, 'log_output': False}
    made = papermill.execute_notebook(sys.argv[1], None, **given)
    whole = time.perf_counter() - began
    cells = [cell.metadata.papermill.duration or 0 for cell in made.cells if cell.cell_type == 'code']
    took.append([whole, sum(cells)])
print(json.dumps(took))
"""


def write(folder: Path) -> Path:
    """The notebook."""
    cells: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "source": text,
            "metadata": {"tags": ["parameters"]} if place == 0 else {},
            "outputs": [],
            "execution_count": None,
        }
        for place, text in enumerate(CELLS)
    ]
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = folder / "small.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": spec, "nbformat": 4, "nbformat_minor": 4}))
    return path


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def served(command: list[str], port: int, folder: Path) -> Iterator[dict[str, float]]:
    """A server's process; the seconds until its port answers and until the first whole page."""
    log = (folder / "server.log").open("ab")
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(f"{command[0]} ended: {(folder / 'server.log').read_text()[-2000:]}") from None
                time.sleep(0.002)
        listening = time.perf_counter() - began
        httpx.get(f"http://127.0.0.1:{port}/", timeout=120, follow_redirects=True).raise_for_status()
        page = time.perf_counter() - began
        yield {"listening": listening, "page": page, "page_once_listening": page - listening}
    finally:
        process.terminate()
        process.wait(timeout=60)
        log.close()


def allmend(notebook: Path, port: int, store: Path) -> list[str]:
    """The command that serves with allmend."""
    program = str(Path(sys.executable).with_name("allmend"))
    return [program, "app", str(notebook), "--yes", "--port", str(port), "--store", str(store)]


def voila(python: str, notebook: Path, port: int) -> list[str]:
    """The command that serves with Voilà."""
    quiet = ["--no-browser", "--Voila.log_level=ERROR"]
    return [python, "-m", "voila", str(notebook), f"--port={port}", *quiet]


async def one_run(client: httpx.AsyncClient, number: int) -> dict[str, Any]:
    """Ask for a run and follow it to its end; whole seconds, the cells' own, and what came out."""
    began = time.perf_counter()
    answer = await client.post("/runs", json={"parameters": {"number": number}})
    answer.raise_for_status()
    name = answer.json()["id"]
    state = ""
    async with client.stream("GET", f"/runs/{name}/events") as events:
        async for line in events.aiter_lines():
            if line.startswith("data:") and '"state"' in line:
                state = json.loads(line[5:])["state"]
    whole = time.perf_counter() - began
    receipt = (await client.get(f"/runs/{name}/receipt")).json()
    last = (await client.get(f"/runs/{name}/cells/1")).text
    return {
        "whole": whole,
        "cells": sum(cell["seconds"] for cell in receipt["cells"]),
        "right": state == "finished" and f"the answer is {number + 1}" in last,
    }


async def runs_alone(port: int, rounds: int) -> list[dict[str, Any]]:
    """Runs one after the other, with the pauses of a person."""
    found = []
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=300) as client:
        await client.get("/")
        for number in range(rounds):
            await asyncio.sleep(2.5)
            found.append(await one_run(client, number))
    return found


async def people(port: int, count: int) -> dict[str, Any]:
    """`count` people at once, and one more who asked for ten runs just before them."""
    many = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=600)
    each = [httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=600) for _ in range(count)]
    for client in (many, *each):
        await client.get("/")
    began = time.perf_counter()
    greedy = [asyncio.create_task(one_run(many, 1000 + n)) for n in range(10)]
    await asyncio.sleep(0.3)
    ordinary = [asyncio.create_task(one_run(client, n)) for n, client in enumerate(each)]
    done = await asyncio.gather(*ordinary, return_exceptions=True)
    others = time.perf_counter() - began
    last = await asyncio.gather(*greedy, return_exceptions=True)
    for client in (many, *each):
        await client.aclose()
    good = [result for result in done if isinstance(result, dict) and result["right"]]
    waits = sorted(result["whole"] for result in good)
    return {
        "people": count,
        "finished_right": len(good),
        "failed": count - len(good) + sum(not (isinstance(r, dict) and r["right"]) for r in last),
        "median_seconds": statistics.median(waits),
        "slowest_seconds": waits[-1],
        "everybody_had_one_after": others,
        "ten_of_one_person_after": time.perf_counter() - began,
        "runs_a_second": (count + 10) / (time.perf_counter() - began),
    }


async def pages_at_once(port: int, count: int) -> dict[str, Any]:
    """Voilà's counterpart: `count` people open the page, which runs the notebook for each."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=600, follow_redirects=True) as client:

        async def one() -> float:
            began = time.perf_counter()
            answer = await client.get("/")
            answer.raise_for_status()
            if "the answer is 2" not in answer.text:
                raise ValueError("the page lacks the result")
            return time.perf_counter() - began

        began = time.perf_counter()
        done = await asyncio.gather(*(one() for _ in range(count)), return_exceptions=True)
        took = time.perf_counter() - began
    good = sorted(each for each in done if isinstance(each, float))
    return {
        "people": count,
        "finished_right": len(good),
        "failed": count - len(good),
        "median_seconds": statistics.median(good) if good else None,
        "slowest_seconds": good[-1] if good else None,
        "runs_a_second": len(good) / took,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--people", type=int, default=20)
    parser.add_argument("--peers", help="a Python that has voila, papermill and ipykernel")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        notebook = write(folder)
        starts: dict[str, list[dict[str, float]]] = {"allmend": [], "voila": []}
        for _ in range(given.rounds):
            port = free_port()
            with served(allmend(notebook, port, folder / "store"), port, folder) as took:
                starts["allmend"].append(took)
            if given.peers:
                port = free_port()
                with served(voila(given.peers, notebook, port), port, folder) as took:
                    starts["voila"].append(took)
        port = free_port()
        with served(allmend(notebook, port, folder / "store"), port, folder):
            alone = asyncio.run(runs_alone(port, given.rounds))
            crowd = {"allmend": asyncio.run(people(port, given.people))}
        milled: list[list[float]] = []
        if given.peers:
            words = [given.peers, "-c", PAPERMILL, str(notebook), str(given.rounds)]
            milled = json.loads(
                subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
            )
            port = free_port()
            with served(voila(given.peers, notebook, port), port, folder):
                crowd["voila"] = asyncio.run(pages_at_once(port, given.people))
    over = {"allmend": [run["whole"] - run["cells"] for run in alone], "papermill": [a - b for a, b in milled]}
    result = {
        "command": " ".join(["python", *("PYTHON" if each == given.peers else each for each in sys.argv)]),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "versions": _versions(given.peers),
        "medians": {
            "first_page": {
                name: {key: statistics.median(each[key] for each in found) for key in found[0]}
                for name, found in starts.items()
                if found
            },
            "run_over_cells_seconds": {name: statistics.median(found) for name, found in over.items() if found},
        },
        "people_at_once": crowd,
        "all": {"starts": starts, "runs": alone, "papermill": milled},
        "notes": [
            "Voilà makes its page by running the notebook, without parameters: its first page holds a run.",
            "papermill serves nobody: its figure is execute_notebook in a warm process, without its import.",
        ],
    }
    text = json.dumps(result, indent=1)
    if given.out:
        given.out.write_text(text + "\n")
    print(json.dumps({name: result[name] for name in ("medians", "people_at_once")}, indent=1))


def _versions(peers: str | None) -> dict[str, str]:
    code = "import importlib.metadata as m, json; print(json.dumps({n: m.version(n) for n in %r}))"
    own = subprocess.run(
        [sys.executable, "-c", code % (["uvicorn", "fastapi", "ipykernel"],)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = dict(json.loads(own.stdout))
    if peers:
        names = ["voila", "papermill", "ipykernel"]
        theirs = subprocess.run([peers, "-c", code % (names,)], capture_output=True, text=True, check=True)
        found |= {f"peers' {name}": version for name, version in json.loads(theirs.stdout).items()}
    return found


if __name__ == "__main__":
    main()
