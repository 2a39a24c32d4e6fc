"""The tour as a stranger sees it: its output, its figures and its times.

    python bench/tour.py [--budget 5m] [--fresh]

Runs `allmend tour` in a terminal of 100 columns and writes bench/tour.txt (what was shown), bench/tour.json (figures,
machine, versions), and the recorded block of the README. `--fresh` begins with an empty ALLMEND_HOME, so that fetching
and converting are part of it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- tour -->\n```text\n", "```\n<!-- /tour -->"


def processor() -> str:
    """Its name, and what matters for bf16."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*:\s*(.+)", text)
    flags = [flag for flag in ("avx512_bf16", "amx_bf16", "avx2") if flag in text]
    return f"{name[1] if name else platform.processor()} ({', '.join(flags)})"


def main() -> None:
    """Run, and write what was seen."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--budget", default="5m")
    arguments.add_argument("--fresh", action="store_true")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as empty:
        home = {"ALLMEND_HOME": empty} if given.fresh else {}
        environment = {**os.environ, **home, "COLUMNS": "100"}
        started = time.time()
        done = subprocess.run(
            [sys.executable, "-m", "allmend", "tour", "--budget", given.budget],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True,
        )  # fmt: skip
        seconds = time.time() - started
        shown = subprocess.run(
            [sys.executable, "-m", "allmend", "runs", "show", "last:tune", "--json"],
            env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        run = json.loads(shown.stdout)
        verdict = json.loads((Path(run["folder"]) / "verdict.json").read_text())
    text = shareable(done.stdout)
    (HERE / "tour.txt").write_text(text)
    result = {
        "command": f"python bench/tour.py --budget {given.budget}" + (" --fresh" if given.fresh else ""),
        "seconds": round(seconds),
        "held_out_rows": verdict["held_out_rows"],
        "words": verdict["words"],
        "measures": {measure["name"]: measure for measure in verdict["measures"]},
        "choices": {choice["name"]: choice["value"] for choice in run["choices"]},
        "machine": {"processor": processor(), "cores": os.cpu_count(), "load": os.getloadavg()},
        "versions": {name: version(name) for name in ("torch", "transformers")} | {"python": platform.python_version()},
    }
    (HERE / "tour.json").write_text(json.dumps(result, indent=2) + "\n")
    into_readme(text)


def shareable(text: str) -> str:
    """What was shown, without this machine's paths, other libraries' warnings (which carry such paths), and the
    reviews, which others wrote."""
    text = re.sub(r"(/[\w.~-]+)+/(?=(models|data|runs|converted|tour)/)", "~/.local/share/allmend/", text)
    text = re.sub(r"^(  (?:better|worse): ).* (expected .*)$", r"\1(a review) \2", text, flags=re.MULTILINE)
    text = re.sub(r"^/\S+:\d+: \w*Warning: .*\n(?:  \S.*\(\n)?", "", text, flags=re.MULTILINE)
    lines, table = [], False
    for line in text.strip().splitlines():
        if line.startswith("Where things lie"):
            table = False
        if table and line.strip() and not line.startswith("review"):
            # A review's first line carries the three answers, its other lines only go on with it.
            if not re.search(r"  (positive|negative)  ", line):
                continue
            line = "(a review)".ljust(62) + line[62:]
        if line.startswith("Asked over HTTP"):
            table = True
        lines.append(line.rstrip())
    return "\n".join(lines) + "\n"


def into_readme(text: str) -> None:
    """Put the recorded tour into the README."""
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(before + BEGIN + text + END + after)


if __name__ == "__main__":
    main()
