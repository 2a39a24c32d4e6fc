"""Repositories: which commit a name stands for, and a bare copy that a locked run can clone from.

git runs here, outside the box, only to talk to the server and to read objects: no checkout is made, no hook, filter or
submodule of the repository is run, and nobody is asked for a password.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from allmend.digests import file_digest
from allmend.errors import FetchError, InputError, NotFound, Refused, Unavailable
from allmend.locking import fetch as fetch_from
from allmend.locking import store
from allmend.nouns.lock import LockedClone

COMMIT = re.compile(r"[0-9a-f]{40}")
_SECONDS = 1800
_SAFE = (
    *("-c", "protocol.allow=never", "-c", "protocol.http.allow=always", "-c", "protocol.https.allow=always"),
    *("-c", "core.hooksPath=/dev/null", "-c", "credential.helper=", "-c", "core.fsmonitor=false"),
    *("-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "fetch.fsckObjects=true"),
)


def repository(url: str) -> Path:
    """The bare copy of a repository in the cache, there or not."""
    return store.folder() / "clones" / f"{sha256(url.encode()).hexdigest()[:32]}.git"


def _git(*arguments: str, url: str, folder: Path | None = None, seconds: int = _SECONDS) -> bytes:
    git = shutil.which("git")
    if git is None:
        raise Unavailable("git is not installed", hint="apt-get install git")
    variables = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO")
        or name.lower() in ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
    }
    variables |= {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "/bin/false", "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
    variables["GIT_CONFIG_GLOBAL"] = os.devnull
    place = ["--git-dir", str(folder)] if folder else []
    try:
        done = subprocess.run(
            [git, *_SAFE, *place, *arguments], env=variables, capture_output=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise FetchError(f"git took longer than {seconds // 60} minutes", where=url) from None
    if done.returncode != 0:
        raise _trouble(done.stderr.decode("utf-8", "replace"), url)
    return done.stdout


def _trouble(said: str, url: str) -> FetchError | Refused | NotFound:
    low = said.lower()
    last = next((line for line in reversed(said.strip().splitlines()) if line.strip()), "git failed")[:300]
    if any(
        word in low
        for word in ("authentication failed", "could not read username", "403", "401", "terminal prompts disabled")
    ):
        return Refused("the repository is private or gone: the server asks for an account", where=url)
    if "not found" in low or "404" in low:
        return NotFound("there is no such repository", where=url)
    return FetchError(f"git could not reach it: {last}", where=url)


@dataclass(frozen=True)
class Found:
    """What a name stands for at the server now."""

    commit: str
    branch: str


def resolve(url: str, ref: str | None) -> Found:
    """The commit that `ref` (None: the default branch) is at the server.

    Raises `NotFound` for a name that is not there, `Refused` for a private repository, `FetchError`.
    """
    if ref is not None and ref.startswith("-"):
        raise InputError(f"{ref!r} is no name of a branch or tag", where=url)
    fetch_from.check_public(url)
    listed = _git("ls-remote", "--symref", "--", url, url=url, seconds=120).decode("utf-8", "replace")
    refs: dict[str, str] = {}
    head = ""
    for line in listed.splitlines():
        value, _, name = line.partition("\t")
        if value.startswith("ref: ") and name == "HEAD":
            head = value.removeprefix("ref: refs/heads/")
        else:
            refs[name] = value
    if ref is None:
        if "HEAD" not in refs:
            raise NotFound("the repository is empty", where=url)
        return Found(refs["HEAD"], head or "main")
    for name, branch in ((f"refs/heads/{ref}", ref), (f"refs/tags/{ref}^{{}}", ""), (f"refs/tags/{ref}", "")):
        if name in refs:
            return Found(refs[name], branch)
    if COMMIT.fullmatch(ref):
        return Found(ref, head if refs.get("HEAD") == ref else "")
    if re.fullmatch(r"[0-9a-f]{7,39}", ref):
        return Found(_expand(url, ref), "")
    raise NotFound(
        f"it has no branch or tag {ref!r}", where=url, hint=_names(refs) or None
    )  # fmt: skip


def _names(refs: dict[str, str]) -> str:
    names = [name.rsplit("/", 1)[-1] for name in refs if name.startswith(("refs/heads/", "refs/tags/"))]
    return "It has: " + ", ".join(sorted(set(names))[:8]) + "." if names else ""


def _expand(url: str, short: str) -> str:
    """A shortened commit in full, from the repository's history."""
    folder = _bare(url)
    _git("fetch", "-q", "--filter=tree:0", "--", url, "+refs/heads/*:refs/history/*", url=url, folder=folder)
    try:
        return _git("rev-parse", "--verify", f"{short}^{{commit}}", url=url, folder=folder).decode().strip()
    except FetchError:
        raise NotFound(f"it has no commit {short!r}", where=url) from None


def _bare(url: str) -> Path:
    folder = repository(url)
    if not (folder / "HEAD").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _git("init", "-q", "--bare", "--template=", str(folder), url=url)
    return folder


