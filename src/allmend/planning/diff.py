"""What changed between two plans: effects that came, went or became looser, findings that came or went."""

from __future__ import annotations

from typing import Any

from allmend.nouns.plan import Effect, Plan


def diff(old: Plan, new: Plan) -> dict[str, Any]:
    """The change as plain values. Cells move when one is inserted, so effects are compared by kind and target."""
    before, after = _by_target(old), _by_target(new)
    changed = []
    for key in sorted(before.keys() & after.keys()):
        was, now = before[key].detail, after[key].detail
        fields = {
            name: [was.get(name), now.get(name)]
            for name in sorted(was.keys() | now.keys())
            if was.get(name) != now.get(name) and name != "via"
        }
        if fields:
            changed.append({"kind": key[0], "target": key[1], "cell": after[key].cell, "detail": fields})
    findings_before = {finding.id for finding in old.findings}
    findings_after = {finding.id for finding in new.findings}
    return {
        "schema": "allmend.plan-diff/1",
        "old": old.subject.model_dump(),
        "new": new.subject.model_dump(),
        "same": old.subject.sha256 == new.subject.sha256,
        "added": [_row(after[key]) for key in sorted(after.keys() - before.keys())],
        "removed": [_row(before[key]) for key in sorted(before.keys() - after.keys())],
        "changed": changed,
        "hosts_added": sorted({use.host for use in new.hosts} - {use.host for use in old.hosts}),
        "hosts_removed": sorted({use.host for use in old.hosts} - {use.host for use in new.hosts}),
        "findings_added": [f.model_dump() for f in new.findings if f.id not in findings_before],
        "findings_removed": [f.model_dump() for f in old.findings if f.id not in findings_after],
    }


def _by_target(plan: Plan) -> dict[tuple[str, str], Effect]:
    found: dict[tuple[str, str], Effect] = {}
    for effect in plan.effects:
        found.setdefault((effect.kind, effect.target), effect)
    return found


def _row(effect: Effect) -> dict[str, Any]:
    return {"kind": effect.kind, "target": effect.target, "cell": effect.cell, "line": effect.line}
