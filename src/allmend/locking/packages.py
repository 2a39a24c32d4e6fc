"""Packages: which versions a set of requirements comes to, by uv, from wheels alone, as of a day where one is named.

uv runs outside the box with `--only-binary :all:`, so that it reads metadata and builds nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from allmend.box import installing, owner
from allmend.box.owner import Operator
from allmend.errors import FetchError, InputError, NotFound, Unavailable
from allmend.nouns.lock import LockedPackage

_FAR = 20
"""Tries at most, each after learning something from the last one's refusal."""


@dataclass
class Question:
    """What is asked of the index."""

    requirements: list[str]
    options: list[str] = field(default_factory=list)
    """Options of the notebook's own lines: `--extra-index-url URL`, `--find-links URL`, `--pre`."""
    as_of: str | None = None
    kept: list[str] = field(default_factory=list)
    """`name==version` of an earlier lock, kept where the requirements allow it."""
    excludes: list[str] = field(default_factory=list)
    """Packages that are there already and are not asked for."""
    folder: Path | None = None
    """Wheels built or fetched for this question."""
    overrides: list[str] = field(default_factory=list)
    timeless: tuple[str, ...] = ()
    """Packages that the day does not hold for: the kernel that allmend brings."""


@dataclass
class Answer:
    """What uv came to."""

    packages: list[LockedPackage]
    notes: list[str] = field(default_factory=list)


class NeedsSource(Exception):
    """Some packages have no wheel: `names` with the specifier that was tried."""

    def __init__(self, names: list[str], said: str) -> None:
        super().__init__(said)
        self.names = names
        self.said = said


class Conflict(InputError):
    """The requirements exclude each other."""


def resolve(question: Question, operator: Operator) -> Answer:
    """The packages that meet the requirements, with digests.

    Raises:
        NeedsSource: a package has no usable wheel.
        Conflict: the requirements exclude each other.
        NotFound: a package or version does not exist, or did not on that day.
        FetchError: the index does not answer.
    """
    notes: list[str] = []
    undated: list[str] = []
    kept = question.kept
    for _ in range(_FAR):
        done, listed = _uv(question, operator, kept, undated)
        if done.returncode == 0 and listed is not None:
            if question.as_of:
                notes += _undated_notes(done.stderr, undated, question.as_of)
            return Answer(_packages(listed), notes)
        said = done.stderr
        if kept:
            kept = []  # they were a preference; what changed does not go with them
            continue
        lacking = [name for name in _without_dates(said) if name not in undated]
        if question.as_of and lacking and "was filtered by `exclude-newer`" in said:
            undated += lacking
            continue
        raise _trouble(said, question)
    raise FetchError("the packages could not be resolved in twenty tries")


def _uv(
    question: Question, operator: Operator, kept: list[str], undated: list[str]
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any] | None]:
    uv = installing.uv_program()
    if uv is None:
        raise Unavailable("uv is not installed", hint="pip install uv")
    with tempfile.TemporaryDirectory(prefix="allmend-lock-") as name:
        folder = Path(name)
        command = [uv, "pip", "compile", str(_list(folder, "in", question.requirements)), "--no-config", "--no-header",
                   "--only-binary", ":all:", "--python", sys.executable, "--format", "pylock.toml",
                   "-o", str(folder / "pylock.toml")]  # fmt: skip
        for flag, lines in (("--constraints", kept), ("--excludes", question.excludes),
                            ("--overrides", question.overrides)):  # fmt: skip
            if lines:
                command += [flag, str(_list(folder, flag.strip("-"), lines))]
        if question.as_of:
            command += ["--exclude-newer", f"{question.as_of}T23:59:59Z"]
            for package in dict.fromkeys([*undated, *question.timeless]):
                command += ["--exclude-newer-package", f"{package}=false"]
        command += _sources(question)
        variables = _variables(operator)
        try:
            done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=900)
        except subprocess.TimeoutExpired:
            raise FetchError("the package index did not answer within 15 minutes") from None
        try:
            return done, tomllib.loads((folder / "pylock.toml").read_text())
        except (OSError, tomllib.TOMLDecodeError):
            return done, None


def _list(folder: Path, name: str, lines: Sequence[str]) -> Path:
    path = folder / f"{name}.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def _sources(question: Question) -> list[str]:
    """Indexes of the notebook's own lines, for uv; pip trusts all of them alike."""
    from allmend.locking.fetch import check_public

    found: list[str] = []
    for option in question.options:
        head, _, value = option.partition(" ")
        if head in ("--index-url", "--extra-index-url"):
            check_public(value)
            found += ["--index", value]
        elif head == "--find-links" and "://" in value:
            check_public(value)
            found += ["--find-links", value]
        elif head == "--pre":
            found += ["--prerelease", "allow"]
    if question.folder is not None:
        found += ["--find-links", str(question.folder)]
    if "--index" in found:
        found += ["--index-strategy", "unsafe-best-match"]
    return list(found)


_KEPT = (
    *("PATH", "HOME", "XDG_CACHE_HOME", "UV_CACHE_DIR", "SSL_CERT_DIR", "TMPDIR"),
    *("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"),
)


def _variables(operator: Operator) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    found = {**kept, **owner.uv_variables(operator.settings), **operator.certificates}
    if operator.settings.get("no-index"):
        found["UV_NO_INDEX"] = "1"
    return {**found, "UV_PYTHON_DOWNLOADS": "never"}


