"""How many install lines of public notebooks are understood completely, with the reasons for the rest.

    python bench/lock/parse.py FOLDER [--json FILE] [--show REASON]

FOLDER holds notebooks (.ipynb), one of each kind; nothing is fetched, installed or run. A notebook is understood
completely when each of its install lines comes to requirements that can be handed to the resolver as they are: a name
with versions (PEP 508), a repository, an address, a folder of a clone, a requirements file whose text the notebook
writes or a clone holds. A line that the plan does not list at all counts against it: lines are found a second time by
a plain search for `pip install` and its relatives in the cells, which the plan takes no part in.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import time
from collections import Counter
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from allmend.errors import AllmendError
from allmend.locking.asks import Wanted, asks
from allmend.notebooks.document import read
from allmend.verbs.plan import plan

INSTALL = re.compile(
    r"^\s*(?:[!%]{1,2}\s*)?(?:sudo\s+)?(?:[\w./{}$]*python[\d.]*\s+-m\s+)?"
    r"(?:uv\s+)?(?:pip3?|conda|mamba|apt(?:-get)?)\s+(?:-\S+\s+)*install\s+\S"
)


def reason(wanted: Wanted) -> str | None:
    """Why a requirement cannot be handed on; None when it can."""
    if wanted.source in ("git", "url"):
        return None if re.match(r"(?:git\+)?https?://", wanted.text) else "a repository over ssh or git's own protocol"
    if wanted.source == "path":
        return None if wanted.clone else "a folder or file that the notebook does not clone"
    if wanted.source == "requirements":
        known = wanted.written is not None or wanted.clone or re.match(r"https?://", wanted.text)
        return (
            None
            if known
            else "a requirements file that lies beside the notebook, or that something makes while it runs"
        )
    try:
        Requirement(wanted.text)
    except InvalidRequirement:
        return "not a requirement as PEP 508 writes it"
    return None


def lines_of(path: Path) -> dict[int, int]:
    """Install lines of each cell, by a plain search."""
    found: Counter[int] = Counter()
    for place, cell in enumerate(read(path).cells):
        if cell.type != "code":
            continue
        shell = re.match(r"\s*%%(?:bash|sh|shell|script|!)", cell.source) is not None
        for line in cell.source.splitlines():
            if INSTALL.match(line) and (shell or line.lstrip()[:1] in "!%"):
                found[place] += 1
    return dict(found)


def look(path: Path) -> tuple[int, Counter[str], Counter[str]]:
    """(requirements, reasons among installs, reasons among everything fetched) of one notebook."""
    made = plan(path)
    wanted = asks(made)
    installs: Counter[str] = Counter()
    for one in (*wanted.packages, *wanted.files):
        why = reason(one)
        if why:
            installs[why] += 1
    everything = Counter(installs)
    for one in wanted.unlocked:
        why = re.sub(r"it cannot be known before it runs: .*", "known only while it runs", one.why)
        if why.startswith("not read"):
            why = "code from outside that was not read" if "from outside" in why else "a cell that could not be read"
        everything[why] += 1
        if one.what.startswith("install "):
            installs[why] += 1
    cells = {effect.cell for effect in made.effects if effect.kind == "install"}
    for cell, count in lines_of(path).items():
        if cell not in cells:
            installs["a line that the plan does not list"] += count
            everything["a line that the plan does not list"] += count
    return len(wanted.packages) + len(wanted.files) + len(wanted.system), installs, everything


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--show", help="print the notebooks that have this reason")
    options = parser.parse_args()
    files = sorted(options.folder.glob("*.ipynb"))
    began = time.perf_counter()
    installing = complete = fetching = all_complete = requirements = unread = 0
    of_notebooks: Counter[str] = Counter()
    of_requirements: Counter[str] = Counter()
    of_all: Counter[str] = Counter()
    for path in files:
        try:
            count, installs, everything = look(path)
        except AllmendError:
            unread += 1
            continue
        if count or installs:
            installing += 1
            complete += not installs
        requirements += count + sum(installs.values())
        fetching += 1
        all_complete += not everything
        of_requirements.update(installs)
        of_notebooks.update(set(installs))
        of_all.update(set(everything))
        if options.show and options.show in installs:
            print(path.name, file=sys.stderr)
    result = {
        "command": "python bench/lock/parse.py FOLDER",
        "machine": {"platform": platform.platform(), "python": platform.python_version()},
        "notebooks": len(files),
        "not_read": unread,
        "with_installs": installing,
        "understood_completely": complete,
        "share": round(complete / installing, 4) if installing else None,
        "requirements": requirements,
        "requirements_not_understood": sum(of_requirements.values()),
        "requirement_share": round(1 - sum(of_requirements.values()) / requirements, 4) if requirements else None,
        "reasons_by_notebook": dict(of_notebooks.most_common()),
        "reasons_by_requirement": dict(of_requirements.most_common()),
        "everything_fetched_lockable": all_complete,
        "everything_share": round(all_complete / fetching, 4) if fetching else None,
        "reasons_among_everything_by_notebook": dict(of_all.most_common()),
        "seconds": round(time.perf_counter() - began, 1),
    }
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