def before(url: str, ref: str | None, day: str) -> Found:
    """The commit that `ref` was at the end of `day`; the history is fetched without its files."""
    now = resolve(url, ref)
    if ref is not None and not now.branch:
        return now  # a tag or a commit does not move with time
    folder = _bare(url)
    _git("fetch", "-q", "--filter=tree:0", "--", url, f"+{now.commit}:refs/history/head", url=url, folder=folder)
    listed = _git("rev-list", "-1", "--first-parent", f"--before={day}T23:59:59Z", "refs/history/head",
                  url=url, folder=folder)  # fmt: skip
    commit = listed.decode().strip()
    if not commit:
        raise NotFound(f"the repository has no commit as old as {day}", where=url)
    return Found(commit, now.branch)


def fetch(url: str, found: Found) -> str:
    """Bring a commit with its files into the cache; returns the commit's date (ISO 8601)."""
    if not complete(url, found.commit):
        if (repository(url) / f"complete-{found.commit}").exists():
            forget(url)  # damaged, or cut by hand: git would build on what it takes for whole
        folder = _bare(url)
        try:
            _git("fetch", "-q", "--depth=1", "--refetch", "--", url, f"+{found.commit}:refs/locked/{found.commit}",
                 url=url, folder=folder)  # fmt: skip
        except (FetchError, NotFound):
            # A server may give whole branches only.
            _git("fetch", "-q", "--", url, "+refs/heads/*:refs/history/*", "+refs/tags/*:refs/tags/*", url=url,
                 folder=folder)  # fmt: skip
            if not _there(url, found.commit):
                raise NotFound(
                    f"commit {found.commit[:12]} is not there any more", where=url,
                    hint="It was rewritten or deleted upstream; a cache that still has it can serve it.",
                ) from None  # fmt: skip
            _git("update-ref", f"refs/locked/{found.commit}", found.commit, url=url, folder=folder)
        _git("rev-list", "--objects", "--no-walk", "--quiet", found.commit, url=url, folder=folder)
        _complete_now(url, found.commit)
    return date(url, found.commit)


def _there(url: str, commit: str) -> bool:
    try:
        _git("cat-file", "-e", f"{commit}^{{commit}}", url=url, folder=repository(url))
    except (FetchError, NotFound, Refused):
        return False
    return True


def complete(url: str, commit: str) -> bool:
    """Whether the cache holds a commit with all its files, unchanged since they were fetched.

    A file whose size and time are as they were is taken as whole; any other is read and held to its digest.
    """
    folder = repository(url)
    try:
        listed: dict[str, list[Any]] = json.loads((folder / f"complete-{commit}").read_text())
        return (folder / "HEAD").exists() and all(_whole(folder / name, *known) for name, known in listed.items())
    except (OSError, ValueError, TypeError, AttributeError):
        return False


def _whole(path: Path, size: int, moment: int, digest: str) -> bool:
    status = path.stat()
    if (status.st_size, status.st_mtime_ns) == (size, moment):
        return True
    return status.st_size == size and file_digest(path) == digest


def _complete_now(url: str, commit: str) -> None:
    """Note the files of the cached copy, so that damage is found."""
    folder = repository(url)
    listed = {}
    for path in (*sorted((folder / "objects").rglob("*")), folder / "shallow"):
        if path.is_file():
            status = path.stat()
            listed[str(path.relative_to(folder))] = [status.st_size, status.st_mtime_ns, file_digest(path)]
    (folder / f"complete-{commit}").write_text(json.dumps(listed))


def forget(url: str) -> None:
    """Take a damaged copy out of the cache."""
    shutil.rmtree(repository(url), ignore_errors=True)


def date(url: str, commit: str) -> str:
    """When a cached commit was made (ISO 8601)."""
    return _git("show", "-s", "--format=%cI", commit, url=url, folder=repository(url)).decode().strip()


def text(url: str, commit: str, path: str) -> str | None:
    """A text file of a cached commit; None when there is none of that name."""
    try:
        data = _git("show", f"{commit}:{path}", url=url, folder=repository(url))
    except (FetchError, NotFound, Refused):
        return None
    return data[:200_000].decode("utf-8", "replace")


def archive(url: str, commit: str, target: Path, subdirectory: str = "") -> None:
    """Write a commit's files into `target`, a tar file; `export-subst` and the like are left undone."""
    tree = f"{commit}:{subdirectory}" if subdirectory else commit
    _git("archive", "--format=tar", "-o", str(target), tree, url=url, folder=repository(url))


def lock(url: str, ref: str | None, as_of: str | None) -> LockedClone:
    """A clone at the commit its name stands for, now or at the end of a day."""
    found = before(url, ref, as_of) if as_of else resolve(url, ref)
    committed = fetch(url, found)
    return LockedClone(url=url, ref=ref, branch=found.branch, commit=found.commit, committed=committed)
