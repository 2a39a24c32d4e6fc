"""An exact version and digest for all that a notebook installs or fetches."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from allmend.nouns.noun import Noun, Part

Via = Literal["index", "url", "git", "sdist", "folder", "base"]

# A lock comes with a notebook from a stranger, and its texts become paths, arguments and lines of files.
Sha256 = Annotated[str, StringConstraints(pattern=r"^(?:[0-9a-f]{64})?$")]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^(?:[A-Za-z0-9_][\w.+!%=-]*)?$", max_length=250)]
PackageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.+-]*$", max_length=200)]
Version = Annotated[str, StringConstraints(pattern=r"^[\w.+!:~-]*$", max_length=200)]
Address = Annotated[str, StringConstraints(pattern=r"^(?:(?:https?|file)://[^\x00-\x1f]+)?$", max_length=4000)]
WebAddress = Annotated[str, StringConstraints(pattern=r"^https?://[^\x00-\x1f]+$", max_length=4000)]
Ref = Annotated[
    str, StringConstraints(pattern=r"^(?:[^\s~^:?*\[\\\x00-\x1f./-][^\s~^:?*\[\\\x00-\x1f]*)?$", max_length=250)
]


def _inner(text: str) -> str:
    if text.startswith(("/", "-")) or ".." in text.split("/") or any(ord(c) < 32 for c in text):
        raise ValueError(f"{text!r} leads out of its folder")
    return text


InnerPath = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_inner)]


class LockedPackage(Part):
    """One distribution of the Python environment."""

    name: PackageName
    """Normalised (PEP 503)."""
    version: Version
    via: Via = "index"
    """`url`: a wheel named by its address. `git`, `sdist`, `folder`: source, built into a wheel in the box.
    `base`: already in the environment that the notebook was locked on, by name and version only."""
    file: FileName = ""
    url: Address = ""
    """Of the wheel; of the source where it was built here."""
    sha256: Sha256 = ""
    """Of the wheel; of the source archive for `sdist`; empty for `git` and `folder`, which the commit fixes."""
    bytes: int | None = None
    uploaded: str | None = None
    """When the index says the file appeared; None where it does not say."""
    commit: Commit | None = None
    """Of `git`, and of the clone for `folder`."""
    subdirectory: InnerPath = ""


class LockedClone(Part):
    """A repository at one commit."""

    url: WebAddress
    ref: Ref | None = None
    """The branch, tag or commit that the notebook names; None is the default branch."""
    branch: Ref = ""
    """The branch that the commit was found on, empty when the ref is a tag or a commit."""
    commit: Commit
    committed: str
    """Date of the commit (ISO 8601)."""


class LockedFile(Part):
    """A file by its content."""

    url: WebAddress
    sha256: Sha256
    bytes: int
    modified: str | None = None
    """Last-Modified, as the server said."""


class HubFile(Part):
    """A file of a model or data set repository."""

    path: InnerPath
    sha256: Sha256 = ""
    """Empty for a file of which the hub tells only git's own digest, and that was not fetched."""
    git: str = ""
    """Git's SHA-1 of the blob."""
    bytes: int


class LockedRepository(Part):
    """A model or data set of a hub at one commit."""

    kind: Literal["model", "dataset"]
    name: Annotated[str, StringConstraints(pattern=r"^[\w.-]+(?:/[\w.-]+)?$")]
    """`OWNER/NAME`."""
    revision: Ref | None = None
    """What the notebook names; None is the main branch."""
    commit: Commit
    modified: str | None = None
    files: list[HubFile] = Field(default_factory=list)


class LockedSystemPackage(Part):
    """A package of apt."""

    name: PackageName
    version: Version
    sha256: Sha256 = ""
    url: Address = ""
    bytes: int | None = None
    requested: bool = True
    """Whether the notebook names it; else something it names depends on it."""


class Unlocked(Part):
    """Something the notebook fetches that could not be locked, and why. A locked run refuses it."""

    what: str
    cell: int
    why: str


class Interpreter(Part):
    """What the environment was resolved for."""

    implementation: str
    version: str
    platform: str
    """As `sysconfig.get_platform()` names it, with the C library's version for Linux."""


class Base(Part):
    """The packages that a notebook starts with."""

    profile: Literal["base", "colab", "this"]
    dated: str = ""
    """The day the profile's list was fixed."""
    requirements: list[str] = Field(default_factory=list)
    """What the profile asks for; its packages are locked with the notebook's own."""
    implied: list[str] = Field(default_factory=list)
    """Packages that the notebook imports and never installs, taken from the colab profile's list."""


class Lock(Noun):
    """All that a notebook installs or fetches, exactly; the same bytes for the same choices."""

    schema_: Literal["allmend.lock/1"] = Field("allmend.lock/1", alias="schema")
    notebook: str
    """Its file name."""
    code_sha256: str
    """Over the sources of its code cells, so that running or locking it does not change the digest."""
    as_of: str | None = None
    """The day that packages and clones were asked for; None where none was named."""
    python: Interpreter
    base: Base
    asks: list[str] = Field(default_factory=list)
    """What the notebook asks for, one line each: what the lock was made from."""
    packages: list[LockedPackage] = Field(default_factory=list)
    clones: list[LockedClone] = Field(default_factory=list)
    downloads: list[LockedFile] = Field(default_factory=list)
    repositories: list[LockedRepository] = Field(default_factory=list)
    system: list[LockedSystemPackage] = Field(default_factory=list)
    unlocked: list[Unlocked] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    """What was decided on the way, and what a date could not be held for."""

    def package(self, name: str) -> LockedPackage | None:
        """The package `name` (PEP 503 normal form); None when it is not locked."""
        return next((package for package in self.packages if package.name == name), None)


class LockChange(Part):
    """One difference, in words."""

    what: str
    before: str | None = None
    after: str | None = None
    since: str | None = None
    """When the new state appeared, where the other side tells."""
    words: str


class LockReport(Noun):
    """What stands between a lock and the notebook, or between two locks, or a lock and what is upstream now."""

    schema_: Literal["allmend.lock-report/1"] = Field("allmend.lock-report/1", alias="schema")
    first: str
    second: str
    changes: list[LockChange] = Field(default_factory=list)
    not_checked: list[str] = Field(default_factory=list)
    """What could not be compared, and why. Not checked is never the same."""

    @property
    def same(self) -> bool:
        """Whether nothing differs among what was compared."""
        return not self.changes
