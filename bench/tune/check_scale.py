"""How long `data check` takes and how much memory it needs, as rows grow.

    python bench/tune/check_scale.py [ROWS…]

Rows are made up: 22 words with a label, one in 50 repeated, one in 50 with one word changed, one in 1,000 with a mail
address. Each size runs in a process of its own. The result goes to `check_scale.json` beside this file and into the
table of `docs/performance.md`.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import page


def write(path: Path, count: int) -> None:
    """Rows as JSON lines."""
    chance = random.Random(1)
    words = [f"w{number}" for number in range(20_000)]
    before = ""
    with path.open("w") as lines:
        for place in range(count):
            text = " ".join(words[int(chance.random() ** 3 * len(words))] for _ in range(22))
            if place % 50 == 7:
                text = before
            elif place % 50 == 9:
                text = before.replace(" ", " changed ", 1)
            elif place % 1000 == 11:
                text += " someone@somewhere.test"
            before = text if place % 50 == 0 else before
            lines.write(json.dumps({"prompt": text, "completion": chance.choice(["pos", "neg"])}) + "\n")


def one(path: str) -> dict[str, Any]:
    """Check in this process."""
    from allmend.data import check

    begin, cpu = time.perf_counter(), time.process_time()
    report = check(path)
    return {
        "rows": report.rows,
        "seconds": round(time.perf_counter() - begin, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "found": {problem.id: problem.count for problem in report.problems},
    }


def main() -> None:
    """Run all sizes and write the result."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(sys.argv[2])))
        return
    from allmend.runs.environment import environment

    file = Path(__file__).with_suffix(".json")
    figures = {one["rows"]: one for one in json.loads(file.read_text())["figures"]} if file.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        for count in [int(word) for word in sys.argv[1:]] or [10_000, 100_000, 1_000_000]:
            path = Path(folder) / f"{count}.jsonl"
            write(path, count)
            line = [sys.executable, __file__, "--one", str(path)]
            figures[count] = json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
            print(figures[count], flush=True)
            path.unlink()
            # Each size as soon as it is there; the others stay as they were.
            sizes = [figures[rows] for rows in sorted(figures)]
            result = {"command": " ".join(["python", *sys.argv]), "machine": environment(), "figures": sizes}
            file.write_text(json.dumps(result, indent=2) + "\n")
            page.put("check_scale", table(sizes))


def table(figures: list[dict[str, Any]]) -> str:
    """Markdown."""
    lines = []
    for before, one in zip([None, *figures], figures, strict=False):
        each = ""
        if before is not None:
            each = f"{(one['peak_mib'] - before['peak_mib']) * 2**20 / (one['rows'] - before['rows']):.0f}"
        lines.append([f"{one['rows']:,}", f"{one['rows'] / one['cpu_seconds']:,.0f}", f"{one['peak_mib']} MiB", each])
    return page.rows(["rows", "rows a CPU second", "peak memory", "bytes a row more than the line above"], lines)


if __name__ == "__main__":
    main()
