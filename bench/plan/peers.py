"""Which of the labelled behaviours other scanners speak of at all: bandit through nbqa, ruff's S rules, nbdefense.

    python bench/plan/peers.py

The notebooks are those of `tests/planning/labelled_set.py`.
A peer hits a cell's effect when it reports anything in that
cell (generous: whether the rule is about that effect is not asked). allmend hits it when kind, target and cell agree.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "planning"))

from labelled_set import CASES

from allmend.notebooks import read_bytes
from allmend.planning import plan_notebook


def reported(command: list[str], name: str, folder: Path) -> tuple[dict[str, set[int]], float]:
    """Cells (0-based among code cells) with a report, by notebook, and seconds a notebook."""
    found: dict[str, set[int]] = {}
    start = time.perf_counter()
    for path in sorted(folder.glob("*.ipynb")):
        done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
        text = done.stdout + done.stderr
        cells = {int(n) - 1 for n in re.findall(r"cell[_ ](\d+)", text)} | {
            int(n) - 1 for n in re.findall(r"\.ipynb:cell (\d+)", text)
        }
        found[path.stem] = cells | by_text(text, json.loads(path.read_text()))
    return found, (time.perf_counter() - start) / max(1, len(found))


def by_text(report: str, document: dict[str, list[dict[str, str]]]) -> set[int]:
    """Cells of a report that gives lines of the joined notebook (bandit): found by the text of the line it shows."""
    cells: set[int] = set()
    for match in re.finditer(r"Location: [^\n]*?:(\d+):\d+\n(.*?)(?=\n\n|\n-----|\Z)", report, re.DOTALL):
        shown = re.search(rf"^{match[1]}\t(.*)$", match[2], re.MULTILINE)
        text = shown[1].strip() if shown else ""
        cells.update(n for n, cell in enumerate(document["cells"]) if text and text in cell["source"])
    return cells


def main() -> None:
    labelled: Counter[str] = Counter()
    ours: Counter[str] = Counter()
    listed: Counter[str] = Counter()
    start = time.perf_counter()
    for case in CASES:
        plan = plan_notebook(read_bytes(case.notebook()), path=case.name)
        have = {(e.kind, e.target, e.cell) for e in plan.effects}
        want = case.expected()
        labelled.update(kind for kind, _, _ in want)
        ours.update(kind for kind, _, _ in want & have)
        listed.update(kind for kind, _, _ in have)
    seconds = {"allmend": (time.perf_counter() - start) / len(CASES)}
    hits: dict[str, dict[str, int]] = {"allmend": dict(ours)}
    missing: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, case in enumerate(CASES):
            document = json.loads(case.notebook())
            # Without these the peers skip the file and call it clean.
            document["metadata"]["language_info"] = {"name": "python", "version": "3.11.0"}
            document["metadata"]["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
            for cell in document["cells"]:
                if cell["cell_type"] == "code":
                    cell["execution_count"] = None
            (folder / f"n{number:03}.ipynb").write_text(json.dumps(document))
        peers = {
            "nbqa bandit": (["nbqa", "bandit"], "nbqa"),
            "ruff S": (["ruff", "check", "--isolated", "--select", "S", "--output-format", "concise"], "ruff"),
            "nbdefense": (["nbdefense", "scan", "-q"], "nbdefense"),
        }
        for peer, (command, program) in peers.items():
            if shutil.which(program) is None:
                missing.append(peer)
                continue
            cells, seconds[peer] = reported(command, peer, folder)
            counted: Counter[str] = Counter()
            for number, case in enumerate(CASES):
                where = cells.get(f"n{number:03}", set())
                counted.update(kind for kind, _, cell in case.expected() if cell in where)
            hits[peer] = dict(counted)
    result = {
        "command": "python bench/plan/peers.py",
        "notebooks": len(CASES),
        "labelled": dict(sorted(labelled.items())),
        "recall": {
            name: {k: round(rows.get(k, 0) / labelled[k], 3) for k in sorted(labelled)} for name, rows in hits.items()
        },
        "allmend_precision": {kind: round(ours[kind] / listed[kind], 3) for kind in sorted(listed)},
        "seconds_a_notebook": {name: round(value, 4) for name, value in seconds.items()},
        "not_installed": missing,
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
