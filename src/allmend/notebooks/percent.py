"""Percent scripts: a `.py` whose cells are marked by `# %%` comments. A script without marks is one cell."""

from __future__ import annotations

import re

from allmend.nouns.notebook import Cell

_MARK = re.compile(r"^#\s*%%(?P<title>.*)$")
_KIND = re.compile(r"\[(?P<kind>markdown|md|raw)\]", re.IGNORECASE)
_COMMENTED_MAGIC = re.compile(r"^(\s*)#\s?(?=(?:!|%{1,2})[\w{$./])")


def percent_cells(text: str) -> list[Cell]:
    """The cells of `text`. In a file that Jupytext wrote, commented magics (`# !pip ..`) count as code."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "�")
    text = re.sub("[\U000f0000-\U0010ffff]", "�", text)
    lines = text.split("\n")
    header = lines[:40]
    jupytext = any(line.startswith("# jupyter:") or "jupytext" in line for line in header)
    cells: list[tuple[str, list[str]]] = [("code", [])]
    for line in lines:
        mark = _MARK.match(line)
        if mark:
            kind = _KIND.search(mark["title"])
            cells.append((kind["kind"].lower() if kind else "code", []))
        else:
            cells[-1][1].append(line)
    if not any(line.strip() for line in cells[0][1]) and len(cells) > 1:
        cells = cells[1:]
    return [_cell(kind, body, jupytext) for kind, body in cells]


def _cell(kind: str, body: list[str], jupytext: bool) -> Cell:
    if kind in ("markdown", "md"):
        return Cell(type="markdown", source="\n".join(line.removeprefix("#").lstrip() for line in body))
    if kind == "raw":
        return Cell(type="raw", source="\n".join(body))
    if jupytext:
        body = [_COMMENTED_MAGIC.sub(r"\1", line) for line in body]
    while len(body) > 1 and not body[-1].strip():
        body = body[:-1]
    return Cell(type="code", source="\n".join(body))
