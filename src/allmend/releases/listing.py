"""Which files a release has, with digests: `SHA256SUMS`, readable by `sha256sum -c`, and checked both ways."""

from __future__ import annotations

import re
from pathlib import Path

from allmend.digests import file_digest
from allmend.errors import InputError

SUMS, SIGNATURE, SIGNER, RELEASE = "SHA256SUMS", "model.sig", "signer.pub", "release.json"
STATEMENT, BOM, CARD, PARITY, VERDICT = (
    "lineage.intoto.json",
    "bom.cdx.json",
    "README.md",
    "parity.json",
    "verdict.json",
)
_LINE = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<path>[^\n]+)")


ADDED = (".gitattributes", ".cache/huggingface")
"""What hubs and their clients put beside the files of a release: not part of it, read by nothing that loads one."""


def files_of(folder: Path) -> list[str]:
    """Relative paths of everything below `folder`, hidden files too; raises `InputError` at a link."""
    return [name for name in _all(folder) if not _is_added(name)]


def added_to(folder: Path) -> list[str]:
    """Relative paths of what a hub or its client put there."""
    return [name for name in _all(folder) if _is_added(name)]


def _is_added(name: str) -> bool:
    return name in ADDED or name.startswith(f"{ADDED[1]}/")


def _all(folder: Path) -> list[str]:
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise InputError("a release holds no links", where=str(path))
        if path.is_file():
            found.append(path.relative_to(folder).as_posix())
    return found


def write_sums(folder: Path) -> None:
    """List every file but the list itself, the signature and its key."""
    names = [name for name in files_of(folder) if name not in (SUMS, SIGNATURE, SIGNER)]
    lines = [f"{file_digest(folder / name)}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(lines), "utf-8")


def read_sums(folder: Path) -> dict[str, str]:
    """Path: digest. Strict, so that no byte of the list is without meaning."""
    path = folder / SUMS
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError:
        raise InputError(f"there is no {SUMS} here, so this is no release", where=str(folder)) from None
    except UnicodeDecodeError:
        raise InputError("the list of files is damaged", where=str(path)) from None
    if not text.endswith("\n"):
        raise InputError("the list of files is cut short", where=str(path))
    sums: dict[str, str] = {}
    for number, line in enumerate(text[:-1].split("\n"), 1):
        match = _LINE.fullmatch(line)
        parts = Path(match["path"]).parts if match else ()
        if not match or match["path"] in sums or ".." in parts or Path(match["path"]).is_absolute():
            raise InputError("this line of the list of files is damaged", where=f"{path}:{number}")
        sums[match["path"]] = match["digest"]
    return sums
