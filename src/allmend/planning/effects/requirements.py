"""One requirement of an install: a name, a git or archive URL, a path, a requirements file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from allmend.planning import following
from allmend.planning.effects.targets import commit, host_of, package, plain, repository
from allmend.planning.evaluation.values import DERIVED, HOLE_START, has_hole

if TYPE_CHECKING:
    from allmend.planning.effects.line import Line
    from allmend.planning.session import Session
    from allmend.planning.world import Clone

NAME = re.compile(r"^[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?(?=$|[\s\[=<>!~;@(,])")

_GIT = re.compile(r"(?:git|hg|svn|bzr)\+")

_ARCHIVE = re.compile(r"\.(?:whl|tar\.gz|zip|tgz|tar\.bz2)(?:[#?].*)?$")


def one(session: Session, line: Line, at: int, text: str, *, editable: bool = False) -> None:
    """One requirement."""
    text = text.strip()
    if text[:1] in ("'", '"') or text.count('"') % 2 or text.count("'") % 2:
        text = text.strip("\"'")
    derived = "" if line.exact(at) else DERIVED
    name, sign, url = (
        text.partition(" @ ")
        if " @ " in text
        else text.partition("@")
        if "@git+" in text or "@http" in text
        else (text, "", "")
    )
    if sign and re.match(r"\s*(?:git\+|https?:|file:)", url):
        session.installed.add(package(name))
        text = url.strip()
    if _GIT.match(text) or (text.startswith(("git@", "git://", "ssh://"))):
        _git(session, line, at, text, derived)
        return
    if re.match(r"https?://|ftp://", text):
        digest = bool(re.search(r"#sha256=|#md5=|[&#]sha\d+=", text))
        repo = re.match(r"https?://github\.com/[^/]+/[^/]+/archive/([0-9a-f]{40})", text)
        pinned = digest or repo is not None
        line.add("install", at, derived + text, prefix="pip:", pinned=pinned, source="url")
        line.add("foreign_code", at, derived + text, pinned=pinned)
        return
    if editable or _path(session, line, text):
        _local(session, line, at, text)
        return
    match = NAME.match(text)
    if match is None:
        if text.startswith(HOLE_START) or has_hole(text):
            line.add("install", at, text, pinned=None if has_hole(text) else False, source="index")
        return
    clean = package(match[0])
    if has_hole(match[0]):
        line.add("install", at, text, source="index")
        return
    rest = re.sub(r"^\s*\[[^\]]*\]", "", text[match.end() :]).strip().partition(";")[0]
    pinned = bool(re.match(r"\(?={2,3}\s*[^*,]+\)?$", rest.strip()))
    session.installed.add(clean)
    whole = line.exact(at) or DERIVED not in line.raw[at][: len(match[0]) + 1]
    wanted = {} if has_hole(text) else {"requirements": [text]}
    session.add("install", clean, prefix="pip:", literal=whole and not has_hole(text) and line.exact(at),
                detail={**line.install_detail, "pinned": pinned, "source": "index", **wanted},
                line=line.command.line)  # fmt: skip


def _git(session: Session, line: Line, at: int, text: str, derived: str) -> None:
    bare = text.partition("#")[0]
    after = bare.split("://", 1)[-1]
    slash = after.find("/")
    _, sign, ref = after[slash + 1 :].rpartition("@") if slash >= 0 else ("", "", "")
    pinned = bool(sign) and (commit(ref) or _tag(ref))
    name = repository(after.rpartition("@")[0] if sign else after).rsplit("/", 1)[-1]
    session.installed.add(package(plain(name)))
    egg = re.search(r"[#&]egg=([\w.-]+)", text)
    if egg:
        session.installed.add(package(egg[1]))
    line.add("install", at, derived + text, prefix="pip:", pinned=pinned, source="git")
    line.add("foreign_code", at, derived + text, pinned=pinned)


def _tag(ref: str) -> bool:
    from allmend.planning.effects.targets import pinned_name

    return pinned_name(ref)


def _path(session: Session, line: Line, text: str) -> bool:
    if text.startswith((".", "/", "~", "file:")) or _ARCHIVE.search(text):
        return True
    base = text.partition("[")[0].rstrip("/")
    if text.endswith("/") or ("/" in base and HOLE_START not in base):
        return True
    world = session.world
    return bool(base) and world.key(base, line.cwd) in world.clones and "/" in text


def _local(session: Session, line: Line, at: int, text: str) -> None:
    world = session.world
    path = text.removeprefix("file://").partition("[")[0] if not text.startswith("[") else text
    if has_hole(path):
        line.add("install", at, path, source="path")
        return
    full = world.resolve(path, line.cwd)
    clone = world.clone_of(path, line.cwd)
    origin = world.source_of(path, line.cwd)
    mark = "" if line.exact(at) else DERIVED
    line.add("install", at, mark + full, prefix="pip:", pinned=bool(clone and clone.pinned), source="path",
             **_inside(session, clone, path, line.cwd))  # fmt: skip
    if clone is not None or origin:
        line.add("foreign_code", at, mark + full, pinned=bool(clone and clone.pinned))
        if clone is not None:
            session.installed.add(package(clone.path.rsplit("/", 1)[-1]))


def requirements_file(session: Session, line: Line, at: int, path: str) -> None:
    world = session.world
    path = path.strip("\"'")
    if re.match(r"https?://", path):
        line.add("install", at, path, prefix="pip:-r ", pinned=False, source="requirements")
        line.add("download", at, path, host=host_of(path))
        return
    if has_hole(path):
        line.add("install", at, path, pinned=False, source="requirements")
        return
    full = world.resolve(path, line.cwd)
    mark = "" if line.exact(at) else DERIVED
    written = world.texts.get(world.key(path, line.cwd))
    pinned = bool(written) and _all_pinned(written[0] if written else "")
    clone = world.clone_of(path, line.cwd)
    known = {"written": written[0][:_MOST_TEXT]} if written else _inside(session, clone, path, line.cwd)
    line.add("install", at, mark + full, prefix="pip:-r ", pinned=pinned, source="requirements", **known)
    if clone is not None or world.source_of(path, line.cwd):
        line.add("foreign_code", at, mark + full, pinned=bool(clone and clone.pinned))
        following.requirements(session, path, line.cwd, clone)


_MOST_TEXT = 50_000


def _inside(session: Session, clone: Clone | None, path: str, cwd: str) -> dict[str, str]:
    """Which clone a path lies in, and where in it."""
    if clone is None:
        return {}
    full, name = session.world.key(path, cwd), clone.path.rsplit("/", 1)[-1]
    parts = full.split("/")
    inner = "/".join(parts[parts.index(name) + 1 :]) if name in parts else full
    return {"clone": clone.url, "inside": inner}


def _all_pinned(text: str) -> bool:
    rows = [row.strip() for row in text.splitlines() if row.strip() and not row.strip().startswith("#")]
    return bool(rows) and all("==" in row for row in rows)
