"""What the box costs: time until the kernel answers, 10,000 file opens, plain computing; medians of paired rounds.

Rows: an unboxed kernel, the box (level A, recording on), the box with every file access traced, bubblewrap alone,
`strace -f`. All start the same kernel and are asked through the same client; each round runs every row once, in a
changing order, and a row is compared with the unboxed kernel of its own round.

    python bench/box/speed.py --rounds 9 --out bench/box/speed.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from allmend.box import environment
from allmend.box.box import Box
from allmend.box.execute import Kernel
from allmend.box.probe import probe
from allmend.box.settings import Settings
from allmend.nouns.permissions import Permissions

OPENS = """
import time
open('opened.txt', 'w').close()
began = time.perf_counter()
for _ in range(10_000):
    open('opened.txt').close()
print(time.perf_counter() - began)
"""
COMPUTE = """
import time
began = time.perf_counter()
total = 0
for n in range(6_000_000):
    total += n
print(time.perf_counter() - began)
"""


def boxed(trace: bool = False) -> Iterator[tuple[float, Kernel]]:
    """A kernel in the box; seconds until it was ready, and the kernel."""
    settings = Settings(
        Permissions(), environment.of(), Path(tempfile.gettempdir()), level="A", why=["bench"], trace=trace
    )
    box = Box(settings)
    began = time.perf_counter()
    box.start()
    kernel = Kernel(box.connection, lambda: box.ended is not None)
    try:
        kernel.wait_until_ready()
        yield time.perf_counter() - began, kernel
    finally:
        kernel.close()
        box.close()


def prefixed(prefix: list[str]) -> Iterator[tuple[float, Kernel]]:
    """A kernel behind a command prefix (nothing, bwrap, strace)."""
    folder = Path(tempfile.mkdtemp(prefix="bench-box-"))
    ports = {f"{name}_port": place for place, name in enumerate(("shell", "iopub", "stdin", "control", "hb"), 1)}
    connection = {
        "transport": "ipc",
        "ip": str(folder / "k"),
        "key": "bench",
        "signature_scheme": "hmac-sha256",
        **ports,
    }
    (folder / "c.json").write_text(json.dumps(connection))
    began = time.perf_counter()
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", "ipykernel_launcher", "-f", str(folder / "c.json")],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    kernel = Kernel(connection, lambda: process.poll() is not None)
    try:
        kernel.wait_until_ready()
        yield time.perf_counter() - began, kernel
    finally:
        kernel.close()
        os.killpg(process.pid, 9)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


BWRAP = ["bwrap", "--unshare-all", "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--die-with-parent", "--"]
ROWS = {
    "unboxed": lambda: prefixed([]),
    "box": lambda: boxed(),
    "box, files traced": lambda: boxed(trace=True),
    "bubblewrap alone": lambda: prefixed(BWRAP),
    "strace -f": lambda: prefixed(["strace", "-f", "-o", os.devnull]),
}


def measure(row: str) -> dict[str, float]:
    """One kernel of a row: seconds for each figure."""
    with contextmanager(ROWS[row])() as (ready, kernel):
        found = {"ready": ready}
        for name, source in (("opens", OPENS), ("compute", COMPUTE)):
            texts: list[str] = []
            outcome = kernel.run(source, show=lambda shown: texts.append(shown.text))  # noqa: B023
            assert outcome.status == "ok", outcome.error
            found[name] = float("".join(texts))
        return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    given = parser.parse_args()
    rows = [row for row in ROWS if row != "strace -f" or shutil.which("strace")]
    for row in rows:
        measure(row)  # fills caches
    rounds = []
    for number in range(given.rounds):
        order = random.Random(number).sample(rows, len(rows))
        rounds.append({row: measure(row) for row in order})
        print(f"round {number + 1} of {given.rounds}", file=sys.stderr)
    table = {}
    for row in rows:
        median = {name: statistics.median(r[row][name] for r in rounds) for name in ("ready", "opens", "compute")}
        table[row] = {
            "ready_s": round(median["ready"], 4),
            "ready_more_ms": round(
                1000 * statistics.median(r[row]["ready"] - r["unboxed"]["ready"] for r in rounds), 1
            ),
            "opens_10k_s": round(median["opens"], 4),
            "opens_ratio": round(statistics.median(r[row]["opens"] / r["unboxed"]["opens"] for r in rounds), 3),
            "compute_s": round(median["compute"], 4),
            "compute_ratio": round(statistics.median(r[row]["compute"] / r["unboxed"]["compute"] for r in rounds), 3),
        }
    machine = probe()
    result = {
        "command": "python bench/box/speed.py " + " ".join(sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": {
            "kernel": platform.release(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "bubblewrap": machine.bubblewrap,
            "landlock_abi": machine.landlock_abi,
            "root": machine.root,
            "load_at_end": round(os.getloadavg()[0], 2),
        },
        "targets": {"ready_more_ms": 80, "opens_ratio": 1.5, "compute_ratio": 1.01},
        "rounds": given.rounds,
        "table": table,
    }
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
