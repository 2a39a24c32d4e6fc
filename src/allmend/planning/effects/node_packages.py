"""Packages of Node: npm, yarn, npx."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from allmend.planning.evaluation.values import has_hole

if TYPE_CHECKING:
    from allmend.planning.effects.line import Line
    from allmend.planning.session import Session


def npm(session: Session, line: Line) -> None:
    """`npm install -g NAME`, `yarn add`, `pnpm add`."""
    places = line.positional(("--prefix", "--registry", "-C", "--dir"))
    if not places or line.words[places[0]] not in ("install", "i", "add", "global", "ci"):
        if places and line.words[places[0]] in ("run", "start", "exec"):
            from allmend.planning.effects import programs

            programs.here(session, line, "package.json")
        return
    names = [at for at in places[1:] if line.words[at] != "add"]
    for at in names:
        _npm_one(line, at)
    if not names and session.world.clone_of(".", line.cwd) is not None:
        from allmend.planning.effects import programs

        programs.here(session, line, "package.json")


def _npm_one(line: Line, at: int) -> None:
    word = line.words[at]
    match = re.match(r"(@?[\w./-]+?)(?:@(.+))?$", word)
    if match and not has_hole(word):
        pinned = bool(match[2] and re.fullmatch(r"\d+\.\d+\.\d+[\w.-]*", match[2]))
        line.add("install", at, match[1], prefix="npm:", pinned=pinned, source="index")
    else:
        line.add("install", at)


def npx(session: Session, line: Line) -> None:
    """`npx TOOL` installs and starts it."""
    places = line.positional(("-p", "--package"))
    if not places:
        return
    at = places[0]
    name = line.words[at].partition("@")[0]
    _npm_one(line, at)
    if name in ("localtunnel", "lt", "ngrok", "cloudflared", "untun"):
        from allmend.planning.effects import serving

        serving.named_tunnel(session, line, name)
