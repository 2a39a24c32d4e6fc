"""Repositories: `git clone` and what later pins or moves it."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from allmend.planning.effects.targets import host_of, pinned_name, plain, repository
from allmend.planning.evaluation.values import DERIVED, has_hole
from allmend.planning.world import Clone

if TYPE_CHECKING:
    from allmend.planning.effects.line import Line
    from allmend.planning.session import Session

_VALUED = frozenset(
    [
        "-b",
        "--branch",
        "--depth",
        "-c",
        "--config",
        "-o",
        "--origin",
        "--reference",
        "--filter",
        "-j",
        "--jobs",
        "--template",
        "--separate-git-dir",
        "-u",
        "--upload-pack",
        "--shallow-since",
        "--shallow-exclude",
        "--server-option",
    ]
)


def git(session: Session, line: Line) -> None:
    """One `git` command."""
    words = line.words
    at = 1
    cwd = line.cwd
    while at < len(words) and words[at].startswith("-"):
        if words[at] == "-C" and at + 1 < len(words):
            cwd = session.world.resolve(words[at + 1], cwd)
        at += 2 if words[at] in ("-C", "-c", "--git-dir", "--work-tree") else 1
    if at >= len(words):
        return
    verb = words[at]
    if verb == "lfs" and at + 1 < len(words) and words[at + 1] == "clone":
        at, verb = at + 1, "clone"
    if verb == "clone":
        clone(session, line, at + 1, cwd)
    elif verb in ("checkout", "reset", "switch"):
        _pin(session, line, at + 1, cwd)
    elif verb == "submodule" and at + 1 < len(words) and words[at + 1] == "add":
        clone(session, line, at + 2, cwd)
    elif verb == "submodule" and "update" in words[at + 1 :]:
        session.record.add("clone", "git submodule update", place=session.python.place, line=line.command.line,
                           reason="the repositories are named in a file of the clone", detail={"pinned": None})  # fmt: skip
    elif verb == "push":
        origin = session.world.clone_of(".", cwd)
        places = line.positional(start=at + 1)
        if places and re.match(r"https?://", words[places[0]]):
            line.add("send", places[0], host_of(words[places[0]]))
        elif origin is not None and host_of(origin.url):
            line.fixed("send", _service(host_of(origin.url)))
        else:
            line.fixed("send", "git remote")


def _service(host: str) -> str:
    return {"huggingface.co": "huggingface"}.get(host, host)


def clone(session: Session, line: Line, start: int, cwd: str) -> None:
    """The arguments of `git clone` from word `start` on."""
    places = line.positional(_VALUED, start)
    if not places:
        return
    url_at = places[0]
    url = line.words[url_at].strip("\"'")
    folder = line.words[places[1]].strip("\"'") if len(places) > 1 and line.words[places[1]] else None
    branch = line.option("-b", "--branch")
    add(
        session,
        url,
        folder,
        cwd,
        exact=line.exact(url_at),
        branch=branch[1] if branch else None,
        line=line.command.line,
    )


def add(
    session: Session,
    url: str,
    folder: str | None,
    cwd: str,
    *,
    exact: bool,
    branch: str | None = None,
    line: int | None = None,
) -> None:
    """Note a clone: the effect, and the folder that it fills."""
    local = not has_hole(url) and not re.match(r"[a-z+]+://|[\w.-]+@[\w.-]+:", plain(url)) and "/" in url and "." not in (
        plain(url).split("/")[0])  # fmt: skip
    pinned = bool(branch and pinned_name(branch))
    target = repository(url)
    rows = (
        []
        if local and plain(url).startswith(("/", "~"))
        else session.add(
            "clone",
            target,
            literal=exact,
            line=line,
            detail={"pinned": pinned, **({"ref": plain(branch)} if branch and not has_hole(branch) else {})},
        )
    )
    if folder is None or folder == "":
        last = plain(target).rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
        folder = last
    if has_hole(folder) and len(folder) < 6:
        return
    world = session.world
    key = world.key(folder, cwd)
    if folder == ".":
        key = world.key(".", cwd)
    from allmend.planning.effects import directories

    directories.under_drive(session, folder, "write", cwd=cwd)
    world.clones[key] = Clone(plain(target), posixpath.normpath(plain(folder)), rows[0] if rows else None, pinned)


def _pin(session: Session, line: Line, start: int, cwd: str) -> None:
    """`git checkout REF`: a commit or tag pins the clone."""
    places = line.positional(("-b", "-B", "--track"), start)
    found = session.world.clone_of(".", cwd)
    if not places or found is None:
        return
    name = line.words[places[0]]
    if found.row is not None and line.words[1] != "reset" and not has_hole(name) and name not in (".", "--"):
        found.row["detail"]["ref"] = name.removeprefix("tags/")
    if pinned_name(name) or (found.row is not None and re.fullmatch(r"tags/.+", name)):
        found.pinned = True
        if found.row is not None:
            found.row["detail"]["pinned"] = True


def gh(session: Session, line: Line) -> None:
    """`gh repo clone OWNER/NAME`."""
    words = line.words
    if words[1:3] == ["repo", "clone"] and len(words) > 3:
        url = words[3] if "://" in words[3] else f"https://github.com/{words[3]}"
        add(session, url, words[4] if len(words) > 4 and not words[4].startswith("-") else None, line.cwd,
            exact=line.exact(3), line=line.command.line)  # fmt: skip
    elif words[1:3] == ["auth", "login"]:
        line.fixed("credential", "github")


def svn(session: Session, line: Line) -> None:
    """`svn checkout URL`, `svn export URL`."""
    places = line.positional(("-r", "--revision", "--username", "--password"))
    if len(places) > 1 and line.words[places[0]] in ("checkout", "co", "export"):
        at = places[1]
        folder = line.words[places[2]] if len(places) > 2 else None
        add(session, line.words[at], folder, line.cwd, exact=line.exact(at), line=line.command.line)


__all__ = ["DERIVED", "add", "clone", "gh", "git", "svn"]
