"""The folder of packages that a lock fixes: wheels from the cache, installed once, found again by every run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from allmend.box import environment as environments
from allmend.box import installing, sets
from allmend.box.environment import Environment
from allmend.box.owner import Operator
from allmend.errors import FetchError, NotFound, Refused, Unavailable
from allmend.locking import build, clones, fetch, store
from allmend.models.fetch import locked
from allmend.nouns.lock import Interpreter, Lock, LockedPackage

_MADE = ("git", "folder", "sdist")


def _key(package: LockedPackage) -> list[object]:
    from allmend.locking.gather import _machine

    if package.via == "sdist":
        return [package.sha256, *_machine()]
    return [package.url, package.commit, package.subdirectory, *_machine()]


def bring_packages(
    packages: Sequence[LockedPackage], operator: Operator, tell: Callable[[str], None]
) -> list[LockedPackage]:
    """Every wheel into the cache, held to its digest; returns the packages, with digests an index did not tell.

    Raises `FetchError` or `NotFound` for what changed or is gone upstream.
    """
    wanted = [one for one in packages if one.via not in (*_MADE, "base") and not store.has(one.sha256, one.bytes)]
    if wanted:
        total = sum(one.bytes or 0 for one in wanted)
        tell(f"fetching {len(wanted)} packages" + (f", {total / 2**20:.0f} MiB" if total else ""))
    with ThreadPoolExecutor(8) as pool:
        brought = dict(zip([one.name for one in wanted], pool.map(_bring, wanted), strict=True))
    for one in packages:
        if one.via in _MADE:
            rebuild(one, operator)
    return [brought.get(one.name, one) for one in packages]


def _bring(package: LockedPackage) -> LockedPackage:
    if not package.sha256:
        from urllib.parse import unquote, urlsplit

        split = urlsplit(package.url)
        if split.scheme == "file":
            digest, size = store.add_file(Path(unquote(split.path)))
        else:
            got = fetch.file(package.url)
            digest, size = got.sha256, got.bytes
        return package.model_copy(update={"sha256": digest, "bytes": size})
    try:
        wheel_of(package)
    except FetchError as error:
        raise FetchError(
            f"{package.name} {package.version}: {error.message}", where=error.where or package.url,
            hint=f"{error.hint or ''} It was locked as uploaded {package.uploaded or 'on an unknown day'}.".strip(),
        ) from None  # fmt: skip
    return package


def wheel_of(package: LockedPackage) -> None:
    """A locked wheel into the cache: from where it was locked, or else from this machine's own index by its name."""
    try:
        fetch.wheel(package.url, package.sha256)
    except NotFound:
        from allmend.models.index import PackageIndex

        try:
            with PackageIndex() as index:
                fetch.wheel(index.locate(package.name, package.version, package.file), package.sha256)
        except NotFound:
            raise NotFound(
                f"{package.name} {package.version}: the locked file {package.file} is gone from the index and not in "
                "the cache",
                where=package.url,
                hint="Copy the cache of a machine that has it, or take another version: "
                f"`allmend lock NOTEBOOK --update {package.name}`.",
            ) from None


def rebuild(package: LockedPackage, operator: Operator) -> build.Built:
    """The wheel of a package that comes as source: as built before, or built in the box once more."""
    made = build.cached(_key(package))
    if made is not None:
        return made
    what = f"{package.name} {package.version}"
    with tempfile.TemporaryDirectory() as name:
        if package.via == "sdist":
            source = Path(name) / package.file
            if not store.has(package.sha256):
                fetch.wheel(package.url, package.sha256)
            source.write_bytes(store.place(package.sha256).read_bytes())
            return build.wheel(source, what, key=_key(package), operator=operator)
        commit = package.commit or ""
        clones.fetch(package.url, clones.Found(commit, ""))
        source = Path(name) / "source.tar"
        clones.archive(package.url, commit, source, package.subdirectory)
        return build.wheel(source, what, key=_key(package), operator=operator, tree=True, commit=commit)


def site_of(lock: Lock) -> Path:
    """Where a lock's packages are installed, there or not."""
    parts = [(one.name, one.version, one.sha256, one.commit, one.subdirectory) for one in own(lock)]
    key = installing.key(parts, lock.python.model_dump(), os.path.realpath(sys.executable))
    return installing.cache() / f"locked-py{lock.python.version}-{key}" / "site-packages"


def own(lock: Lock) -> list[LockedPackage]:
    """The packages that a lock brings, without those of the environment beneath."""
    return [one for one in lock.packages if one.via != "base"]


def environment(lock: Lock, operator: Operator, tell: Callable[[str], None] = lambda text: None) -> Environment:
    """The environment of a locked run, built on first use.

    Raises `Refused` where this machine's interpreter, or with the profile `this` its packages, are not those locked;
    `FetchError` for a damaged cache that cannot be mended.
    """
    check_interpreter(lock)
    site = site_of(lock)
    if own(lock) and not _whole(site, lock):
        _install_once(lock, site, operator, tell)
    sites = (str(site),) if own(lock) else ()
    if lock.base.profile == "this":
        beneath = environments.of()
        check_beneath(lock, beneath)
        return in_front(beneath, sites)
    base = os.path.realpath(sys.executable)
    roots = [*sites] + ([] if base.startswith("/usr/") else [str(Path(base).parent.parent)])
    day = lock.as_of or ""
    return Environment("locked", lock.python.version, base, tuple(roots), sites, pip=True, dated=day)


