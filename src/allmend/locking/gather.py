"""All of a notebook's Python requirements as one question, its sources built or fetched first."""

from __future__ import annotations

import posixpath
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from allmend.box import environment as environments
from allmend.box import sets
from allmend.box.owner import Operator
from allmend.errors import NotFound, Refused
from allmend.locking import build, clones, fetch, lines, packages, store
from allmend.locking.asks import Asks, Wanted
from allmend.nouns.lock import Base, Lock, LockedClone, LockedFile, LockedPackage, Unlocked

_MOST_BUILDS = 12
KERNEL = (
    *("ipykernel", "ipython", "comm", "debugpy", "jupyter-client", "jupyter-core", "matplotlib-inline", "nest-asyncio"),
    *("nest-asyncio2", "psutil", "pyzmq", "tornado", "traitlets", "pip", "setuptools", "wheel"),
)
"""What runs the notebook rather than being part of it; nobody can hold a kernel to a day before its box was made."""


@dataclass
class Gathered:
    """The packages of one environment."""

    packages: list[LockedPackage]
    files: list[LockedFile] = field(default_factory=list)
    """Requirements files and wheels named by an address."""
    unlocked: list[Unlocked] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def gather(wanted: Asks, base: Base, cloned: list[LockedClone], folder: Path, operator: Operator, *,
           earlier: Lock | None, as_of: str | None, updates: Callable[..., bool],
           tell: Callable[[str], None]) -> Gathered:  # fmt: skip
    """Resolve everything; see `make` for what is raised."""
    with tempfile.TemporaryDirectory(prefix="allmend-wheels-") as name:
        work = _Work(Path(name), cloned, folder, operator, as_of, earlier, tell)
        one_by_one = list(wanted.packages)
        options: list[str] = [option for one in (*wanted.packages, *wanted.files) for option in one.options]
        for file in wanted.files:
            more, theirs = work.requirements_file(file)
            one_by_one += more
            options += theirs
        plain, direct = [], []
        for one in one_by_one:
            if one.source == "index":
                plain.append(one)
            else:
                direct += work.source(one)
        work.options = [option for option in dict.fromkeys(options) if not option.startswith(("--constraint", "--no-"))]
        if any(option == "--no-deps" for option in options):
            work.notes.append("--no-deps is not followed: packages are locked with what they need")
        return work.resolve(plain, direct, base, updates)


