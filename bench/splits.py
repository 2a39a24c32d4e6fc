"""How long dividing rows takes, near duplicates found and kept together, as rows grow.

    python bench/splits.py [ROWS…]

Rows are made up: 22 words of a vocabulary in which some are common, one in 50 repeated exactly and one in 50 with one
word changed. The result goes to `splits.json` beside this file.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
from pathlib import Path

from allmend.data import Row, split


def made(count: int) -> list[Row]:
    chance = random.Random(1)
    words = [f"w{number}" for number in range(20_000)]
    rows = [
        Row(
            " ".join(words[int(chance.random() ** 3 * len(words))] for _ in range(22)),
            chance.choice(["pos", "neg"]),
        )
        for _ in range(count)
    ]
    for place in range(0, count, 50):
        changed = rows[place].prompt.split()
        changed[3] = "changed"
        rows[(place + 7) % count] = Row(" ".join(changed), rows[place].completion)
        rows[(place + 9) % count] = Row(rows[place].prompt.upper() + "!", "pos")
    return rows


def main() -> None:
    from allmend.runs.environment import environment

    figures = []
    for count in [int(word) for word in sys.argv[1:]] or [10_000, 100_000, 1_000_000]:
        rows = made(count)
        seconds = []
        for _ in range(3 if count <= 100_000 else 1):
            begin = time.perf_counter()
            sides = split(rows, seed=3)
            seconds.append(time.perf_counter() - begin)
        planted = len(range(0, count, 50))
        figures.append(
            {
                "rows": count,
                "seconds": round(sorted(seconds)[len(seconds) // 2], 2),
                "exact_found": sides.duplicates,
                "near_found": sides.near_duplicates,
                "planted_each": planted,
                "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
        )
    machine = {key: value for key, value in environment().items() if key != "machine"}
    result = {"command": "python bench/splits.py", "machine": machine, "figures": figures}
    text = json.dumps(result, indent=2)
    Path(__file__).with_suffix(".json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
