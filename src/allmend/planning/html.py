"""A plan as one HTML file: no scripts, nothing fetched, every word escaped."""

from __future__ import annotations

from html import escape

from allmend.nouns.plan import Plan
from allmend.planning.page import SECTIONS, amounts, answer, headline, pins, rows, where

_STYLE = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.25rem}h2{font-size:1rem;margin:1.6rem 0 .4rem}table{border-collapse:collapse;width:100%}
td{padding:.15rem .6rem .15rem 0;vertical-align:top;border-bottom:1px solid #8883}code{overflow-wrap:anywhere}
.dim{opacity:.65}.danger{border-left:.3rem solid #c22}.warning{border-left:.3rem solid #d90}.note{border-left:.3rem solid #39c}
.finding{padding:.3rem .8rem;margin:.6rem 0}.unknown{color:#a3a}.loose{color:#b60}
"""


def page(plan: Plan) -> str:
    """The page of `plan`."""
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>Plan of {escape(plan.subject.path)}</title><style>{_STYLE}</style>",
        f"<h1>{escape(headline(plan))}</h1><p class=dim>SHA-256 {escape(plan.subject.sha256)}</p>",
    ]
    if not plan.findings:
        parts.append(
            "<p>No findings. That is no promise: read below what it does, and what could not be worked out.</p>"
        )
    for finding in plan.findings:
        places = ", ".join(f"cell {cell} line {line}" for cell, line in finding.lines[:8])
        parts.append(
            f"<div class='finding {finding.severity}'><b>{escape(finding.title)}</b> <span class=dim>{places}</span><br>"
            f"{escape(finding.why)}<br><i>{escape(finding.fix)}</i></div>"
        )
    for title, kinds in SECTIONS:
        parts.append(_section(plan, title, kinds))
    parts.append(_rest(plan))
    words = pins(plan)
    if words:
        parts.append(f"<p class=dim>{escape(words)}</p>")
    return "\n".join(part for part in parts if part) + "</html>\n"


def _section(plan: Plan, title: str, kinds: tuple[str, ...]) -> str:
    found = rows(plan, kinds)
    if not found:
        return ""
    lines = [f"<h2>{escape(title)}</h2><table>"]
    for row in found:
        notes = escape(", ".join(row.notes))
        loose = " class=loose" if "not pinned" in notes or "public" in notes else " class=dim"
        reason = f"<br><span class=unknown>unknown: {escape(row.reason or '')}</span>" if row.unknown else ""
        lines.append(
            f"<tr><td class=dim>{escape(row.kind.replace('_', ' '))}<td><code>{escape(row.target)}</code>{reason}"
            f"<td{loose}>{notes}<td class=dim>{escape(where(row.cells))}"
        )
    return "\n".join(lines) + "</table>"


def _rest(plan: Plan) -> str:
    parts: list[str] = []
    if plan.hosts:
        parts.append("<h2>Hosts it talks to</h2><table>")
        parts.extend(
            f"<tr><td><code>{escape(use.host)}</code><td class=dim>{escape(use.family or 'no known family')}"
            for use in plan.hosts
        )
        parts.append("</table>")
    needs = plan.needs
    known = "; ".join(amounts(needs))
    parts.append(
        f"<h2>What it needs</h2><p>{escape(answer(needs).capitalize())}{': ' if known else ''}{escape(known)}</p>"
    )
    parts.extend(f"<p class=dim>{escape(reason)}</p>" for reason in (*needs.why, *needs.computed_from))
    if plan.parameters:
        parts.append("<h2>Form parameters</h2><table>")
        parts.extend(
            f"<tr><td><code>{escape(p.name)}</code><td>{escape(p.type)}<td>{escape(str(p.default)[:200])}"
            f"<td class=dim>{escape(p.description or '')}"
            for p in plan.parameters
        )
        parts.append("</table>")
    if plan.unread:
        parts.append("<h2>Not read</h2><table>")
        parts.extend(
            f"<tr><td class=dim>{escape(where([u.cell]))}<td class=unknown>{escape(u.reason)}" for u in plan.unread
        )
        parts.append("</table>")
    return "\n".join(parts)


__all__ = ["page"]
