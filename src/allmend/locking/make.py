"""From a plan to a lock: each thing resolved, fetched where its digest cannot be known otherwise, and kept.

What an earlier lock of the same notebook fixed stays as it was, unless it is named for an update.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from allmend.box import installing, profiles
from allmend.box.owner import Operator
from allmend.errors import NotFound, Refused, Unavailable
from allmend.locking import clones, fetch, hub, store, system
from allmend.locking.asks import Asks, Fetched, asks
from allmend.locking.environment import bring_packages, interpreter
from allmend.locking.gather import Gathered, gather
from allmend.nouns.lock import (
    Base,
    Lock,
    LockedClone,
    LockedFile,
    LockedPackage,
    LockedRepository,
    LockedSystemPackage,
    Unlocked,
)
from allmend.nouns.plan import Plan

T = TypeVar("T")

_IMPORTED_AS = {"scikit-learn": "sklearn", "pillow": "PIL", "pyyaml": "yaml", "beautifulsoup4": "bs4"}


@dataclass
class Wishes:
    """How a lock is to be made."""

    as_of: str | None = None
    update: Sequence[str] = ()
    """Names (packages, addresses) to resolve anew; `all` for everything."""
    profile: str = "auto"
    bring: bool = True
    """Fetch what a run needs into the cache."""
    most: int | None = None
    """Bytes of one file at most."""
    tell: Callable[[str], None] = field(default=lambda text: None)

    def updates(self, *names: str) -> bool:
        """Whether any of the names is to be resolved anew."""
        wanted = {one.lower().removesuffix(".git") for one in self.update}
        return "all" in wanted or any(name.lower() in wanted for name in names)


def code_digest(content: dict[str, Any]) -> str:
    """SHA-256 over the sources of a notebook's code cells, in order."""
    digest = hashlib.sha256()
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            digest.update(str(cell["source"]).encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def make(plan: Plan, name: str, content: dict[str, Any], folder: Path, operator: Operator, wishes: Wishes,
         earlier: Lock | None = None, imports: Set[str] = frozenset()) -> Lock:  # fmt: skip
    """Lock what `plan` lists.

    Args:
        content: the notebook (nbformat 4), for what it imports.
        folder: where requirements files beside the notebook are read from.
        earlier: the lock to keep to.
        imports: modules that the notebook imports, to note those that nothing locked brings.

    Raises:
        NotFound: a package does not exist (or did not on that day).
        Conflict: the packages exclude each other.
        FetchError: a server does not answer; DoesNotFit: a file is larger than the limit.
    """
    wanted = asks(plan)
    day = wishes.as_of or (earlier.as_of if earlier else None)
    if earlier is not None and (earlier.as_of != day or earlier.python != interpreter()):
        earlier = None
    base = base_of(wishes.profile, content, wanted, day, earlier)
    found = _Made(wishes, earlier, day)
    found.unlocked += wanted.unlocked
    found.notes += _another_python(content)
    locked_clones = found.each(
        wanted.clones, lambda one: found.clone(one), lambda one: f"clone {one.target}", found.old_clones
    )
    downloads = found.each(wanted.downloads, found.download, lambda one: f"download {one.target}", found.old_files)
    repositories = [
        *found.each(wanted.models, lambda one: found.repository("model", one), lambda one: f"model {one.target}",
                    found.old_repositories("model")),
        *found.each(wanted.datasets, lambda one: found.repository("dataset", one),
                    lambda one: f"dataset {one.target}", found.old_repositories("dataset")),
    ]  # fmt: skip
    gathered = _packages(wanted, base, locked_clones, folder, operator, wishes, earlier, day)
    found.unlocked += gathered.unlocked
    if wishes.bring and base.profile != "this" and not locked_clones:
        gathered.notes += _unmet(imports, gathered.packages)
    return Lock(
        notebook=name,
        code_sha256=code_digest(content),
        as_of=day,
        python=interpreter(),
        base=base,
        asks=wanted.lines(),
        packages=gathered.packages,
        clones=_unique(locked_clones),
        downloads=_unique([*downloads, *gathered.files]),
        repositories=_unique(repositories),
        system=found.system(wanted.system),
        unlocked=sorted(found.unlocked, key=lambda one: (one.cell, one.what)),
        notes=list(dict.fromkeys([*found.notes, *gathered.notes])),
    )


def _packages(wanted: Asks, base: Base, cloned: list[LockedClone], folder: Path, operator: Operator, wishes: Wishes,
              earlier: Lock | None, day: str | None) -> Gathered:  # fmt: skip
    same = earlier is not None and not wishes.update and earlier.base == base and earlier.asks == wanted.lines()
    if same and earlier is not None:
        mine = [one for one in earlier.unlocked if one.what.startswith("package ")]
        about = [note for note in earlier.notes if not note.startswith("apt") and ": kept as it was" not in note]
        gathered = Gathered(list(earlier.packages), [], mine, about)
    else:
        gathered = gather(wanted, base, cloned, folder, operator, earlier=earlier, as_of=day,
                          updates=wishes.updates, tell=wishes.tell)  # fmt: skip
    if wishes.bring:
        gathered.packages = bring_packages(gathered.packages, operator, wishes.tell)
    return gathered


def base_of(profile: str, content: dict[str, Any], wanted: Asks, day: str | None, earlier: Lock | None) -> Base:
    """What the notebook starts with. `auto` is a kernel and pip, and what it imports of the colab list and never
    installs; `this` is the environment that allmend runs in."""
    from allmend.errors import UsageError, nearest
    from allmend.locking.lines import name_of

    if profile not in profiles.PROFILES:
        raise UsageError(
            f"there is no profile {profile!r}", where="--profile", hint=nearest(profile, profiles.PROFILES)
        )
    if profile == "auto" and earlier is not None:
        profile = earlier.base.profile
    if profile == "this":
        return Base(profile="this")
    asked = {name_of(one.text) for one in wanted.packages}
    kind = "colab" if profile == "colab" else "base"
    requirements = [text for text in profiles.LISTS[kind] if name_of(text) not in asked]
    implied = []
    if kind == "base":
        implied = [
            text for text in profiles.COLAB
            if text not in profiles.BASE and name_of(text) not in asked and _imports(content, name_of(text) or "")
        ]  # fmt: skip
    if day is not None and day < installing.DATED:
        # Lower bounds of a later day's list would exclude what existed then.
        requirements = [name_of(text) or text for text in requirements]
        implied = [name_of(text) or text for text in implied]
    return Base(profile=kind, dated=installing.DATED, requirements=requirements, implied=implied)


def _imports(content: dict[str, Any], package: str) -> bool:
    module = re.escape(_IMPORTED_AS.get(package, package.replace("-", "_")))
    pattern = re.compile(
        rf"^\s*(?:import|from)\s+(?:[\w.]+(?:\s+as\s+\w+)?\s*,\s*)*{module}(?=[\s.,;]|$)", re.MULTILINE
    )
    return any(cell["cell_type"] == "code" and pattern.search(cell["source"]) for cell in content["cells"])


def _unmet(imports: Set[str], packages: Sequence[LockedPackage]) -> list[str]:
    """A note on imports that no locked wheel holds: the run would fail there."""
    import zipfile

    brought: set[str] = set()
    for package in packages:
        if package.via not in ("index", "url"):
            return []  # what a build makes is not looked into
        try:
            with zipfile.ZipFile(store.place(package.sha256)) as wheel:
                names = wheel.namelist()[:100_000]
        except (OSError, zipfile.BadZipFile):
            return []
        brought |= {name.partition("/")[0].partition(".")[0] for name in names}
    lacking = sorted(imports - brought - set(sys.stdlib_module_names) - {"google"})
    if not lacking:
        return []
    return [f"nothing locked brings {', '.join(lacking[:8])}, which the notebook imports: install it in the notebook"]


def _another_python(content: dict[str, Any]) -> list[str]:
    """A note where the notebook's kernel names another Python than this one."""
    kernel = content["metadata"].get("kernelspec")
    name = str(kernel.get("name", "")) if isinstance(kernel, dict) else ""
    named = re.fullmatch(r"python-?(3[.-]?\d{1,2})", name.lower())
    here = ".".join(map(str, sys.version_info[:2]))
    if named is None or named[1].replace("-", "").replace(".", "") == here.replace(".", ""):
        return []
    return [f"its kernel is {name}, and it is locked for the Python that allmend runs on, {here}"]


def _unique(values: list[T]) -> list[T]:
    """Without repetitions, in a stable order."""
    by_text = {repr(value): value for value in values}
    return [by_text[text] for text in sorted(by_text)]


class _Made:
    """The parts of a lock that are fetched one by one."""

    def __init__(self, wishes: Wishes, earlier: Lock | None, day: str | None) -> None:
        self.wishes = wishes
        self.earlier = earlier
        self.day = day
        self.unlocked: list[Unlocked] = []
        self.notes: list[str] = []
        self.old_clones = {(one.url, one.ref): one for one in earlier.clones} if earlier else {}
        self.old_files: dict[tuple[str, str | None], LockedFile] = (
            {(one.url, None): one for one in earlier.downloads} if earlier else {}
        )

    def old_repositories(self, kind: str) -> dict[tuple[str, str | None], LockedRepository]:
        """The earlier lock's models, or data sets."""
        if self.earlier is None:
            return {}
        return {(one.name, one.revision): one for one in self.earlier.repositories if one.kind == kind}

    def each(self, wanted: Sequence[Fetched], take: Callable[[Fetched], T], what: Callable[[Fetched], str],
             old: dict[tuple[str, str | None], T]) -> list[T]:  # fmt: skip
        """Lock each, keeping what an earlier lock fixed; what is gone or private is listed as not locked."""
        found = []
        for one in dict.fromkeys(wanted):
            known = old.get((one.target, one.ref))
            short = one.target.rstrip("/").rsplit("/", 1)[-1]
            if known is not None and not self.wishes.updates(one.target, short):
                found.append(self._present(known))
                continue
            self.wishes.tell(what(one))
            try:
                found.append(take(one))
            except (NotFound, Refused) as error:
                if known is not None:
                    found.append(known)
                    self.notes.append(f"{what(one)}: kept as it was locked; now {error.message}")
                else:
                    self.unlocked.append(Unlocked(what=what(one), cell=one.cell, why=error.message))
        return found

    def _present(self, known: T) -> T:
        """What was locked earlier, brought back into the cache where it is missing and still upstream."""
        if self.wishes.bring:
            from allmend.locking.restore import restore

            restore(known)
        return known

    def clone(self, one: Fetched) -> LockedClone:
        """A repository at its commit."""
        return clones.lock(one.target, one.ref, self.day)

    def download(self, one: Fetched) -> LockedFile:
        """A file by its digest."""
        return fetch.file(one.target, most=self.wishes.most)

    def repository(self, kind: str, one: Fetched) -> LockedRepository:
        """A model or data set at its commit."""
        found = hub.lock(kind, one.target, one.ref)
        return hub.bring(found, most=self.wishes.most) if self.wishes.bring else found

    def system(self, wanted: Sequence[Fetched]) -> list[LockedSystemPackage]:
        """apt's packages, resolved together."""
        if not wanted:
            return []
        names = list(dict.fromkeys((one.target, one.ref) for one in wanted))
        old = self.earlier.system if self.earlier else []
        if {name for name, _ in names} == {one.name for one in old if one.requested} and not self.wishes.updates(
            *(name for name, _ in names)
        ):
            found = list(old)
        else:
            try:
                found = system.lock(names)
            except (NotFound, Unavailable) as error:
                for one in wanted:
                    why = f"{error.message}. {error.hint or ''}".strip()
                    self.unlocked.append(Unlocked(what=f"apt {one.target}", cell=one.cell, why=why))
                return []
        if self.wishes.bring:
            try:
                system.bring(found)
            except NotFound as error:
                self.notes.append(f"apt: {error.where} is no longer served; run `apt-get update` and lock again")
        return found


__all__ = ["Wishes", "base_of", "code_digest", "interpreter", "make", "store"]
