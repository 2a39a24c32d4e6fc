"""Files in the shell: what is deleted, copied, unpacked, edited; what lies under the Drive."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from allmend.planning.effects import directories
from allmend.planning.evaluation.values import has_hole

if TYPE_CHECKING:
    from allmend.planning.effects.line import Line
    from allmend.planning.session import Session

_HANDLED = frozenset({"cp", "mv", "mkdir", "rm", "ln", "tee", "touch", "sed", "cat", "tar", "unzip"})


def redirections(session: Session, line: Line) -> None:
    """Files that output is sent to; text given to them is remembered."""
    for path in line.command.writes:
        clean = path.replace("\U000f0002", "").strip("\"'")
        if not clean or clean.startswith(("/dev/", "&")) or clean.isdigit():
            continue
        directories.written(session, clean, cwd=line.cwd)
        if re.search(r"(?:^|/)\.kaggle/kaggle\.json$", clean):
            line.fixed("credential", "kaggle")
        if has_hole(clean):
            continue
        key = session.world.key(clean, line.cwd)
        name = line.name
        if name == "cat" and line.command.stdin is not None and len(line.words) == 1:
            session.world.texts[key] = (line.command.stdin, session.python.place.cell)
        elif name in ("echo", "printf"):
            before = session.world.texts.get(key)
            text = (before[0] if before else "") + " ".join(w for w in line.words[1:] if w not in ("-e", "-n")) + "\n"
            if len(text) < 100_000:
                session.world.texts[key] = (text, session.python.place.cell)
        elif name in ("curl", "wget"):
            url = next((w for w in line.words[1:] if "://" in w), None)
            if url:
                session.world.fetched[key] = url


def drive_words(session: Session, line: Line) -> None:
    """Words under the mounted Drive that no family of programs spoke for."""
    if line.name in _HANDLED:
        return
    output = False
    for at, word in enumerate(line.words[1:], start=1):
        head, sign, tail = word.partition("=")
        text = tail if sign and head.startswith("-") else word
        text = text.strip("\"'")
        name = (head if sign else line.words[at - 1]).lower()
        if (
            "/" in text
            and session.world.drive(text, line.cwd)
            and not text.startswith("-")
            and (not line.cwd or text.startswith(("/", "drive", "gdrive")))
        ):
            output = bool(re.search(r"out|save|dest|log|dir-prefix|^-[odPO]$|results|checkpoint-dir|^-d$", name)) or (
                line.name in ("zip", "rsync", "wget", "curl", "aria2c", "gdown") and name.startswith("-")
            )
            directories.under_drive(session, text, "write" if output else "read", literal=line.exact(at), cwd=line.cwd)


def _places(line: Line) -> list[int]:
    return line.positional(("-t", "--target-directory", "--backup", "-S"))


def rm(session: Session, line: Line) -> None:
    """`rm -r PATH`."""
    recursive = any(re.fullmatch(r"-[a-zA-Z]*[rR][a-zA-Z]*", w) or w == "--recursive" for w in line.words[1:])
    for at in _places(line):
        word = line.words[at]
        if not recursive:
            if session.world.drive(word, line.cwd) and not has_hole(word):
                directories.under_drive(session, word, "write", literal=line.exact(at), cwd=line.cwd)
            continue
        if has_hole(word):
            if session.world.clone_of(word, line.cwd) is None:
                line.add("destructive", at)
            continue
        full = session.world.resolve(word, line.cwd)
        key = session.world.key(word, line.cwd)
        if session.world.drive(full, ""):
            directories.under_drive(session, full, "write", literal=line.exact(at), cwd="")
        session.removals.append((key, full, session.python.place, line.command.line, line.exact(at)))


def _copies(session: Session, line: Line, moving: bool) -> None:
    places = _places(line)
    given = line.option("-t", "--target-directory")
    target = given[1] if given else line.words[places[-1]] if len(places) > 1 else None
    sources = places if given else places[:-1]
    world = session.world
    for at in sources:
        word = line.words[at]
        if not has_hole(word):
            directories.under_drive(session, word, "write" if moving else "read", literal=line.exact(at), cwd=line.cwd)
    if target is None:
        return
    at = given[0] if given else places[-1]
    if re.search(r"(?:~|/root|\$HOME)/\.kaggle(?:/|$)", target) or any("kaggle.json" in line.words[n] for n in sources):
        line.fixed("credential", "kaggle")
    if not has_hole(target):
        directories.written(session, target, cwd=line.cwd, literal=line.exact(at))
    for source in sources:
        word = line.words[source].rstrip("/")
        into = posixpath.join(target, posixpath.basename(word))
        key, ends = world.key(word, line.cwd), (world.key(target, line.cwd), world.key(into, line.cwd))
        for end in ends:
            if key in world.fetched:
                world.fetched[end] = world.fetched[key]
            if key in world.texts:
                world.texts[end] = world.texts[key]
        clone = world.clones.get(world.key(word, line.cwd))
        if clone is not None:
            world.clones[world.key(target, line.cwd)] = clone
        elif (inside := world.clone_of(word, line.cwd)) is not None and "*" not in word:
            world.fetched.setdefault(world.key(target, line.cwd), inside.url)


def cp(session: Session, line: Line) -> None:
    """`cp SOURCE.. TARGET`."""
    _copies(session, line, False)


def mv(session: Session, line: Line) -> None:
    """`mv SOURCE.. TARGET`."""
    _copies(session, line, True)


def mkdir(session: Session, line: Line) -> None:
    """`mkdir DIR`, `touch FILE`."""
    for at in line.positional(("-m", "--mode", "-d", "-t", "-r")):
        word = line.words[at]
        if has_hole(word):
            continue
        if not directories.under_drive(session, word, "write", literal=line.exact(at), cwd=line.cwd):
            session.world.make(word, line.cwd)


def ln(session: Session, line: Line) -> None:
    """`ln -s TARGET LINK`."""
    places = _places(line)
    if not places:
        return
    source = line.words[places[0]]
    link = line.words[places[1]] if len(places) > 1 else posixpath.basename(source)
    drive = session.world.drive(source, line.cwd)
    key = session.world.key(link, line.cwd)
    if link.endswith("/") or key in session.world.clones or (key and key in session.world.made):
        link = posixpath.join(link, posixpath.basename(source.rstrip("/")))  # Into a folder that is there.
    full = session.world.resolve(link, line.cwd)
    if drive:
        directories.under_drive(session, source, "read", literal=line.exact(places[0]), cwd=line.cwd)
        session.world.links[full] = drive
    elif directories.SYSTEM.search(full) and line.flag("-sf", "-fs", "-snf", "-sfn", "-f", "--force"):
        directories.written(session, link, cwd=line.cwd, literal=True)
    else:
        session.world.make(link, line.cwd)
        clone = session.world.clone_of(source, line.cwd)
        if clone is not None:
            session.world.clones.setdefault(session.world.key(link, line.cwd), clone)


def tee(session: Session, line: Line) -> None:
    """`.. | tee FILE`."""
    for at in line.positional():
        directories.written(session, line.words[at], cwd=line.cwd, literal=line.exact(at))


def sed(session: Session, line: Line) -> None:
    """`sed -i` on files outside the working folder."""
    if not any(re.match(r"-[a-zA-Z]*i", w) or w.startswith("--in-place") for w in line.words[1:]):
        return
    scripted = line.flag("-e", "-f", "--expression", "--file")
    places = line.positional(("-e", "-f", "--expression", "--file"))
    for at in places if scripted else places[1:]:
        word = line.words[at]
        if has_hole(word) and not re.search(r"(?:site|dist)-packages", word):
            continue
        full = session.world.resolve(word, line.cwd)
        if directories.SYSTEM.search(full) and session.world.clone_of(full, "") is None:
            line.add("destructive", at, full)
        else:
            directories.under_drive(session, word, "write", literal=line.exact(at), cwd=line.cwd)


patch = sed


def cat(session: Session, line: Line) -> None:
    """Reading files: only those under the Drive are of interest."""
    for at in line.positional(("-n", "-c", "-I")):
        if "/" in line.words[at]:
            directories.under_drive(session, line.words[at], "read", literal=line.exact(at), cwd=line.cwd)


def _unpacked(session: Session, line: Line, archive: str, folder: str | None) -> None:
    world = session.world
    if "/" in archive:
        directories.under_drive(session, archive, "read", cwd=line.cwd)
    origin = world.source_of(archive, line.cwd)
    stem = re.sub(r"\.(?:zip|tar|tgz|tar\.\w+|gz|7z|rar|tbz2?|txz)$", "", posixpath.basename(archive))
    places = [posixpath.join(folder, stem) if folder else stem]
    if not folder:
        directories.under_drive(session, line.cwd or ".", "write", cwd="")
    if folder:
        full = world.resolve(folder, line.cwd)
        if not directories.under_drive(session, folder, "write", cwd=line.cwd):
            if (
                directories.SYSTEM.search(full)
                and not re.match(r"^/(?:root|home/\w+)/(?!\.)", full)
                and not re.match(r"^/opt/\w", full)
            ):
                session.add("destructive", full, literal=False)
            places.append(folder)
    for place in places:
        world.make(place, line.cwd)
        if origin and not has_hole(place) and world.key(place, line.cwd):
            world.fetched.setdefault(world.key(place, line.cwd), origin)
    if origin and folder is None:
        session.facts["loose"] = origin


def tar(session: Session, line: Line) -> None:
    """`tar x..`."""
    words = line.words
    if len(words) < 2:
        return
    # The first word may be a bundle without a dash; later ones have it.
    bundle = "".join(
        w.lstrip("-") for n, w in enumerate(words[1:]) if not w.startswith("--") and (n == 0 or w[:1] == "-")
    )
    extracting = "x" in bundle or line.flag("--extract", "-x")
    given = line.short("C", "--directory")
    if not extracting:
        if "c" in bundle:
            for at in range(2, len(words)):
                directories.under_drive(
                    session, words[at], "write" if at == 2 else "read", literal=line.exact(at), cwd=line.cwd
                )
        return
    archive = line.short("f", "--file")
    if archive is None:
        places = [n for n in range(2, len(words)) if not words[n].startswith("-")]
        if not places:
            archive = None
        else:
            archive = (places[0], words[places[0]])
    if archive is None and line.command.before is None:
        return
    _unpacked(session, line, archive[1] if archive else "-", given[1] if given else None)


def unzip(session: Session, line: Line) -> None:
    """`unzip ARCHIVE -d DIR`."""
    places = line.positional(("-d", "-x", "-P"))
    given = line.option("-d")
    if places:
        _unpacked(session, line, line.words[places[0]], given[1] if given else None)


def seven(session: Session, line: Line) -> None:
    """`7z x ARCHIVE -oDIR`."""
    places = line.positional()
    folder = next((w[2:] for w in line.words[1:] if w.startswith("-o") and len(w) > 2), None)
    if len(places) > 1 and line.words[places[0]] in ("x", "e"):
        _unpacked(session, line, line.words[places[1]], folder)


def unrar(session: Session, line: Line) -> None:
    """`unrar x ARCHIVE DIR`."""
    places = line.positional()
    if len(places) > 1:
        _unpacked(session, line, line.words[places[1]], line.words[places[2]] if len(places) > 2 else None)


def gunzip(session: Session, line: Line) -> None:
    """`gunzip FILE.gz`."""
    for at in line.positional():
        word = line.words[at]
        key = session.world.key(word, line.cwd)
        if key in session.world.fetched and word.endswith(".gz"):
            session.world.fetched[key[:-3]] = session.world.fetched[key]


def converted(session: Session, line: Line) -> None:
    """`ffmpeg -i IN OUT`: the last word is a file that the notebook makes."""
    last = line.words[-1] if len(line.words) > 2 else ""
    if last and not last.startswith("-") and not has_hole(last) and "://" not in last:
        session.world.make(re.sub(r"%0?\d*d", "*", last), line.cwd)


def find(session: Session, line: Line) -> None:
    """`find DIR .. -delete` and `-exec rm -r`."""
    if "-delete" in line.words or ("-exec" in line.words and "rm" in line.words):
        at = 1
        if len(line.words) > 1:
            full = session.world.resolve(line.words[at], line.cwd)
            key = session.world.key(line.words[at], line.cwd)
            session.removals.append((key, full, session.python.place, line.command.line, line.exact(at)))


def kill(session: Session, line: Line) -> None:
    """`kill -9 -1` and `pkill python` end the runtime."""
    if ("-1" in line.words[1:] and line.name == "kill") or any(
        w.startswith(("python", "ipykernel", "jupyter")) for w in line.words[1:]
    ):
        line.fixed("destructive", "kill-runtime")


def dd(session: Session, line: Line) -> None:
    """`dd of=PATH`."""
    target = next((w[3:] for w in line.words[1:] if w.startswith("of=")), None)
    if target and not target.startswith("/dev/null"):
        directories.written(session, target, cwd=line.cwd)


def zipped(session: Session, line: Line) -> None:
    """`zip -r ARCHIVE FILES`."""
    places = line.positional()
    for number, at in enumerate(places):
        directories.under_drive(
            session, line.words[at], "write" if number == 0 else "read", literal=line.exact(at), cwd=line.cwd
        )
