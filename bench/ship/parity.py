"""Shipping the default model in every format: seconds of each part, parity of all formats in sum, memory of merging.

    python bench/ship/parity.py            (about five minutes with the tuning; result in parity.json beside this file)
    python bench/ship/parity.py RUN        (a tune run that is there already)

The goal is parity of all formats in under 90 s on two cores, and a merge whose peak memory is at most the largest
shard plus 500 MB.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

FORMATS = "bf16,q8_0,q4_0,q4_k_m"
MERGE = """
import re, sys
from pathlib import Path
from allmend import adapters
from allmend.releases.merge import merge
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
weights = adapters.read(sys.argv[2])
before = peak()
merge(Path(sys.argv[1]), weights, Path(sys.argv[3]))
print(before, peak())
"""


def command(*words: str) -> dict[str, object]:
    """What `allmend WORDS --json` prints."""
    done = subprocess.run([sys.executable, "-m", "allmend", *words, "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def tuned() -> str:
    """A short tune of the default model on the movie reviews."""
    return str(command("tune", "movie-reviews", "--budget", "60s", "--fresh")["id"])


def merging(run: str, place: Path) -> dict[str, float]:
    """Peak memory of the merge alone, in a process of its own, MiB."""
    shown = command("runs", "show", run)
    adapter = next(file["path"] for file in shown["outputs"] if file["name"] == "adapter")  # type: ignore[union-attr]
    from allmend.models import resolve
    from allmend.models.gguf import converted

    base = converted(resolve("gemma-3-270m"))
    (place / "merged").mkdir()
    begun = time.perf_counter()
    run_ = [sys.executable, "-c", MERGE, str(base), adapter, str(place / "merged")]
    before, after = map(float, subprocess.run(run_, capture_output=True, text=True, check=True).stdout.split())
    shard = max(path.stat().st_size for path in base.glob("*.safetensors")) / 2**20
    return {
        "seconds": round(time.perf_counter() - begun, 2),
        "memory before, MiB": round(before),
        "peak, MiB": round(after),
        "growth, MiB": round(after - before),
        "largest shard, MiB": round(shard),
        "allowed peak, MiB": round(shard + 500e6 / 2**20),
    }


def shipping(run: str, place: Path) -> dict[str, object]:
    """Seconds of the parts of `ship`, from its own words, and its agreements."""
    words = [sys.executable, "-m", "allmend", "ship", run, "--merge", "--gguf", FORMATS, "--to", str(place / "release")]
    begun = time.perf_counter()
    stages: list[tuple[str, float]] = []
    with subprocess.Popen([*words, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None and child.stdout is not None
        for line in child.stderr:
            found = re.match(r"\s*\d+:\d\d (.+)", line)
            if found:
                stages.append((found[1].strip(), time.perf_counter()))
        release = json.loads(child.stdout.read())
    stages.append(("end", time.perf_counter()))
    spent = {name: round(later - at, 2) for (name, at), (_, later) in pairwise(stages)}
    parity = sum(seconds for name, seconds in spent.items() if name.startswith(("Asking", "Checking")))
    return {
        "parity of all formats, s": round(parity, 1),
        "whole, s": round(time.perf_counter() - begun, 1),
        "stages, s": spent,
        "agreements": release["agreements"],
    }


def main() -> None:
    """Measure and write the result."""
    run = sys.argv[1] if len(sys.argv) > 1 else tuned()
    with tempfile.TemporaryDirectory(prefix="ship-") as folder:
        place = Path(folder)
        result = {
            "command": "python bench/ship/parity.py",
            "formats": FORMATS,
            "merge": merging(run, place),
            "ship": shipping(run, place),
            "cores": len(os.sched_getaffinity(0)),
            "machine": platform.machine(),
            "versions": {name: version(name) for name in ("torch", "transformers", "peft", "xllamacpp", "gguf")},
            "load_before": os.getloadavg()[0],
        }
        shutil.rmtree(place / "release", ignore_errors=True)
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
