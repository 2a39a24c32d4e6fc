"""A lock against its notebook, against another lock, and against what is upstream now: differences in words."""

from __future__ import annotations

from collections.abc import Callable

from allmend.errors import AllmendError, NotFound, Refused
from allmend.locking import clones, fetch, hub
from allmend.locking.asks import asks
from allmend.nouns.lock import Lock, LockChange, LockReport
from allmend.nouns.plan import Plan


def against_plan(lock: Lock, plan: Plan, code_sha256: str) -> LockReport:
    """What the notebook asks for now and did not when it was locked, and the other way round."""
    changes: list[LockChange] = []
    now, then = set(asks(plan).lines()), set(lock.asks)
    for line in sorted(now - then):
        changes.append(LockChange(what=line, after=line, words=f"the notebook now asks for: {_said(line)}"))
    for line in sorted(then - now):
        changes.append(LockChange(what=line, before=line, words=f"the notebook no longer asks for: {_said(line)}"))
    for what in _beyond(lock, now):
        changes.append(
            LockChange(what=what, before=what, words=f"the notebook does not ask for what is locked: {what}")
        )
    return LockReport(first="lock", second=lock.notebook, changes=changes)


def _beyond(lock: Lock, asked: set[str]) -> list[str]:
    """Files, clones and repositories of a lock that its notebook has no use for: a lock is fetched from, so it may
    name nothing of its own."""
    packages = {one.url for one in lock.packages}
    found = [
        one.url for one in lock.downloads
        if f"download {one.url}" not in asked and one.url not in packages
        and not any(one.url in line for line in asked if line.startswith("pip "))
    ]  # fmt: skip
    found += [one.url for one in lock.clones if f"clone {one.url}" + (f"@{one.ref}" if one.ref else "") not in asked]
    for one in lock.repositories:
        line = f"{one.kind} {one.name}" + (f"@{one.revision}" if one.revision else "")
        found += [] if line in asked else [line]
    return found


def _said(line: str) -> str:
    return line.replace("pip ", "pip install ", 1) if line.startswith("pip ") else line


def require(lock: Lock, plan: Plan, code_sha256: str) -> list[str]:
    """Notes for a locked run; raises `Refused` where the notebook asks for what the lock does not hold."""
    report = against_plan(lock, plan, code_sha256)
    if report.changes:
        shown = "; ".join(change.words for change in report.changes[:6])
        more = f" and {len(report.changes) - 6} more" if len(report.changes) > 6 else ""
        raise Refused(
            f"the notebook and its lock do not fit (was it edited after it was locked?): {shown}{more}",
            where=lock.notebook,
            hint="`allmend lock` takes the change in and leaves the rest as it is.",
        )  # fmt: skip
    notes = []
    if code_sha256 != lock.code_sha256:
        notes.append("the code was edited after it was locked, but asks for the same")
    return notes


def between(first: Lock, second: Lock, names: tuple[str, str] = ("the first lock", "the second")) -> LockReport:
    """Two locks in words."""
    changes: list[LockChange] = []
    for kind, look in _KINDS.items():
        _keyed(changes, kind, look(first), look(second))
    for name, before, after in (
        ("Python", first.python.version, second.python.version),
        ("machine", first.python.platform, second.python.platform),
        ("profile", first.base.profile, second.base.profile),
        ("day", first.as_of or "none", second.as_of or "none"),
    ):
        if before != after:
            changes.append(LockChange(what=name, before=before, after=after, words=f"{name}: {before} became {after}"))
    gone = {one.what for one in first.unlocked} ^ {one.what for one in second.unlocked}
    for what in sorted(gone):
        now = any(one.what == what for one in second.unlocked)
        words = f"{what} is {'no longer locked' if now else 'locked now, or no longer asked for'}"
        changes.append(LockChange(what=what, words=words))
    return LockReport(first=names[0], second=names[1], changes=changes)


Shown = tuple[str, str, str]
"""What of a locked thing is shown, what tells it from another, since when it is there (empty: nobody says)."""


def _packages(lock: Lock) -> dict[str, Shown]:
    return {
        one.name: (one.version, f"{one.version} {one.sha256} {one.commit} {one.via}", (one.uploaded or "")[:10])
        for one in lock.packages
    }


def _clones(lock: Lock) -> dict[str, Shown]:
    return {
        one.url + (f"@{one.ref}" if one.ref else ""): (one.commit[:12], one.commit, one.committed[:10])
        for one in lock.clones
    }


def _files(lock: Lock) -> dict[str, Shown]:
    return {
        one.url: (f"{one.bytes:,} bytes, {one.sha256[:12]}", one.sha256, one.modified or "") for one in lock.downloads
    }


