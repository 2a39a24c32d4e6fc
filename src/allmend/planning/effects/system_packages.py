"""Packages of the system: conda, apt, dpkg."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from allmend.planning.evaluation.values import DERIVED, has_hole

if TYPE_CHECKING:
    from allmend.planning.effects.line import Line
    from allmend.planning.session import Session

_CONDA_VALUED = ("-c", "--channel", "-n", "--name", "-p", "--prefix", "-f", "--file", "--revision", "--solver", "-r")


def conda(session: Session, line: Line) -> None:
    """`conda install`, `conda create`, `conda env create`, `conda run`."""
    places = line.positional(_CONDA_VALUED)
    if not places:
        return
    verb = line.words[places[0]]
    start = places[0] + 1
    if verb == "env" and len(places) > 1:
        given = line.option("-f", "--file")
        if given and line.words[places[1]] in ("create", "update"):
            path = session.world.resolve(given[1], line.cwd)
            line.add("install", given[0], path, prefix="conda:-f ", pinned=False, source="requirements")
        return
    if verb == "run":
        rest = line.positional(_CONDA_VALUED, start)
        if rest:
            from allmend.planning.effects import scripts

            scripts.again(session, line, rest[0])
        return
    if verb not in ("install", "create", "update", "add", "upgrade"):
        if verb in ("remove", "uninstall"):
            for at in line.positional(_CONDA_VALUED, start):
                line.add("destructive", at, f"uninstall:conda:{line.words[at].lower()}")
        return
    given = line.option("--file")
    if given:
        line.add("install", given[0], session.world.resolve(given[1], line.cwd), prefix="conda:-f ", pinned=False,
                 source="requirements")  # fmt: skip
    for at in line.positional(_CONDA_VALUED, start):
        word = line.words[at].strip("\"'").rpartition("::")[2]
        if verb == "update" and word in ("conda", "--all"):
            continue
        match = re.match(r"([A-Za-z0-9_.-]+)\s*(={1,2}[^*<>]+)?", word)
        if match and match[1]:
            line.add("install", at, match[1].lower() + (DERIVED if not line.exact(at) else ""), prefix="conda:",
                     pinned=bool(match[2]), source="index")  # fmt: skip


def apt(session: Session, line: Line) -> None:
    """`apt-get install`, `apt remove`."""
    valued = ("-o", "-t", "--option", "--target-release", "-c")
    places = line.positional(valued)
    if not places:
        return
    verb = line.words[places[0]]
    if verb in ("install", "build-dep", "reinstall"):
        for at in line.positional(valued, places[0] + 1):
            word = line.words[at].strip("\"'")
            if word.startswith(("./", "/")) or word.endswith(".deb"):
                full = session.world.resolve(word, line.cwd)
                line.add("install", at, full, prefix="apt:", pinned=False, source="path")
                if session.world.source_of(word, line.cwd):
                    line.add("foreign_code", at, full, pinned=False)
                continue
            name, sign, version = word.partition("=")
            if has_hole(name):
                line.add("install", at, word, source="index")
            elif re.fullmatch(r"[A-Za-z0-9][\w.+:*-]*", name):
                line.add("install", at, (DERIVED if not line.exact(at) else "") + name.lower(), prefix="apt:",
                         pinned=bool(sign), source="index", **({"version": version} if sign else {}))  # fmt: skip
    elif verb in ("remove", "purge", "autoremove"):
        for at in line.positional(valued, places[0] + 1):
            line.add("destructive", at, f"uninstall:apt:{line.words[at].lower()}")


def dpkg(session: Session, line: Line) -> None:
    """`dpkg -i FILE` writes over system folders."""
    if not line.flag("-i", "--install") and line.name == "dpkg":
        return
    for at in line.positional():
        word = line.words[at]
        if has_hole(word):
            line.add("destructive", at)
            continue
        full = session.world.resolve(word, line.cwd)
        line.add("destructive", at, full)
        if session.world.source_of(word, line.cwd):
            line.add("foreign_code", at, full, pinned=False)
