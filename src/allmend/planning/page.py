"""The order and the words of a plan's page, shared by the terminal and HTML: most important first."""

from __future__ import annotations

from dataclasses import dataclass, field

from allmend.nouns.plan import Effect, Needs, Plan

SECTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Code it fetches and runs", ("foreign_code", "clone", "dynamic_code", "unpickle")),
    ("Accounts, secrets and your files", ("credential", "personal_files")),
    ("What it sends out", ("send",)),
    ("Ports and public links", ("serve",)),
    ("What it deletes or overwrites", ("destructive",)),
    ("What it installs", ("install",)),
    ("Weights and data", ("model", "dataset", "download")),
    ("Programs started from Python", ("process",)),
    ("Hidden cells", ("hidden_code",)),
)


@dataclass(slots=True)
class Row:
    """One line: a target with its cells, a mark, and a note."""

    kind: str
    target: str
    cells: list[int]
    line: int
    notes: list[str] = field(default_factory=list)
    unknown: bool = False
    reason: str | None = None


def rows(plan: Plan, kinds: tuple[str, ...]) -> list[Row]:
    """The effects of `kinds`, one row a target, in the order of the kinds and of the notebook."""
    found: dict[tuple[str, str], Row] = {}
    for kind in kinds:
        for effect in plan.effects:
            if effect.kind != kind:
                continue
            key = (kind, effect.target)
            row = found.get(key)
            if row is None:
                found[key] = Row(kind, effect.target, [effect.cell], effect.line, notes_of(effect),
                                 effect.certainty == "unknown", effect.reason)  # fmt: skip
            elif effect.cell not in row.cells:
                row.cells.append(effect.cell)
    return list(found.values())


def notes_of(effect: Effect) -> list[str]:
    """The detail of an effect in words."""
    detail = effect.detail
    words: list[str] = []
    if effect.kind in ("install", "clone", "foreign_code"):
        pinned = detail.get("pinned")
        words.append("pinned" if pinned else "not pinned" if pinned is False else "pinned in one branch only")
        if "pinned" not in detail:
            words.clear()
    if effect.kind == "personal_files" and detail.get("mode"):
        words.append({"read": "reads", "write": "writes"}.get(str(detail["mode"]), ""))
    if detail.get("public") == "yes":
        words.append("public")
    if detail.get("revision"):
        words.append(f"revision {detail['revision']}")
    if detail.get("size"):
        words.append(size(int(detail["size"])))
    if detail.get("via"):
        words.append(f"in {detail['via']}")
    if detail.get("file"):
        words.append(str(detail["file"]))
    if detail.get("encoded"):
        words.append("encoded")
    return [word for word in words if word]


def where(cells: list[int]) -> str:
    """Cells in words: `cell 3`, `cells 3, 5`, `metadata`."""
    names = ["metadata" if cell < 0 else str(cell) for cell in cells[:4]]
    more = f" +{len(cells) - 4}" if len(cells) > 4 else ""
    if names == ["metadata"]:
        return "metadata"
    return ("cell " if len(cells) == 1 else "cells ") + ", ".join(names) + more


def size(number: int) -> str:
    """Bytes in words."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return ""


def answer(needs: Needs) -> str:
    """Whether it fits this machine, in words."""
    if needs.fits is None:
        return "whether it fits is not known"
    return "it fits this machine" if needs.fits else "it does not fit this machine"


def amounts(needs: Needs) -> list[str]:
    """What it needs, one piece a kind: accelerator, memory, disk, time."""
    parts: list[str] = []
    if needs.accelerator:
        parts.append(f"{needs.accelerator.upper()}{f' ({needs.gpu_type})' if needs.gpu_type else ''}")
    if needs.memory_bytes:
        parts.append(f"about {size(needs.memory_bytes)} of memory for the largest model")
    if needs.disk_bytes:
        least = "at least" if needs.unknown_sizes else "about"
        parts.append(f"{least} {size(needs.disk_bytes)} on disk")
    if needs.fetch_seconds:
        parts.append(f"{_time(needs.fetch_seconds)} of fetching")
    return parts


def _time(seconds: int) -> str:
    if seconds < 90:
        return "about a minute" if seconds > 30 else "less than a minute"
    return f"about {round(seconds / 60)} minutes" if seconds < 5400 else f"about {seconds / 3600:.1f} hours"


def headline(plan: Plan) -> str:
    """One sentence: what it is."""
    subject = plan.subject
    if subject.kind in ("model", "adapter"):
        return f"{subject.path}: {'an adapter' if subject.kind == 'adapter' else 'a model'}"
    cells = f"{subject.cells} cell{'s' if subject.cells != 1 else ''}"
    return f"{subject.path}: a {subject.kind} of {cells} in {subject.language}"


def pins(plan: Plan) -> str | None:
    """How many of its installs, clones and foreign code are pinned."""
    counted = [e for e in plan.effects if e.kind in ("install", "clone", "foreign_code") and "pinned" in e.detail]
    if not counted:
        return None
    pinned = sum(1 for effect in counted if effect.detail["pinned"])
    return f"{pinned} of {len(counted)} installs, clones and foreign code are pinned."
