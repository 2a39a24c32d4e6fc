"""The record as a receipt, and how it differs from the plan."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from allmend.nouns.permissions import covered
from allmend.nouns.plan import Effect, Plan
from allmend.nouns.receipt import Event, PlanDifference

_WITH_HOST = {"download", "clone", "model", "dataset", "install"}
_NO_RECORD = {
    "unpickle": "whether data was unpickled",
    "dynamic_code": "whether text was run as code",
    "hidden_code": "hidden code is run like any other",
    "hardware": "which device was computed on",
    "destructive": "deletions leave no event",
    "foreign_code": "which program text ran is seen only as the program that ran it",
}
_HARDWARE = "/sys/"
"""Where libraries look for processors and limits when they are imported: never shown, and no effect of a notebook."""
_EVERYDAY_PROGRAMS = {
    "uname",
    "sh",
    "bash",
    "dash",
    "env",
    "ldconfig",
    "gcc",
    "cc",
    "which",
    "id",
    "lsb_release",
    "file",
    "ldconfig.real",
    "fc-list",
    "ld",
    "objdump",
    "nvidia-smi",
}


def difference(
    plan: Plan,
    events: list[Event],
    hosts: Iterable[str] = (),
    serving: Iterable[str] = (),
    sources: Mapping[int, str] | None = None,
) -> PlanDifference:
    """What was planned and not seen, seen and not planned, and what no record can tell.

    A host counts as planned when the plan names it, or it is among `hosts` (those that the plan's short names stand
    for) or `serving` (those that serve files for them, which need not be seen). A program counts as planned where the
    plan starts any, and where its name stands in the cell's own text (`sources`): `!ls` is no surprise.
    """
    hosts_planned = sorted({*hosts, *(use.host.lower() for use in plan.hosts)} | _effect_hosts(plan.effects))
    expected = [*hosts_planned, *serving]
    seen_hosts = {e.target.rpartition(":")[0]: e for e in events if e.kind == "host" and e.detail != "operator's grant"}
    dns = {e.target for e in events if e.kind == "dns"}
    not_seen = [
        f"host {host}"
        for host in hosts_planned
        if not host.startswith("*.") and not _met(host, {*seen_hosts, *dns}, events)
    ]
    unplanned = [
        f"cell {e.cell}: host {host} ({e.verdict})" for host, e in seen_hosts.items() if not covered(host, expected)
    ]
    unplanned += [
        f"cell {e.cell}: name {e.target} asked for"
        for e in events
        if e.kind == "dns" and not covered(e.target, expected)
    ]
    unplanned += [
        f"cell {e.cell}: {e.kind} {e.target} ({e.verdict})"
        for e in events
        if e.verdict == "denied"
        and e.kind in ("read", "write", "connect", "call", "port", "secret", "drive")
        and e.cell >= 0
        and not (e.kind == "read" and e.target.startswith(_HARDWARE))
    ]
    secrets_planned = {e.target.partition(":")[2] for e in plan.effects if e.kind == "credential"}
    unplanned += [
        f"cell {e.cell}: secret {e.target} ({e.verdict})"
        for e in events
        if e.kind == "secret" and e.verdict == "allowed" and e.target not in secrets_planned
    ]
    asked_for = {(e.kind, e.target) for e in events if e.kind in ("secret", "drive")}
    not_seen += [f"{kind} {name}" for kind, name in _handed_over(plan.effects) if (kind, name) not in asked_for]
    if not _plans_programs(plan):
        unplanned += [
            f"cell {e.cell}: program {e.target}"
            for e in events
            if e.kind == "program" and e.cell >= 0 and not _expected(e, sources or {})
        ]
    not_comparable = sorted(
        {f"{e.kind} {e.target}: {_NO_RECORD[e.kind]}" for e in plan.effects if e.kind in _NO_RECORD}
    )
    return PlanDifference(
        planned_not_seen=list(dict.fromkeys(not_seen)),
        seen_not_planned=list(dict.fromkeys(unplanned)),
        not_comparable=not_comparable,
    )


def _handed_over(effects: list[Effect]) -> list[tuple[str, str]]:
    """Secrets and Drive, where the box itself is asked for them: (kind of event, its target)."""
    found = []
    for effect in effects:
        kind, _, name = effect.target.partition(":")
        if effect.kind == "credential" and effect.certainty != "unknown":
            if kind == "secret" and name:
                found.append(("secret", name))
            elif effect.target == "google-drive":
                found.append(("drive", "google-drive"))
    return found


def _effect_hosts(effects: list[Effect]) -> set[str]:
    """Hosts named in the targets of effects that fetch."""
    found = set()
    for effect in effects:
        if effect.kind in _WITH_HOST and "://" in effect.target and effect.certainty != "unknown":
            try:
                host = urlsplit(effect.target.removeprefix("pip:")).hostname
            except ValueError:
                continue
            if host:
                found.add(host.lower())
    return found


def _met(host: str, seen: set[str], events: list[Event]) -> bool:
    if host in seen:
        return True
    # An install through this machine's own index reaches the packages without the host the plan names.
    index = host in ("pypi.org", "files.pythonhosted.org")
    return index and any(e.kind == "program" and e.target.endswith(("/pip", "/pip3", "/uv")) for e in events)


def _expected(event: Event, sources: Mapping[int, str]) -> bool:
    name = event.target.rpartition("/")[2]
    said = re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", sources.get(event.cell, ""))
    return name in _EVERYDAY_PROGRAMS or said is not None


def _plans_programs(plan: Plan) -> bool:
    kinds = {"process", "install", "clone", "download", "foreign_code", "serve", "destructive"}
    return any(effect.kind in kinds for effect in plan.effects)
