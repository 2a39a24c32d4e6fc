"""What recording a run costs: beginning one in a new process, beginning another, one metric, a whole list.

    python bench/records.py

Each figure is the median of several processes; the result goes to `records.json` beside this file.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REPEATS = 7

ONE = """
import json, time
begin = time.perf_counter()
import allmend.runs
imported = time.perf_counter()
with allmend.runs.record("bench", settings={"a": 1}) as run:
    begun = time.perf_counter()
    for step in range(10000):
        run.metric(step, loss=1.0, accuracy=0.5)
    measured = time.perf_counter()
ended = time.perf_counter()
with allmend.runs.record("bench"):
    again = time.perf_counter()
asked = time.perf_counter()
allmend.runs.list(limit=20)
listed = time.perf_counter()
print(json.dumps({
    "import_ms": (imported - begin) * 1e3, "begin_ms": (begun - imported) * 1e3,
    "metric_us": (measured - begun) / 10000 * 1e6, "end_ms": (ended - measured) * 1e3,
    "begin_again_ms": (again - ended) * 1e3, "list_ms": (listed - asked) * 1e3,
}))
"""


def one(home: str) -> dict[str, float]:
    environment = {**os.environ, "ALLMEND_HOME": home}
    done = subprocess.run([sys.executable, "-c", ONE], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def medians(samples: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(sample[name] for sample in samples), 2) for name in samples[0]}


def main() -> None:
    fresh = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as home:
            fresh.append(one(home))
    with tempfile.TemporaryDirectory() as home:
        one(home)
        warm = [one(home) for _ in range(REPEATS)]
    from allmend.runs.environment import environment

    result = {
        "command": "python bench/records.py",
        "repeats": REPEATS,
        "machine": {key: value for key, value in environment().items() if key != "machine"},
        "new_database": medians(fresh),
        "existing_database": medians(warm),
    }
    text = json.dumps(result, indent=2)
    Path(__file__).with_suffix(".json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
