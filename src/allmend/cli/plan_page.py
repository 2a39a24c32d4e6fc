"""The page of a plan in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from allmend.planning.page import SECTIONS, amounts, answer, headline, pins, rows, where

if TYPE_CHECKING:
    from rich.console import Console

    from allmend.nouns.plan import Plan

MOST = 12
"""Rows of a section; the rest is counted, and `--json` has them all."""
_COLOURS = {"danger": "bold red", "warning": "yellow", "note": "cyan"}
_MARKS = {"install": "+", "clone": "⎘", "foreign_code": "▶"}


def _clean(text: str) -> str:
    """Control characters would let a notebook write over the page."""
    return "".join(sign if sign.isprintable() else "�" for sign in text)


def show(plan: Plan, console: Console) -> None:
    """Print the page, most important first."""
    console.print(Text(_clean(headline(plan)), style="bold"))
    _findings(plan, console)
    for title, kinds in SECTIONS:
        _section(plan, console, title, kinds)
    _hosts(plan, console)
    _needs(plan, console)
    _parameters(plan, console)
    _unread(plan, console)
    words = pins(plan)
    if words:
        console.print()
        console.print(Text(words, style="dim"))


def _title(console: Console, title: str, note: str = "") -> None:
    console.print()
    text = Text(title, style="bold")
    if note:
        text.append(f"  {note}", style="dim")
    console.print(text)


def _findings(plan: Plan, console: Console) -> None:
    if not plan.findings:
        console.print(
            Text(
                "No findings. That is no promise: read below what it does, and what could not be worked out.",
                style="dim",
            )
        )
        return
    for finding in plan.findings:
        console.print()
        line = Text(f"{finding.severity.upper():8}", style=_COLOURS[finding.severity])
        line.append(_clean(finding.title), style="bold")
        places = [f"{cell}:{number}" for cell, number in finding.lines[:6]]
        line.append(f"  (cell:line {', '.join(places)})" if places else "", style="dim")
        console.print(line)
        console.print(Text("  " + _clean(finding.why)))
        console.print(Text("  → " + _clean(finding.fix), style="green"))


def _section(plan: Plan, console: Console, title: str, kinds: tuple[str, ...]) -> None:
    found = rows(plan, kinds)
    if not found:
        return
    _title(console, title, str(len(found)))
    for row in found[:MOST]:
        line = Text("  ")
        if len(kinds) > 1:
            line.append(f"{row.kind.replace('_', ' '):14} ", style="dim")
        line.append(_clean(row.target), style="magenta" if row.unknown else "")
        notes = ", ".join(row.notes)
        if notes:
            line.append(f"  {_clean(notes)}", style="yellow" if "not pinned" in notes or "public" in notes else "dim")
        line.append(f"  {where(row.cells)}", style="dim")
        if row.unknown and row.reason:
            line.append(f"  unknown: {_clean(row.reason)}", style="magenta")
        console.print(line)
    if len(found) > MOST:
        console.print(Text(f"  and {len(found) - MOST} more (--json lists all)", style="dim"))


def _hosts(plan: Plan, console: Console) -> None:
    if not plan.hosts:
        return
    families: dict[str, list[str]] = {}
    for use in plan.hosts:
        families.setdefault(use.family or "", []).append(use.host)
    _title(console, "Hosts it talks to", str(len(plan.hosts)))
    for family, hosts in sorted(families.items()):
        if family:
            console.print(
                Text(f"  {family:18} {', '.join(hosts[:3])}{f' +{len(hosts) - 3}' if len(hosts) > 3 else ''}")
            )
        else:
            for host in hosts[:MOST]:
                console.print(Text(f"  {'(no known family)':18} {_clean(host)}", style="yellow"))


def _needs(plan: Plan, console: Console) -> None:
    needs = plan.needs
    _title(console, "What it needs", answer(needs))
    parts = amounts(needs)
    if parts:
        console.print(Text("  " + _clean("; ".join(parts))))
    for reason in (*needs.why, *needs.computed_from):
        console.print(Text("  " + _clean(reason), style="dim"))


def _parameters(plan: Plan, console: Console) -> None:
    if not plan.parameters:
        return
    _title(console, "Form parameters", str(len(plan.parameters)))
    for parameter in plan.parameters[:MOST]:
        choices = f" of {len(parameter.choices)}" if parameter.choices else ""
        console.print(
            Text(_clean(f"  {parameter.name:26.26} {parameter.type}{choices} = {str(parameter.default)[:60]}"))
        )
    if len(plan.parameters) > MOST:
        console.print(Text(f"  and {len(plan.parameters) - MOST} more", style="dim"))


def _unread(plan: Plan, console: Console) -> None:
    if not plan.unread:
        return
    _title(console, "Not read", str(len(plan.unread)))
    for item in plan.unread[:MOST]:
        console.print(Text(_clean(f"  {where([item.cell])}: {item.reason}"), style="magenta"))
    if len(plan.unread) > MOST:
        console.print(Text(f"  and {len(plan.unread) - MOST} more", style="dim"))


def show_diff(change: dict[str, Any], console: Console) -> None:
    """Print what changed between two plans."""
    if change["same"]:
        console.print("Nothing changed: the two are the same bytes.")
        return
    nothing = True
    for name, sign, colour in (("added", "+", "red"), ("removed", "-", "green")):
        for row in change[name]:
            nothing = False
            console.print(
                Text(
                    _clean(f"{sign} {row['kind'].replace('_', ' '):14} {row['target']}  cell {row['cell']}"),
                    style=colour,
                )
            )
    for row in change["changed"]:
        nothing = False
        fields = ", ".join(f"{key} {before} → {after}" for key, (before, after) in row["detail"].items())
        console.print(Text(_clean(f"~ {row['kind'].replace('_', ' '):14} {row['target']}  {fields}"), style="yellow"))
    for host in change["hosts_added"]:
        console.print(Text(_clean(f"+ host           {host}"), style="red"))
    for finding in change["findings_added"]:
        console.print(Text(_clean(f"! {finding['severity']}: {finding['title']}"), style="bold red"))
    if nothing:
        console.print("The text changed; what it would do did not.")
