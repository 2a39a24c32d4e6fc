"""Other people's repositories, fetched to be read: `--follow` brings them into a cache, and plans look there.

Nothing of a repository is run: no hooks, no submodules, no filters, no credentials asked for, and only `http(s)`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from allmend.home import root

if TYPE_CHECKING:
    from allmend.planning.session import Reader
    from allmend.planning.world import Clone, World

SECONDS = 60
"""The longest that fetching one repository may take."""
MOST = 12
"""Repositories of one plan that are fetched."""
_QUIET = (
    "-c", "core.hooksPath=/dev/null", "-c", "core.symlinks=false", "-c", "credential.helper=", "-c", "filter.lfs.smudge=",
    "-c", "filter.lfs.required=false", "-c", "core.fsmonitor=false", "-c", "http.followRedirects=initial",
)  # fmt: skip


def place(url: str) -> Path:
    """Where the cache keeps the repository at `url`."""
    name = re.sub(r"[^\w.-]", "-", url.rstrip("/").rsplit("/", 1)[-1])[:60] or "repository"
    return root() / "cache" / "clones" / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"


def fetched(url: str) -> Path | None:
    """The repository's folder in the cache, if it is there."""
    folder = place(url)
    return folder if folder.is_dir() else None


def fetch(url: str) -> Path | None:
    """Bring the repository at `url` into the cache; None when it cannot be had."""
    known = fetched(url)
    if known is not None:
        return known
    if not re.match(r"https?://[^\s'\"\\]+$", url) or shutil.which("git") is None:
        return None
    folder = place(url)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # A plan's targets stand without `.git`, which some servers insist on; a plain web server has no shallow copies.
    for address, depth in ((url, ("--depth", "1")), (url + ".git", ("--depth", "1")), (url, ()), (url + ".git", ())):
        part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        try:
            done = subprocess.run(
                ["git", *_QUIET, "clone", "--quiet", "--single-branch", "--no-tags", *depth, "--", address, str(part)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=SECONDS, check=False,
                env={**_environment(), "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "GIT_ALLOW_PROTOCOL": "http:https",
                     "GIT_ASKPASS": "true", "GIT_CONFIG_NOSYSTEM": "1"},
            )  # fmt: skip
            if done.returncode == 0:
                part.rename(folder)
                return folder
        except (subprocess.TimeoutExpired, OSError):
            return fetched(url)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return None


def _environment() -> dict[str, str]:
    """The environment without what could hand git a secret or another configuration."""
    return {
        key: value for key, value in os.environ.items() if not key.startswith("GIT_") and "TOKEN" not in key.upper()
    }


def cached(nearby: Reader | None, *, follow: bool) -> Reader:
    """A reader that looks where `nearby` does, then in the cache; with `follow` it fetches what is missing."""
    asked: set[str] = set()

    def read(path: str, cwd: str, clone: Clone | None, world: World) -> str | None:
        found = nearby(path, cwd, clone, world) if nearby is not None else None
        if found is not None or clone is None:
            return found
        folder = fetched(clone.url)
        if folder is None and follow and clone.url not in asked and len(asked) < MOST:
            asked.add(clone.url)
            folder = fetch(clone.url)
        return _file(folder, path, cwd, clone, world) if folder is not None else None

    return read


def _file(folder: Path, path: str, cwd: str, clone: Clone, world: World) -> str | None:
    """The text of one file of a fetched repository; never outside of it."""
    from allmend.planning.beside import inside, text_of

    return text_of(folder, inside(path, cwd, clone, world))