def _repositories(lock: Lock) -> dict[str, Shown]:
    return {
        f"{one.kind} {one.name}": (one.commit[:12], one.commit, (one.modified or "")[:10]) for one in lock.repositories
    }


def _system(lock: Lock) -> dict[str, Shown]:
    return {one.name: (one.version, one.version + one.sha256, "") for one in lock.system}


_KINDS: dict[str, Callable[[Lock], dict[str, Shown]]] = {
    "package": _packages,
    "clone": _clones,
    "file": _files,
    "repository": _repositories,
    "apt package": _system,
}


def _keyed(changes: list[LockChange], kind: str, first: dict[str, Shown], second: dict[str, Shown]) -> None:
    for name in sorted({*first, *second}):
        before, after = first.get(name), second.get(name)
        if before is None and after is not None:
            words = f"{kind} {name} {after[0]} is new"
            changes.append(LockChange(what=name, after=after[0], since=after[2] or None, words=words))
        elif after is None and before is not None:
            words = f"{kind} {name} {before[0]} is gone"
            changes.append(LockChange(what=name, before=before[0], words=words))
        elif before is not None and after is not None and before[1] != after[1]:
            words = f"{kind} {name}: {before[0]} became {after[0]}"
            if before[0] == after[0]:
                words = f"{kind} {name} {before[0]}: the same version, but another file"
            words += f", of {after[2]}" if after[2] else ""
            change = LockChange(what=name, before=before[0], after=after[0], since=after[2] or None, words=words)
            changes.append(change)


def upstream(lock: Lock, tell: Callable[[str], None] = lambda text: None) -> LockReport:
    """What is upstream now against what was locked. Files are fetched again to compare them; versions of packages that
    came out since are no change, a file that is gone or another is."""
    changes: list[LockChange] = []
    unknown: list[str] = []
    for one in lock.downloads:
        tell(one.url)
        _compare(changes, unknown, one.url, f"{one.sha256[:12]} ({one.bytes:,} bytes)", lambda one=one: _file(one))  # type: ignore[misc]
    for clone in lock.clones:
        if clone.ref == clone.commit:
            continue
        tell(clone.url)
        _compare(changes, unknown, clone.url, clone.commit[:12], lambda clone=clone: _clone(clone))  # type: ignore[misc]
    for repository in lock.repositories:
        tell(repository.name)
        _compare(changes, unknown, repository.name, repository.commit[:12], lambda r=repository: _repository(r))  # type: ignore[misc]
    for package in lock.packages:
        if package.via not in ("index", "url") or not package.url:
            continue
        tell(f"{package.name} {package.version}")
        _compare(changes, unknown, f"package {package.name} {package.version}", package.sha256[:12],
                 lambda p=package: _served(p.url, p.sha256))  # type: ignore[misc]  # fmt: skip
    return LockReport(first="lock", second="upstream", changes=changes, not_checked=unknown)


Now = tuple[str, str | None]
"""What is there now, shortened, and since when."""


def _compare(changes: list[LockChange], unknown: list[str], what: str, before: str, look: Callable[[], Now]) -> None:
    try:
        after, since = look()
    except (NotFound, Refused) as error:
        words = f"{what}: {error.message}; a run from the cache still works"
        changes.append(LockChange(what=what, before=before, words=words))
        return
    except AllmendError as error:
        unknown.append(f"{what}: {error.message}")
        return
    if after != before:
        told = f", since {since}" if since else ", and nobody says since when"
        words = f"{what} changed upstream: {before} is now {after}{told}"
        changes.append(LockChange(what=what, before=before, after=after, since=since, words=words))


def _file(one: object) -> Now:
    from allmend.nouns.lock import LockedFile

    assert isinstance(one, LockedFile)
    now = fetch.file(one.url)
    return f"{now.sha256[:12]} ({now.bytes:,} bytes)", now.modified


def _clone(one: object) -> Now:
    from allmend.nouns.lock import LockedClone

    assert isinstance(one, LockedClone)
    found = clones.resolve(one.url, one.ref)
    if found.commit == one.commit:
        return one.commit[:12], None
    return found.commit[:12], clones.fetch(one.url, found)


def _repository(one: object) -> Now:
    from allmend.nouns.lock import LockedRepository

    assert isinstance(one, LockedRepository)
    now = hub.lock(one.kind, one.name, one.revision)
    return now.commit[:12], now.modified


def _served(url: str, sha256: str) -> Now:
    """Whether a distribution file is still served; indexes do not change a file under its name, so it is not read."""
    from pathlib import Path
    from urllib.parse import unquote, urlsplit

    split = urlsplit(url)
    if split.scheme == "file":
        path = Path(unquote(split.path))
        if not path.is_file():
            raise NotFound("its file is gone from the index")
        from allmend.digests import file_digest

        return file_digest(path)[:12], None
    fetch.there(url)
    return sha256[:12], None
