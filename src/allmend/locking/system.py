"""apt packages: the versions that apt would take now, with what they need. Nothing is installed.

apt reads this machine's lists; a lock of another distribution's machine is another lock.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from urllib.parse import unquote

from allmend.errors import FetchError, NotFound, Unavailable
from allmend.locking import store
from allmend.nouns.lock import LockedSystemPackage

_URI = re.compile(r"'(?P<url>[^']+)' (?P<file>\S+) (?P<bytes>\d+) (?:SHA256:(?P<sha256>[0-9a-f]{64})|(?P<other>\S*))")
_OPTIONS = ("-y", "-qq", "--no-install-recommends", "--print-uris",
            "-o", "Debug::NoLocking=1", "-o", "Acquire::ForceHash=SHA256")  # fmt: skip


def lock(wanted: Sequence[tuple[str, str | None]]) -> list[LockedSystemPackage]:
    """The packages `(name, version asked for)` and what they need beyond this machine's own.

    Raises `Unavailable` without apt or its lists, `NotFound` naming a package that apt does not have.
    """
    apt = shutil.which("apt-get")
    if apt is None:
        raise Unavailable("this machine has no apt, so apt packages cannot be locked here")
    words = [f"{name}={version}" if version else name for name, version in wanted]
    done = subprocess.run([apt, "install", *_OPTIONS, "--", *words], capture_output=True, text=True, timeout=120,
                          check=False, env={"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})  # fmt: skip
    if done.returncode != 0:
        raise _trouble(done.stderr, [name for name, _ in wanted])
    named = {name for name, _ in wanted}
    found = []
    for line in done.stdout.splitlines():
        match = _URI.match(line)
        if match is None:
            continue
        name, version, *_ = match["file"].removesuffix(".deb").split("_")
        found.append(LockedSystemPackage(
            name=name, version=unquote(version), sha256=match["sha256"] or "", url=match["url"],
            bytes=int(match["bytes"]), requested=name in named,
        ))  # fmt: skip
    there = {package.name for package in found}
    found += [
        LockedSystemPackage(name=name, version=_installed(name)) for name in sorted(named - there) if _installed(name)
    ]
    return sorted(found, key=lambda package: package.name)


def _installed(name: str) -> str:
    """The version of a package that this machine's system already has."""
    try:
        done = subprocess.run(["dpkg-query", "-W", "-f=${Version}", name], capture_output=True, text=True, timeout=30,
                              check=False)  # fmt: skip
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _trouble(said: str, names: Sequence[str]) -> NotFound | Unavailable | FetchError:
    missing = re.findall(r"Unable to locate package (\S+)|Version '[^']+' for '([^']+)' was not found", said)
    if missing:
        gone = ", ".join(first or second for first, second in missing)
        return NotFound(
            f"apt does not have {gone}", hint="Its lists may be old or empty: run `apt-get update`, then lock again."
        )
    last = said.strip().splitlines()[-1] if said.strip() else "apt-get failed"
    return FetchError(f"apt could not resolve {', '.join(names)}: {last[:300]}")


def bring(packages: Sequence[LockedSystemPackage]) -> None:
    """Fetch the packages' files into the cache and hold them to their digests."""
    from allmend.locking import fetch

    for package in packages:
        if package.url and package.sha256 and not store.has(package.sha256, package.bytes):
            fetch.wheel(package.url, package.sha256)
