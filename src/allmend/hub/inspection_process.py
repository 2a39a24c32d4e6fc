"""What looks at a folder of uploads: a process of its own, with bounds. Prints JSON.

Run as `python -m allmend.hub.inspection_process FOLDER`.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

from allmend.errors import AllmendError
from allmend.nouns.plan import Plan

_MEMORY = 2 * 2**30
_CPU_SECONDS = 240
_MOST = 200
"""Findings, effects and unread things that are shown."""


def main(folder: Path) -> dict[str, Any]:
    """What there is to say of a folder, as plain values."""
    body: dict[str, Any] = {
        "schema": "allmend.inspection/1", "state": "done", "findings": [], "effects": [], "hosts": [], "unread": [],
        "files": {}, "weights": [],
    }  # fmt: skip
    _plan_all(folder, body)
    _same_names(folder, body)
    order = {"danger": 0, "warning": 1, "note": 2}
    body["findings"].sort(key=lambda each: order[each["severity"]])
    worst = body["findings"][0]["severity"] if body["findings"] else None
    body["worst"] = worst
    if (folder / "release.json").is_file():
        body["release"] = _release(folder)
    return body


def _plan_all(folder: Path, body: dict[str, Any]) -> None:
    from allmend.planning.folders import plan_folder
    from allmend.planning.models import looks_like_model, plan_model_folder

    if looks_like_model(folder):
        _add(folder, body, lambda: plan_model_folder(folder))
    else:
        for path in _weights(folder):
            from allmend.planning.models import plan_model_file

            _add(folder, body, lambda path=path: plan_model_file(path))
    if any(folder.rglob("*.ipynb")) or any(folder.rglob("*.py")) or (folder / "README.md").is_file():
        _add(folder, body, lambda: plan_folder(folder), quiet=True)
    for path in _weights(folder):
        _file(folder, path, body)


def _weights(folder: Path) -> list[Path]:
    from allmend.planning.models.weights import WEIGHTS

    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name.endswith(WEIGHTS)]


def _add(folder: Path, body: dict[str, Any], make: Any, *, quiet: bool = False) -> None:
    try:
        plan: Plan = make()
    except AllmendError as error:
        if not quiet:
            body["unread"].append({"reason": error.message})
        return
    except RecursionError:
        body["unread"].append({"reason": "it is nested too deeply to be read"})
        return
    shown = plan.to_dict()
    for key in ("findings", "effects", "unread", "hosts"):
        body[key] += shown[key][: max(0, _MOST - len(body[key]))]
    if plan.needs.why and "needs" not in body:
        body["needs"] = plan.needs.model_dump(mode="json", exclude={"fits"})


def _file(folder: Path, path: Path, body: dict[str, Any]) -> None:
    """What is to be said of one file of weights."""
    from allmend.planning.models import plan_model_file

    name = path.relative_to(folder).as_posix()
    try:
        plan = plan_model_file(path)
    except AllmendError as error:
        body["files"][name] = {"severity": "warning", "titles": [error.message]}
        return
    imports = [one for effect in plan.effects for one in effect.detail.get("imports", [])]
    severity = plan.findings[0].severity if plan.findings else None
    titles = [each.title for each in plan.findings][:10]
    body["files"][name] = {"severity": severity, "titles": titles, "imports": imports[:50]}
    body["weights"].append({"path": name, "pickle": any(effect.kind == "unpickle" for effect in plan.effects)})


def _same_names(folder: Path, body: dict[str, Any]) -> None:
    """Files that are one file on a disk that does not tell letters' case, or how a letter is composed, apart."""
    import unicodedata

    seen: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        key = unicodedata.normalize("NFC", name).casefold()
        if key in seen and path.is_file():
            body["findings"].append({
                "id": "names-collide", "severity": "warning",
                "title": f"{seen[key]} and {name} are one file on some disks",
                "why": "Windows and macOS do not tell them apart: one is written over the other when both are fetched.",
                "fix": "Rename one of them.", "cells": [], "lines": [],
            })  # fmt: skip
        seen[key] = name


def _release(folder: Path) -> dict[str, Any]:
    """A release of `allmend ship`, verified."""
    from allmend.releases.verify import read, verify

    try:
        found = verify(folder)
        release = read(folder)
    except AllmendError as error:
        return {"ok": False, "problems": [error.message], "checked": [], "not_checked": []}
    except ImportError as error:
        return {"ok": None, "problems": [], "checked": [], "not_checked": [f"all of it: {error.name} is not installed"]}
    return {
        "ok": found.ok, "problems": found.problems[:_MOST], "checked": found.checked, "not_checked": found.not_checked,
        "signer": found.signer, "signed": release.signed, "name": release.name,
        "lineage": {
            "base": release.base, "base_digest": release.base_digest, "base_origin": release.base_origin,
            "adapter_digest": release.adapter_digest, "data_digest": release.data_digest, "run": release.run,
        },
    }  # fmt: skip


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    sys.stdout.write(json.dumps(main(Path(sys.argv[1])), default=str))
