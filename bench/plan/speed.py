"""Seconds a notebook, in one process on one core, over a folder of notebooks; start to first line; 100 MB of outputs.

    python bench/plan/speed.py FOLDER

The figures of `speed.json` were taken over public notebooks, one a cluster of near copies; none of them is kept here.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from allmend.errors import AllmendError
from allmend.notebooks import read
from allmend.planning import plan_notebook


def main(folder: Path) -> None:
    files = sorted(folder.glob("**/*.ipynb"))
    seconds: list[float] = []
    crashes = refused = unread = without_reason = findings = effects = 0
    for file in files:
        start = time.perf_counter()
        try:
            plan = plan_notebook(read(file), path=file.name)
        except AllmendError:
            refused += 1
            continue
        except Exception:
            crashes += 1
            continue
        seconds.append(time.perf_counter() - start)
        unread += len(plan.unread)
        without_reason += sum(1 for item in plan.unread if not item.reason)
        findings += bool(plan.findings)
        effects += len(plan.effects)
    seconds.sort()
    result = {
        "command": "python bench/plan/speed.py FOLDER",
        "notebooks": len(seconds),
        "refused_with_words": refused,
        "crashes": crashes,
        "unread_places": unread,
        "unread_without_reason": without_reason,
        "notebooks_with_findings": findings,
        "effects": effects,
        "milliseconds": {
            "median": round(1000 * seconds[len(seconds) // 2], 1),
            "p90": round(1000 * seconds[int(0.9 * len(seconds))], 1),
            "p99": round(1000 * seconds[int(0.99 * len(seconds))], 1),
            "most": round(1000 * seconds[-1], 1),
        },
        "start_to_first_line_seconds": first_line(),
        "outputs_100_mb": large(),
    }
    try:
        from allmend.runs.environment import environment

        result["machine"] = environment()
    except ImportError:
        pass
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=2, default=str) + "\n")
    print(json.dumps(result, indent=2, default=str))


def first_line() -> float:
    """Seconds from the start of the program to its first line, the best of seven."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.ipynb"
        cell = {"cell_type": "code", "source": "!pip install a\nimport os", "metadata": {}, "outputs": []}
        path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4}))
        found = []
        for _ in range(7):
            start = time.perf_counter()
            with subprocess.Popen(
                [sys.executable, "-m", "allmend", "plan", str(path)], stdout=subprocess.PIPE
            ) as process:
                assert process.stdout is not None
                process.stdout.readline()
                found.append(time.perf_counter() - start)
                process.stdout.read()
        return round(min(found), 3)


def large() -> dict[str, float]:
    """A notebook of 100 MB that is mostly pictures."""
    code = (
        "import resource,sys,time; from allmend.verbs.plan import plan; s=time.perf_counter(); plan(sys.argv[1]);"
        "print(time.perf_counter()-s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.ipynb"
        picture = "iVBORw0KGgo" * 100_000
        output = '"outputs":[{"output_type":"display_data","data":{"image/png":"' + picture + '"}}]'
        cells = ",".join('{"cell_type":"code","metadata":{},"source":["x=1"],' + output + "}" for _ in range(95))
        path.write_text('{"nbformat":4,"metadata":{},"cells":[' + cells + "]}")
        size = path.stat().st_size
        printed = subprocess.run(
            [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True
        ).stdout
        seconds, mebibytes = (float(word) for word in printed.split())
        return {"bytes": size, "seconds": round(seconds, 2), "peak_mebibytes": round(mebibytes)}


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main(Path(sys.argv[1]))