def in_front(chosen: Environment, folders: Sequence[str]) -> Environment:
    """An environment with more package folders, which come first."""
    return replace(chosen, sites=(*folders, *chosen.sites), roots=(*chosen.roots, *folders))


def interpreter() -> Interpreter:
    """The interpreter and machine that this lock is for."""
    platform = sysconfig.get_platform()
    if sys.platform == "linux":
        libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None
        platform += f" {libc}" if libc else ""
    version = ".".join(map(str, sys.version_info[:3]))
    return Interpreter(implementation=sys.implementation.name, version=version, platform=platform)


def check_interpreter(lock: Lock) -> None:
    """Raises `Unavailable` where the lock was made for another interpreter or kind of machine."""
    here, there = interpreter(), lock.python
    if (here.implementation, here.version.rsplit(".", 1)[0]) != (
        there.implementation,
        there.version.rsplit(".", 1)[0],
    ):
        short = there.version.rsplit(".", 1)[0]
        raise Unavailable(
            f"this lock is for {there.implementation} {there.version}; allmend runs on {here.version} here",
            hint=f"Install allmend into a Python {short} (`uv tool install --python {short} allmend`), "
            "or lock again on this one.",
        )
    if here.platform.split()[0] != there.platform.split()[0]:
        raise Unavailable(
            f"this lock is for {there.platform}; this machine is {here.platform}",
            hint="Lock again here: wheels differ by machine.",
        )


def check_beneath(lock: Lock, beneath: Environment) -> None:
    """Raises `Refused` naming packages of the profile `this` that are not what they were."""
    there = sets.installed(beneath)
    changed = [
        f"{one.name} {one.version} is {there.get(one.name, 'gone')}" for one in lock.packages
        if one.via == "base" and there.get(one.name) != one.version
    ]  # fmt: skip
    if changed:
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise Refused(
            f"the environment that was locked has changed: {'; '.join(changed[:5])}{more}",
            hint="Lock with --profile base for packages that stay, or lock again.",
        )


def _whole(site: Path, lock: Lock) -> bool:
    """Whether the folder is complete as far as its own list tells: every package's files, by name and size."""
    try:
        listed = json.loads((site.parent / "complete").read_text())
        return all((site / name).stat().st_size == size for name, size in listed)
    except (OSError, ValueError, TypeError):
        return False


def _install_once(lock: Lock, site: Path, operator: Operator, tell: Callable[[str], None]) -> None:
    """Runs of one lock may come first together: the second waits, and must not take away what the first works with."""
    before = site.parent.exists()
    site.parent.mkdir(parents=True, exist_ok=True)
    with locked(site.parent / ".lock"):
        if _whole(site, lock):
            return
        if before:
            tell("the packages in the cache are incomplete: building them again")
        _install(lock, site, operator, tell)


def _install(lock: Lock, site: Path, operator: Operator, tell: Callable[[str], None]) -> None:
    uv = installing.uv_program()
    if uv is None:
        raise Unavailable("uv is not installed", hint="pip install uv")
    temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=site.parent))
    try:
        wheels = temporary / "wheels"
        wheels.mkdir()
        files = [str(_wheel(one, wheels, operator, tell)) for one in own(lock)]
        command = [uv, "pip", "install", "--python", sys.executable, "--target", str(temporary / "site"), "--no-config",
                   "--no-deps", "--no-index", "--offline", "--link-mode", "copy", "--compile-bytecode",
                   *files]  # fmt: skip
        variables = {name: os.environ[name] for name in ("PATH", "HOME", "XDG_CACHE_HOME", "UV_CACHE_DIR", "TMPDIR")
                     if name in os.environ}  # fmt: skip
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=1800)
        if done.returncode != 0:
            raise FetchError(f"the locked packages could not be installed: {done.stderr.strip()[-600:]}")
        made = temporary / "site"
        made.chmod(0o755)
        if site.exists():
            shutil.rmtree(site)
        made.rename(site)
        (site.parent / "complete").write_text(json.dumps(_listing(site)))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _wheel(package: LockedPackage, folder: Path, operator: Operator, tell: Callable[[str], None]) -> Path:
    """A wheel from the cache under its own name, read through and found whole; fetched again where it is not."""
    if package.via in _MADE:
        made = rebuild(package, operator)
        name, digest = made.file, made.sha256
    else:
        name, digest = package.file, package.sha256
    path = store.checked(digest)
    if path is None:
        if package.via in _MADE:
            raise FetchError(f"the wheel of {package.name} in the cache is damaged", hint="Run it again to rebuild it.")
        tell(f"{package.name} {package.version} is missing from the cache, or damaged there: fetching it again")
        try:
            wheel_of(package)
        except (FetchError, NotFound) as error:
            raise FetchError(
                f"{package.name} {package.version} is damaged or missing in the cache and could not be fetched again: "
                f"{error.message}",
                where=package.url,
                hint="Connect this machine to the index, or copy the cache of one that has it.",
            ) from None
        path = store.place(digest)
    target = folder / name
    if not target.exists():
        shutil.copyfile(path, target)
    return target


def _listing(site: Path) -> list[tuple[str, int]]:
    """The RECORD files, which name every other file, and the modules at the top: (path, size)."""
    found = [*site.glob("*.dist-info/RECORD"), *site.glob("*.py"), *site.glob("*/__init__.py")]
    return [(str(path.relative_to(site)), path.stat().st_size) for path in sorted(found)]
