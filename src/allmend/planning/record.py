"""Collecting effects: one for each (kind, target, cell), with where it was read and how sure its target is."""

from __future__ import annotations

import re
from typing import Any

from allmend.nouns.plan import Effect, EffectKind
from allmend.planning.evaluation.holes import Holes
from allmend.planning.evaluation.values import DERIVED, Place, has_hole
from allmend.planning.secrets import redact

_SPACES = re.compile(r"\s+")
_MODES = {"read": 0, "write": 1}
MAXIMUM = 20_000
"""Effects kept of one subject."""


class Record:
    """The effects of one subject, in the making."""

    def __init__(self, holes: Holes) -> None:
        self.holes = holes
        self.rows: dict[tuple[str, str, int], dict[str, Any]] = {}
        self.full = False

    def add(
        self,
        kind: EffectKind,
        target: str,
        *,
        place: Place,
        line: int,
        literal: bool = False,
        prefix: str = "",
        reason: str | None = None,
        detail: dict[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        """Add one effect; returns its row, which later knowledge (a checkout) may still change."""
        if len(self.rows) >= MAXIMUM:
            self.full = True
            return None
        if reason is None and has_hole(target):
            reason = self.holes.reason(target)
        if reason is not None:
            target, certainty = self.holes.shown(target), "unknown"
        else:
            certainty = "exact" if literal and DERIVED not in target else "derived"
            target = prefix + target.replace(DERIVED, "")
        target = redact(_SPACES.sub(" ", target).strip())[:500]
        if not target:
            return None
        key = (kind, target, place.cell)
        row = self.rows.get(key)
        if row is None:
            row = {
                "kind": kind,
                "target": target,
                "cell": place.cell,
                "line": max(1, line + place.above),
                "certainty": certainty,
                "reason": reason,
                "evidence": self.evidence(place, line),
                "detail": dict(detail or {}),
            }
            self.rows[key] = row
            return row
        _merge(row, certainty, detail or {})
        return row

    @staticmethod
    def evidence(place: Place, line: int) -> str:
        """The source line, shortened, with secrets taken out."""
        if 0 < line <= len(place.lines):
            return redact(place.lines[line - 1].strip())[:160]
        return ""

    def effects(self) -> list[Effect]:
        """The effects in their stable order."""
        rows = sorted(self.rows.values(), key=lambda row: (row["cell"], row["line"], row["kind"], row["target"]))
        return [Effect.model_construct(**row) for row in rows]


def _merge(row: dict[str, Any], certainty: str, detail: dict[str, Any]) -> None:
    """A second sighting of the same effect: keep the surer certainty, and nothing where details differ."""
    order = ("exact", "derived", "unknown")
    if order.index(certainty) < order.index(row["certainty"]):
        row["certainty"] = certainty
    known = row["detail"]
    for key, value in detail.items():
        old = known.get(key, value)
        if old == value:
            known.setdefault(key, value)
        elif isinstance(old, list) and isinstance(value, list):
            known[key] = list(dict.fromkeys([*old, *value]))
        elif key == "mode":
            known[key] = max(old, value, key=lambda mode: _MODES.get(mode, 0))
        elif key == "pinned":
            known[key] = None
        elif key == "public":
            known[key] = "yes" if "yes" in (old, value) else old