def _without_dates(said: str) -> list[str]:
    """Packages with files that carry no upload time, from uv's warnings."""
    found = re.findall(r"`([^`]+)` is missing an upload date", said)
    names = [re.sub(r"[-_.]+", "-", file.split("-")[0]).lower() for file in found]
    return list(dict.fromkeys(names))


def _undated_notes(said: str, undated: list[str], day: str) -> list[str]:
    notes = [
        f"{name}: its index does not say when files appeared, so {day} is not held for it" for name in sorted(undated)
    ]
    left_out = sorted(set(_without_dates(said)) - set(undated))
    if left_out:
        shown = ", ".join(left_out[:6]) + (f" and {len(left_out) - 6} more" if len(left_out) > 6 else "")
        notes.append(f"files without an upload time were left out for {shown}; another index tells the times")
    return notes


def _trouble(said: str, question: Question) -> Exception:
    said = re.sub(r"^(?:warning|Resolved).*\n?", "", said, flags=re.MULTILINE).strip()
    sources = re.findall(r"Wheels are required for `([^`]+)`", said)
    if sources:
        return NeedsSource(list(dict.fromkeys(sources)), said)
    because = " ".join(re.sub(r"^\s*(?:error|cause):\s*", "", line) for line in said.splitlines()).strip()[:900]
    missing = re.findall(r"(\S+) was not found in the package registry", said)
    if missing:
        names = ", ".join(dict.fromkeys(missing))
        return NotFound(
            f"no index knows the package {names}: it was taken down, renamed, or is private",
            hint="If another package needs it, pin an older one; else change the install line.",
        )
    filtered = re.findall(r"`(\S+)` was filtered by `exclude-newer`", said)
    if filtered and question.as_of:
        names = ", ".join(dict.fromkeys(filtered))
        return NotFound(f"{names} was not there on {question.as_of} in a version that fits", hint=f"uv says: {because}")
    if re.search(r"no version of (\S+)|there are no versions of", said) and "depends on" not in said and (
        "you require" in said) and not _two_pins(said):  # fmt: skip
        return NotFound("a version that is asked for does not exist", hint=f"uv says: {because}")
    if "No solution found" in said:
        return Conflict("the packages exclude each other", hint=f"uv says: {because}")
    if "Failed to fetch" in said or "Request failed" in said or "client error" in said:
        return FetchError("the package index does not answer", hint=f"uv says: {because}")
    return InputError(f"a requirement cannot be read: {because}")


def _two_pins(said: str) -> bool:
    pins = re.findall(r"you require (\S+?)[=<>]\S* and (\S+?)[=<>]", said)
    return any(first == second for first, second in pins)


def _packages(listed: dict[str, Any]) -> list[LockedPackage]:
    """pylock.toml (PEP 751) as locked packages: of each, the wheel that this interpreter prefers."""
    from packaging.tags import sys_tags

    order = {str(tag): place for place, tag in enumerate(sys_tags())}
    found = []
    for package in listed.get("packages", []):
        wheels = list(package.get("wheels") or [])
        if package.get("archive"):
            wheels = [package["archive"]]
        if not wheels:
            raise FetchError(f"{package.get('name')} has no wheel for this machine")
        best = min(wheels, key=lambda wheel: _rank(wheel, order))
        uploaded = best.get("upload-time")
        found.append(LockedPackage(
            name=str(package["name"]), version=str(package.get("version", "")), file=_file(best), url=_url(best),
            sha256=str(best.get("hashes", {}).get("sha256", "")), bytes=best.get("size"),
            uploaded=uploaded.isoformat().replace("+00:00", "Z") if uploaded else None,
        ))  # fmt: skip
    return sorted(found, key=lambda package: package.name)


def _url(wheel: dict[str, Any]) -> str:
    return str(wheel.get("url") or Path(str(wheel.get("path", ""))).absolute().as_uri())


def _file(wheel: dict[str, Any]) -> str:
    from urllib.parse import unquote, urlsplit

    return unquote(urlsplit(_url(wheel)).path).rsplit("/", 1)[-1]


def _rank(wheel: dict[str, Any], order: dict[str, int]) -> tuple[int, str]:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        tags = parse_wheel_filename(_file(wheel))[3]
    except InvalidWheelFilename:
        return 10**9, _file(wheel)
    return min((order.get(str(tag), 10**8) for tag in tags), default=10**9), _file(wheel)


def source_of(name: str, requirements: Sequence[str], as_of: str | None) -> tuple[str, str, str]:
    """(version, file, address) of the newest source archive that the requirements on `name` allow.

    Raises `NotFound`.
    """
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    from allmend.models.index import PackageIndex

    allowed = []
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if canonicalize_name(requirement.name) == name:
            allowed.append(requirement.specifier)
    with PackageIndex() as index:
        try:
            candidates = list(index._finder.find_all_packages(name, allow_yanked=False))
        except Exception as error:  # the client's own and unearth's errors share no base
            raise FetchError(f"the package index could not be asked for {name}: {error}") from None
    fitting = [
        candidate for candidate in candidates
        if candidate.link.filename.endswith((".tar.gz", ".zip"))
        and all(specifier.contains(str(candidate.version), prereleases=True) for specifier in allowed)
        and (as_of is None or str(getattr(candidate.link, "upload_time", "") or "")[:10] <= as_of)
    ]  # fmt: skip
    if not fitting:
        raise NotFound(f"{name} has neither a wheel for this machine nor a source archive that fits")
    from packaging.version import Version

    best = max(fitting, key=lambda candidate: Version(str(candidate.version)))
    return str(best.version), best.link.filename, str(best.link.url_without_fragment)
