"""Packages: pip, uv, conda, apt, npm and their relatives, in every spelling."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from allmend.planning.effects.targets import commit, host_of, package, plain, repository
from allmend.planning.values import DERIVED, HOLE_START, has_hole

if TYPE_CHECKING:
    from allmend.planning.effects.line import Line
    from allmend.planning.session import Session
    from allmend.planning.world import Clone

PIP_VALUED = frozenset(
    [
        "-r",
        "--requirement",
        "-c",
        "--constraint",
        "-e",
        "--editable",
        "-f",
        "--find-links",
        "-i",
        "--index-url",
        "--extra-index-url",
        "-t",
        "--target",
        "--prefix",
        "--root",
        "--platform",
        "--python-version",
        "--trusted-host",
        "--timeout",
        "--default-timeout",
        "--proxy",
        "--src",
        "--upgrade-strategy",
        "--progress-bar",
        "--no-binary",
        "--only-binary",
        "--config-settings",
        "-C",
        "--global-option",
        "--install-option",
        "--cache-dir",
        "--log",
        "--python",
        "--torch-backend",
        "-p",
        "--root-user-action",
        "--report",
        "--exclude-newer",
        "--resolution",
        "--index-strategy",
        "--index",
        "--default-index",
        "--prerelease",
        "--extra",
        "--group",
        "--implementation",
        "--abi",
        "--use-feature",
        "--use-deprecated",
        "--retries",
        "--exists-action",
        "--cert",
        "--client-cert",
        "--build-option",
        "-P",
        "--upgrade-package",
        "--reinstall-package",
        "--no-build-isolation-package",
        "--overrides",
        "--override",
        "--link-mode",
        "--refresh-package",
        "--config-setting",
        "--dry-run-never",
        "--allow-insecure-host",
        "--with-requirements",
        "--keyring-provider",
    ]
)
_NAME = re.compile(r"^[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?(?=$|[\s\[=<>!~;@(,])")
_GIT = re.compile(r"(?:git|hg|svn|bzr)\+")
_ARCHIVE = re.compile(r"\.(?:whl|tar\.gz|zip|tgz|tar\.bz2)(?:[#?].*)?$")


def pip(session: Session, line: Line) -> None:
    """`pip install ..`, `pip uninstall ..`."""
    places = line.positional(PIP_VALUED)
    if not places:
        return
    verb = line.words[places[0]]
    if verb == "uninstall":
        _uninstall(line, places[0] + 1)
    elif verb in ("install", "download", "wheel"):
        requirements(session, line, places[0] + 1)
    elif verb == "tools":
        return


def _uninstall(line: Line, start: int) -> None:
    for at in line.positional(("-r", "--requirement"), start):
        word = line.words[at]
        if has_hole(word):
            line.add("destructive", at)
        elif _NAME.match(word):
            line.add("destructive", at, f"uninstall:pip:{package(_NAME.match(word)[0])}")  # type: ignore[index]


def requirements(session: Session, line: Line, start: int) -> None:
    """The requirements of `pip install` from word `start` on."""
    words = line.words
    at = start
    options = _options(words, start)
    if options:
        line.install_detail = {"options": options}
    while at < len(words):
        word = words[at]
        head, sign, tail = word.partition("=")
        if word in ("-r", "--requirement") and at + 1 < len(words):
            _file(session, line, at + 1, words[at + 1])
            at += 2
        elif head == "--requirement" and sign:
            _file(session, line, at, tail)
            at += 1
        elif word.startswith("-r") and len(word) > 2 and not word.startswith("--"):
            _file(session, line, at, word[2:])
            at += 1
        elif word in ("-e", "--editable") and at + 1 < len(words):
            one(session, line, at + 1, words[at + 1], editable=True)
            at += 2
        elif head == "--editable" and sign:
            one(session, line, at, tail, editable=True)
            at += 1
        elif word.startswith("-"):
            at += 2 if word in PIP_VALUED else 1
        else:
            if word and not word.startswith("#"):
                at = _one_or_joined(session, line, at)
            elif word.startswith("#"):
                return
            at += 1


_SOURCES = {
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--default-index": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "--index": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
    "-c": "--constraint",
    "--constraint": "--constraint",
}
_SWITCHES = ("--pre", "--no-deps")


def _options(words: list[str], start: int) -> list[str]:
    """Where a command's packages come from and how they are chosen, as `--option value`; what cannot be read is left
    out."""
    found = []
    for at in range(start, len(words)):
        word = words[at]
        head, sign, value = word.partition("=")
        if word in _SWITCHES:
            found.append(word)
        elif word in _SOURCES and at + 1 < len(words):
            found.append(f"{_SOURCES[word]} {words[at + 1]}")
        elif sign and head in _SOURCES:
            found.append(f"{_SOURCES[head]} {value}")
    return [option for option in found if not has_hole(option)]


def _one_or_joined(session: Session, line: Line, at: int) -> int:
    """`name @ URL` may be three words; `name == 1` too."""
    words = line.words
    if at + 2 < len(words) and words[at + 1] in ("@", "==", ">=", "<=", "<", ">", "~="):
        one(session, line, at, f"{words[at]} {words[at + 1]} {words[at + 2]}")
        return at + 2
    one(session, line, at, words[at])
    return at


def one(session: Session, line: Line, at: int, text: str, *, editable: bool = False) -> None:
    """One requirement."""
    text = text.strip().strip("\"'")
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
    match = _NAME.match(text)
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


def _file(session: Session, line: Line, at: int, path: str) -> None:
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


def uv(session: Session, line: Line) -> None:
    """`uv pip install`, `uv add`, `uv run`, `uv tool install`."""
    words = line.words
    places = line.positional(PIP_VALUED)
    if not places:
        return
    verb = words[places[0]]
    if verb == "pip":
        pip(session, _from(session, line, places[0]))
    elif verb == "add":
        requirements(session, line, places[0] + 1)
    elif verb == "tool" and len(places) > 1 and words[places[1]] in ("install", "run"):
        for at in line.positional(PIP_VALUED, places[1] + 1)[:1]:
            one(session, line, at, words[at])
    elif verb == "run":
        from allmend.planning.effects import running

        given = line.option("--with")
        if given:
            one(session, line, given[0], given[1])
        rest = line.positional((*PIP_VALUED, "--with", "--python"), places[0] + 1)
        if rest:
            running.again(session, line, rest[0])


def _from(session: Session, line: Line, start: int) -> Line:
    from allmend.planning.effects.line import Line as Words

    return Words(session, line.command.tail(start), line.shell)


def uvx(session: Session, line: Line) -> None:
    """`uvx TOOL`."""
    given = line.option("--from")
    for at in [given[0]] if given else line.positional(PIP_VALUED)[:1]:
        one(session, line, at, given[1] if given else line.words[at])


def pipx(session: Session, line: Line) -> None:
    """`pipx install TOOL`."""
    places = line.positional(PIP_VALUED)
    if places and line.words[places[0]] in ("install", "run") and len(places) > 1:
        one(session, line, places[1], line.words[places[1]])


def easy(session: Session, line: Line) -> None:
    """`easy_install NAME`."""
    for at in line.positional():
        one(session, line, at, line.words[at])


def poetry(session: Session, line: Line) -> None:
    """`poetry add`, `poetry run`."""
    places = line.positional()
    if places and line.words[places[0]] == "add":
        for at in places[1:]:
            one(session, line, at, line.words[at])
    elif places and line.words[places[0]] == "run" and len(places) > 1:
        from allmend.planning.effects import running

        running.again(session, line, places[1])


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
            from allmend.planning.effects import running

            running.again(session, line, rest[0])
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


def npm(session: Session, line: Line) -> None:
    """`npm install -g NAME`, `yarn add`, `pnpm add`."""
    places = line.positional(("--prefix", "--registry", "-C", "--dir"))
    if not places or line.words[places[0]] not in ("install", "i", "add", "global", "ci"):
        if places and line.words[places[0]] in ("run", "start", "exec"):
            from allmend.planning.effects import running

            running.here(session, line, "package.json")
        return
    names = [at for at in places[1:] if line.words[at] != "add"]
    for at in names:
        _npm_one(line, at)
    if not names and session.world.clone_of(".", line.cwd) is not None:
        from allmend.planning.effects import running

        running.here(session, line, "package.json")


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


__all__ = [
    "apt",
    "conda",
    "dpkg",
    "easy",
    "npm",
    "npx",
    "one",
    "pip",
    "pipx",
    "poetry",
    "repository",
    "requirements",
    "uv",
    "uvx",
]
