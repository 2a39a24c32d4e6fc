"""Of real notebooks that need no GPU and no outside host: how many run in the box as they do outside?

The notebooks lie in a folder given by `--corpus`. A notebook *stays here* when its plan holds nothing that leaves the
machine or asks for an account or an accelerator, and every cell could be read. Most of those still fail outside as
well, for want of a package or a file; so those run are the ones that also *have their packages*: every module they
import is in the profile or the standard library. Each is run twice in a row with the same interpreter and packages,
unboxed and at level A, from an otherwise empty folder. Two figures: *alike*, when every cell ends alike (ok, or an
error of the same name) up to where either run met the time limit; and of what ran outside, whole notebooks and single
cells, how much did inside.

    python bench/box/usefulness.py --corpus FOLDER --seconds 40 --most 60 --minutes 20
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import shutil
import sys
import tempfile
import time
from importlib.machinery import PathFinder
from itertools import zip_longest
from pathlib import Path

from allmend.box import document, interpreters, named, owner, profiles
from allmend.box.environment import Environment
from allmend.box.job import Job
from allmend.box.run import run
from allmend.box.settings import Settings
from allmend.errors import AllmendError
from allmend.nouns.permissions import Permissions
from allmend.verbs.plan import plan as make_plan

_STAYS = {"process", "unpickle", "dynamic_code", "hidden_code", "destructive"}


def takes_part(path: Path) -> bool:
    """Whether a notebook stays on the machine, as its plan says."""
    try:
        plan = make_plan(path)
        read = document.read(path)
        interpreters.wanted(read)
    except AllmendError:
        return False
    code = [cell for cell in read.content["cells"] if cell["cell_type"] == "code" and cell["source"].strip()]
    python = plan.subject.language == "python"
    return python and not plan.unread and bool(code) and {e.kind for e in plan.effects} <= _STAYS


def has_its_packages(path: Path, environment: Environment) -> bool:
    """Whether all it imports is there."""
    needed = named.imports(document.read(path)) - set(sys.stdlib_module_names)
    return all(PathFinder.find_spec(name, [*environment.sites]) is not None for name in needed)


def outcome(path: Path, level: str, seconds: float, environment: object, operator: object) -> list[str]:
    """One word a code cell: ok, or the error's name; the run's own ending last when a limit ended it."""
    read = document.read(path)
    folder = Path(tempfile.mkdtemp(prefix="bench-useful-"))
    try:
        permissions = Permissions.from_toml(f"[limits]\ntime = {seconds}\n")
        settings = Settings(
            permissions, environment, folder, level=level, why=["bench"], operator=operator, colab=False
        )
        out = folder / "out"
        job = Job(
            copy.deepcopy(read.content),
            path.name,
            read.sha256,
            settings,
            out / "nb.ipynb",
            out / "r.json",
            keep_going=True,
        )
        receipt = run(job)
        words = [cell.status if cell.status != "error" else (cell.error or "").split(":")[0] for cell in receipt.cells]
        if receipt.ended not in ("finished", "failed"):
            words = [
                *words[: next((n for n, w in enumerate(words) if w in ("died", "not-run")), len(words))],
                receipt.ended,
            ]
        return words
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def alike(first: list[str], second: list[str]) -> bool:
    """The same words up to where a time limit ended either."""
    if "time-limit" in (first[-1:] + second[-1:]):
        shared = min(len(first), len(second)) - 1
        return first[:shared] == second[:shared]
    return first == second


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--most", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=20, help="begin no further notebook after so long")
    parser.add_argument("--profile", default="colab")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    given = parser.parse_args()
    paths = sorted(given.corpus.glob("*.ipynb"))
    fitting = [path for path in paths if takes_part(path)]
    operator = owner.Operator()
    environment = profiles.build(given.profile, profiles.LISTS[given.profile], owner.read())
    equipped = [path for path in fitting if has_its_packages(path, environment)]
    chosen = random.Random(0).sample(equipped, min(given.most, len(equipped)))
    until = time.monotonic() + 60 * given.minutes
    rows = []
    for number, path in enumerate(chosen):
        if rows and time.monotonic() > until:
            break
        outside = outcome(path, "D", given.seconds, environment, operator)
        inside = outcome(path, "A", given.seconds, environment, operator)
        rows.append({"notebook": path.name, "alike": alike(outside, inside), "outside": outside, "inside": inside})
        print(f"{number + 1}/{len(chosen)} {rows[-1]['alike']} {path.name}", file=sys.stderr)
        same = sum(row["alike"] for row in rows)
        cells = [pair for row in rows for pair in zip_longest(row["outside"], row["inside"])]
        whole = [row for row in rows if set(row["outside"]) == {"ok"}]
        result = {
            "command": "python bench/box/usefulness.py " + " ".join(sys.argv[1:]).replace(str(given.corpus), "CORPUS"),
            "date": time.strftime("%Y-%m-%d"),
            "notebooks": len(paths),
            "need no GPU and no outside host": len(fitting),
            "of these, have their packages": len(equipped),
            "run": len(rows),
            "alike": same,
            "share": round(same / len(rows), 3),
            "every cell ok outside": len(whole),
            "of these, every cell ok inside": sum(set(row["inside"]) == {"ok"} for row in whole),
            "cells ok outside": sum(outside == "ok" for outside, _ in cells),
            "of these, ok inside": sum(outside == inside == "ok" for outside, inside in cells),
            "different": [row for row in rows if not row["alike"]],
        }
        given.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "different"}, indent=1))


if __name__ == "__main__":
    main()