class _Work:
    def __init__(self, wheels: Path, cloned: list[LockedClone], folder: Path, operator: Operator, as_of: str | None,
                 earlier: Lock | None, tell: Callable[[str], None]) -> None:  # fmt: skip
        self.wheels = wheels
        self.cloned = {one.url: one for one in cloned}
        self.folder = folder
        self.operator = operator
        self.as_of = as_of
        self.earlier = earlier
        self.tell = tell
        self.options: list[str] = []
        self.sources: dict[str, LockedPackage] = {}
        """Wheel file name to where it is from."""
        self.files: list[LockedFile] = []
        self.unlocked: list[Unlocked] = []
        self.notes: list[str] = []

    def requirements_file(self, wanted: Wanted) -> tuple[list[Wanted], list[str]]:
        """What a `-r FILE` asks for: from the notebook's own text, a locked clone, an address, or beside the
        notebook."""
        text, beside = self._text(wanted)
        if text is None:
            where = f"in {wanted.clone}" if wanted.clone else "beside the notebook"
            why = f"there is no such file {where}"
            self.unlocked.append(Unlocked(what=f"package -r {wanted.text}", cell=wanted.cell, why=why))
            return [], []
        return lines.read(wanted, text, beside)

    def _text(self, wanted: Wanted) -> tuple[str | None, lines.Reader]:
        if wanted.written is not None:
            return wanted.written, lambda name: None
        if re.match(r"https?://", wanted.text):
            try:
                file = fetch.file(wanted.text, most=2**24)
            except (NotFound, Refused) as error:
                self.notes.append(f"-r {wanted.text}: {error.message}")
                return None, lambda name: None
            self.files.append(file)
            return store.place(file.sha256).read_text("utf-8", "replace"), lambda name: None
        clone = self.cloned.get(wanted.clone or "")
        if clone is not None:
            top = posixpath.dirname(wanted.inside)

            def inside(name: str) -> str | None:
                return clones.text(clone.url, clone.commit, posixpath.normpath(posixpath.join(top, name)))

            return clones.text(clone.url, clone.commit, wanted.inside), inside
        if wanted.clone:
            return None, lambda name: None
        return self._beside(wanted.text), self._beside

    def _beside(self, name: str) -> str | None:
        root = self.folder.resolve()
        try:
            path = (root / Path(name).name if Path(name).is_absolute() else root / name).resolve()
            if path.is_relative_to(root) and path.is_file() and path.stat().st_size < 2**22:
                return path.read_text("utf-8", "replace")
        except (OSError, ValueError, RuntimeError):
            pass
        return None

    def source(self, wanted: Wanted) -> list[str]:
        """A requirement on source or on a wheel by its address, as `NAME @ file://…`; empty when it is not locked."""
        self.tell(f"package {wanted.text}")
        try:
            if wanted.source == "git":
                return [self._git(wanted)]
            if wanted.source == "url":
                return [self._url(wanted)]
            return [self._folder(wanted)]
        except (NotFound, Refused) as error:
            what = f"package {wanted.text}"
            self.unlocked.append(Unlocked(what=what, cell=wanted.cell, why=error.message))
            return []

    def _git(self, wanted: Wanted) -> str:
        bare, _, fragment = wanted.text.partition("#")
        address = bare.partition("git+")[2]
        head, sign, ref = address.rpartition("@")
        if not sign or ("/" in ref.split("://")[0] and "://" in ref):
            head, ref = address, ""
        if "://" not in head:
            head, ref = address, ""
        url = head.rstrip("/").removesuffix(".git")
        if not url.startswith(("http://", "https://")):
            raise Refused("only repositories at http and https addresses are locked")
        found = re.search(r"subdirectory=([\w./-]+)", fragment)
        subdirectory = posixpath.normpath(found[1]) if found else ""
        if subdirectory.startswith(("..", "/")):
            raise Refused("its subdirectory leads out of the repository")
        locked = clones.lock(url, ref or None, self.as_of)
        return self._tree(wanted.text, url, locked.commit, subdirectory, "git")

    def _folder(self, wanted: Wanted) -> str:
        clone = self.cloned.get(wanted.clone or "")
        if clone is None:
            raise NotFound("a folder that the notebook does not clone; what is in it is not known here")
        return self._tree(wanted.text, clone.url, clone.commit, wanted.inside, "folder")

    def _tree(self, what: str, url: str, commit: str, subdirectory: str, via: str) -> str:
        with tempfile.TemporaryDirectory() as name:
            archive = Path(name) / "source.tar"
            key = [url, commit, subdirectory, *_machine()]
            made = build.cached(key)
            if made is None:
                clones.archive(url, commit, archive, subdirectory)
                made = build.wheel(archive, what, key=key, operator=self.operator, tree=True, commit=commit)
        return self._add(made.file, made.sha256, LockedPackage(
            name=made.name, version=made.version, via="git" if via == "git" else "folder", url=url, commit=commit,
            subdirectory=subdirectory,
        ))  # fmt: skip

    def _url(self, wanted: Wanted) -> str:
        address, _, fragment = wanted.text.partition("#")
        known = next((one for one in self.earlier.downloads if one.url == address), None) if self.earlier else None
        file = known if known and store.checked(known.sha256) else fetch.file(address)
        digest = re.search(r"sha256=([0-9a-f]{64})", fragment)
        if digest and digest[1] != file.sha256:
            raise Refused("it does not have the digest that the line names")
        self.files.append(file)
        name = re.sub(r"[?].*", "", address).rsplit("/", 1)[-1]
        if name.endswith(".whl"):
            from urllib.parse import unquote

            name = unquote(name)
            package, version = build.wheel_name(name)
            return self._add(name, file.sha256, LockedPackage(
                name=package, version=version, via="url", url=address, file=name, sha256=file.sha256, bytes=file.bytes,
            ))  # fmt: skip
        made = self._archive(name, file.sha256, address)
        return self._add(made.file, made.sha256, LockedPackage(
            name=made.name, version=made.version, via="sdist", url=address, file=name, sha256=file.sha256,
            bytes=file.bytes,
        ))  # fmt: skip

    def _archive(self, name: str, sha256: str, what: str) -> build.Built:
        key = [sha256, *_machine()]
        made = build.cached(key)
        if made is None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / _archive_name(name)
                path.write_bytes(store.place(sha256).read_bytes())
                made = build.wheel(path, what, key=key, operator=self.operator)
        return made

    def _add(self, file: str, sha256: str, package: LockedPackage) -> str:
        path = self.wheels / file
        if not path.exists():
            path.symlink_to(store.place(sha256))
        self.sources[file] = package
        return f"{package.name} @ {path.as_uri()}"

    def resolve(self, plain: list[Wanted], direct: list[str], base: Base, updates: Callable[..., bool]) -> Gathered:
        """Ask, build what has no wheel, ask again; a conflict of exact versions is settled as pip would leave it."""
        texts, notes = lines.later_wins(plain)
        self.notes += notes
        named = {lines.name_of(text) for text in direct}
        texts = [text for text in texts if lines.name_of(text) not in named or lines.exact(text) is None]
        excludes, there = self._there(base, texts)
        texts = [text for text in texts if lines.name_of(text) not in there]
        kept = [
            one for one in (self.earlier.packages if self.earlier else ())
            if one.via == "index" and not updates(one.name)
        ]  # fmt: skip
        question = packages.Question(
            [*texts, *direct, *base.requirements, *base.implied], options=self.options, as_of=self.as_of,
            kept=[f"{one.name}=={one.version}" for one in kept], excludes=excludes, folder=self.wheels,
            timeless=KERNEL if self.as_of and base.requirements else (),
        )  # fmt: skip
        if question.timeless:
            self.notes.append(
                "the kernel's own packages are of today: allmend brings the kernel, and old ones do not start"
            )
        found = self._ask(question, plain)
        old = {(one.name, one.version): one for one in kept}
        listed = [old.get((one.name, one.version), one) for one in found]
        held = [LockedPackage(name=name, version=version, via="base") for name, version in sorted(there.items())]
        every = sorted([*listed, *held], key=lambda one: one.name)
        return Gathered(every, self.files, self.unlocked, self.notes)

    def _there(self, base: Base, texts: list[str]) -> tuple[list[str], dict[str, str]]:
        """With the profile `this`: what is installed and not asked for in another version."""
        if base.profile != "this":
            return [], {}
        there = sets.installed(environments.of())
        asked = {lines.name_of(text) for text in texts if not _satisfied(text, there) or self.as_of}
        kept = {name: version for name, version in there.items() if name not in asked}
        return sorted(kept), kept

    def _ask(self, question: packages.Question, plain: list[Wanted]) -> list[LockedPackage]:
        if not question.requirements:
            return []
        settled = False
        for _ in range(_MOST_BUILDS):
            try:
                answer = packages.resolve(question, self.operator)
            except packages.NeedsSource as needed:
                question.requirements += self._build(needed, question.requirements)
                continue
            except NotFound as error:
                cells = sorted({one.cell for one in plain if (lines.name_of(one.text) or "?") in error.message})
                where = f"cell {', '.join(map(str, cells))}" if cells else error.where
                raise NotFound(error.message, where=where, hint=error.hint) from None
            except packages.Conflict as error:
                pins = [text for text in question.requirements if lines.exact(text)]
                if settled or not pins:
                    cells = sorted({one.cell for one in plain})
                    where = "cells " + ", ".join(map(str, cells)) if cells else None
                    hint = f"{error.hint}\nLoosen one of these lines; a lock is one environment for the whole notebook."
                    raise packages.Conflict(error.message, where=where, hint=hint) from None
                question = replace(question, overrides=pins)
                settled = True
                said = re.sub(r"^uv says: ", "", error.hint or "")
                self.notes.append(f"the lines exclude each other ({said[:300]}); the exact versions they name stand")
                continue
            self.notes += answer.notes
            return [self._named(one) for one in answer.packages]
        raise Refused(f"more than {_MOST_BUILDS} packages come only as source")

    def _build(self, needed: packages.NeedsSource, requirements: list[str]) -> list[str]:
        added = []
        for name in needed.names:
            wanted = [*requirements, *re.findall(rf"{re.escape(name)}[=<>!~][^\s,]+", needed.said)]
            if any(text.startswith(f"{name} @ ") for text in requirements):
                raise Refused(f"{name}: the wheel built here does not fit", hint=needed.said[:600])
            version, file, address = packages.source_of(name, wanted, self.as_of)
            self.tell(f"{name} {version} comes only as source: building it in the box")
            if address.startswith("file:"):
                from urllib.parse import unquote, urlsplit

                digest, size = store.add_file(Path(unquote(urlsplit(address).path)))
            else:
                got = fetch.file(address)
                digest, size = got.sha256, got.bytes
            made = self._archive(file, digest, f"{name} {version}")
            added.append(self._add(made.file, made.sha256, LockedPackage(
                name=name, version=made.version, via="sdist", url=address, file=file, sha256=digest, bytes=size,
            )))  # fmt: skip
            self.notes.append(f"{name} {version} has no wheel: built in the box from its source")
        return added

    def _named(self, package: LockedPackage) -> LockedPackage:
        """A package with where it is really from, in place of this question's own folder."""
        if package.file in self.sources:
            return self.sources[package.file]
        return package


def _archive_name(name: str) -> str:
    """A file name that pip knows for an archive."""
    return name if re.search(r"\.(?:tar\.gz|tgz|zip|tar\.bz2|tar)$", name) else f"{name}.tar.gz"


def _machine() -> list[str]:
    import sys
    import sysconfig

    return [sys.implementation.cache_tag or "", sysconfig.get_platform()]


def _satisfied(text: str, there: dict[str, str]) -> bool:
    from packaging.requirements import InvalidRequirement, Requirement

    version = there.get(lines.name_of(text) or "")
    if version is None:
        return False
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return False
    return requirement.specifier.contains(version, prereleases=True)
