"""Taking declared outputs out of the working folder, after everything inside has ended.

Only plain files come out: no links, devices, dotfiles, `.git`, nothing that another program would run by
itself later.
Every step is made from a directory descriptor without following links, and copies are bounded.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

MOST_FILES = 10_000
_STARTS_LATER = {
    "sitecustomize.py",
    "usercustomize.py",
    "conftest.py",
    "makefile",
    "gnumakefile",
    "setup.py",
    "setup.cfg",
    "pyproject.toml",
    "tox.ini",
    "noxfile.py",
    "dodo.py",
    "fabfile.py",
    "tasks.py",
    "rakefile",
    "gruntfile.js",
    "gulpfile.js",
    "package.json",
    "justfile",
    "vagrantfile",
    "dockerfile",
    "autorun.inf",
    "desktop.ini",
    "activate_this.py",
    "jupyter_notebook_config.py",
    "jupyter_server_config.py",
    "ipython_config.py",
    "__init__.py",
    "__main__.py",
}
_STARTS_LATER_SUFFIX = (".pth", ".desktop", ".lnk", ".url", ".scf", ".service", ".code-workspace")
DEFAULT_OUTPUTS = ("outputs/**",)


@dataclass(frozen=True)
class Exported:
    """One file of the working folder that was declared as an output."""

    path: str
    bytes: int
    refused: str | None = None
    """Why it did not come out."""


def matches(path: str, globs: Sequence[str]) -> bool:
    """Whether a relative path is inside the globs; `**` also crosses folders, `*` does not."""
    return any(_pattern(glob).fullmatch(path) for glob in globs)


def _pattern(glob: str) -> re.Pattern[str]:
    text = ""
    for part in re.split(r"(\*\*/|\*\*|\*|\?)", glob.removeprefix("./")):
        text += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part))
    return re.compile(text, re.DOTALL)


def why_not(path: str) -> str | None:
    """Why a name may not come out, or None."""
    parts = path.split("/")
    if any(part.startswith(".") or part in ("", "..") for part in parts):
        return "hidden files stay inside"
    if any(ord(c) < 32 or c == "\x7f" for c in path):
        return "its name holds control characters"
    last = parts[-1].lower()
    if last in _STARTS_LATER or last.endswith(_STARTS_LATER_SUFFIX) or fnmatch.fnmatch(last, "*.so*"):
        return "other programs run a file of this name by themselves"
    return None


def export(
    folder: Path, destination: Path, globs: Sequence[str], *, most_bytes: int, changed_only: bool = False
) -> list[Exported]:
    """Copy the declared outputs of `folder` into `destination` (made when there is something to put there).

    A file that may not come out is listed with the reason. `most_bytes` bounds all of them together.
    `changed_only`
    leaves out what lies in `destination` with the same size and time.
    """
    results: list[Exported] = []
    left = most_bytes
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for path, status in _walk(root, ""):
            if not matches(path, globs) or (changed_only and _same(destination / path, status)):
                continue
            refused = why_not(path) or _why_not_status(status)
            if refused is None and status.st_size > left:
                refused = "the outputs are larger than the disk limit"
            if refused is None and len(results) >= MOST_FILES:
                refused = f"there are more than {MOST_FILES} outputs"
            if refused is None:
                try:
                    left -= _copy(root, path, destination, left)
                except OSError as error:
                    refused = f"it could not be copied ({error.strerror})"
            results.append(Exported(path, status.st_size, refused))
            if len(results) > MOST_FILES:
                break
    finally:
        os.close(root)
    return results


def _same(there: Path, status: os.stat_result) -> bool:
    try:
        other = there.lstat()
    except OSError:
        return False
    kind = stat.S_IFMT(other.st_mode) == stat.S_IFMT(status.st_mode)
    return kind and (other.st_size, other.st_mtime_ns) == (status.st_size, status.st_mtime_ns)


def _why_not_status(status: os.stat_result) -> str | None:
    if stat.S_ISLNK(status.st_mode):
        return "links stay inside"
    return None if stat.S_ISREG(status.st_mode) else "only plain files come out"


def _walk(fd: int, prefix: str, depth: int = 0) -> Iterator[tuple[str, os.stat_result]]:
    """Everything beneath `fd` but folders, never through a link."""
    if depth > 64:
        return
    for name in sorted(os.listdir(fd)):
        path = f"{prefix}{name}"
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                yield path, status
                continue
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        except OSError:
            continue
        try:
            yield from _walk(inner, f"{path}/", depth + 1)
        finally:
            os.close(inner)


def _copy(root: int, path: str, destination: Path, most: int) -> int:
    """Copy one file by rename into place; returns its bytes. Execute bits and times are not taken over."""
    source = _open_beneath(root, path)
    try:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise OSError(errno.EINVAL, "not a plain file")
        target = destination / path
        _make_folders(destination, path)
        temporary = target.with_name(f".{target.name[:200]}.part")
        out = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        copied = 0
        try:
            while block := os.read(source, 1 << 20):
                copied += len(block)
                if copied > most:
                    raise OSError(errno.EFBIG, "larger than the disk limit")
                os.write(out, block)
            temporary.rename(target)
        except OSError:
            temporary.unlink()
            raise
        finally:
            os.close(out)
        return copied
    finally:
        os.close(source)


def _open_beneath(root: int, path: str) -> int:
    """Open a relative path for reading, refusing a link at every step."""
    fd = os.dup(root)
    *folders, last = path.split("/")
    try:
        for name in folders:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = inner
        return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    finally:
        os.close(fd)


def _make_folders(destination: Path, path: str) -> None:
    folder = destination
    folder.mkdir(parents=True, exist_ok=True)
    for name in path.split("/")[:-1]:
        folder = folder / name
        if folder.is_symlink():
            raise OSError(errno.ELOOP, "a link stands in the way")
        folder.mkdir(exist_ok=True)
