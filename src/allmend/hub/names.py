"""What repositories, references and files may be called.

Names come from outside and end as folders on other people's disks: whatever some file system reads as another place,
or refuses, is refused here.
"""

from __future__ import annotations

import re

from allmend.hub.faults import Fault

KINDS = ("model", "dataset", "space")
PLURALS = {f"{kind}s": kind for kind in KINDS}
PREFIXES = {"model": "", "dataset": "datasets/", "space": "spaces/"}

_OWNER = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
_NAME = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
_REF = re.compile(r"(?!.*(?://|\.\.|@\{|\.lock(?:/|\Z)))[A-Za-z0-9_](?:[A-Za-z0-9_./+-]{0,198}[A-Za-z0-9_+-])?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LONGEST_PATH = 1024
_LONGEST_PART = 255
_RESERVED = frozenset({"api", "datasets", "spaces", "models", "resolve", "xet", "login", "settings", "docs", "static",
                       "v1", "v2", "lfs", "health", "openapi.json"})  # fmt: skip
_GIT_TRICK = re.compile(r"\.git[\s.]*(?:::?\$.*)?|git~[0-9]+", re.IGNORECASE)
"""Spellings that some file system takes for git's own folder."""


def check_repository(owner: str, name: str) -> None:
    """Raise a 400 for an owner or a name that no repository may have."""
    if len(owner) + len(name) > 95 or not _OWNER.fullmatch(owner) or not _NAME.fullmatch(name):
        raise Fault(400, f"{owner}/{name}"[:200] + " is no name for a repository: letters, digits, '-', '_' and '.', "
                         "96 characters at most, not '--' or '..'.")  # fmt: skip
    if owner.lower() in _RESERVED:
        raise Fault(400, f"{owner!r} cannot own repositories: the hub's own addresses begin so.")
    if name.lower().endswith((".git", ".ipynb")):
        raise Fault(400, "A repository's name cannot end in .git or .ipynb.")


def check_path(path: str) -> str:
    """A file's path inside a repository as it is kept; raises a 422 for one that some machine reads otherwise."""
    if not path or len(path) > _LONGEST_PATH:
        raise Fault(422, f"A path has 1 to {_LONGEST_PATH} characters.")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise Fault(422, "A path must be Unicode text.") from None
    if any(ord(sign) < 32 or ord(sign) == 127 for sign in path) or "\\" in path:
        raise Fault(422, f"{path[:80]!r} holds a control character or a backslash.")
    for part in path.split("/"):
        if part in ("", ".", ".."):
            raise Fault(422, f"{path[:200]!r} is no path inside a repository.")
        if len(part.encode()) > _LONGEST_PART:
            raise Fault(422, f"A file's name has at most {_LONGEST_PART} bytes.")
        if _GIT_TRICK.fullmatch(part):
            raise Fault(422, f"{part!r} is git's own name.")
    return path


def check_branch(name: str) -> str:
    """A branch's or tag's name; raises a 400 for one that git would refuse or that means something else."""
    if not _REF.fullmatch(name) or _COMMIT.fullmatch(name) or name.startswith("refs/") or name == "HEAD":
        raise Fault(400, f"{name[:120]!r} is no name for a branch or a tag.")
    return name


def is_commit(text: str) -> bool:
    """Whether a revision is written as a whole commit's name."""
    return _COMMIT.fullmatch(text) is not None
