"""The forms of a lock: TOML beside the notebook, the notebook's own metadata, and what uv, pip and juv read."""

from __future__ import annotations

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from allmend.errors import InputError, NotFound
from allmend.nouns.lock import Lock, LockedPackage

_HEAD = """\
# What this notebook installs and fetches, exactly. Made by `allmend lock`; `allmend run --locked` holds a run to it.
# The same lock lies in the notebook's metadata, under `allmend`.

"""


def beside(notebook: Path) -> Path:
    """Where a notebook's readable lock lies."""
    return notebook.with_name(f"{notebook.stem}.lock.toml")


def to_toml(lock: Lock) -> str:
    """The lock as TOML: the same bytes for the same lock."""
    plain = _plain(lock)
    tables = {name: value for name, value in plain.items() if _is_table(value)}
    lines = [f"{name} = {_value(value)}" for name, value in plain.items() if name not in tables]
    for name, value in tables.items():
        for one in value if isinstance(value, list) else [value]:
            lines += ["", f"[[{name}]]" if isinstance(value, list) else f"[{name}]"]
            lines += [f"{key} = {_value(inner)}" for key, inner in one.items()]
    return _HEAD + "\n".join(lines) + "\n"


def _plain(lock: Lock) -> dict[str, Any]:
    """The lock as plain values without what is empty."""
    return {"schema": lock.schema_, **lock.model_dump(mode="json", by_alias=True, exclude_defaults=True)}


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        if not value:
            return "[]"
        return "[\n" + "".join(f"  {_value(inner)},\n" for inner in value) + "]"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for these two that TOML wants escaped as well.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return str(value)


def read_toml(path: Path) -> Lock:
    """Read a lock file; raises `NotFound`, `InputError`."""
    try:
        return _lock(tomllib.loads(path.read_bytes().decode("utf-8")), str(path))
    except FileNotFoundError:
        raise NotFound("there is no such lock", where=str(path), hint="`allmend lock NOTEBOOK` makes it.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"this is no lock: {error}"[:300], where=str(path), hint="Lock the notebook again.") from None


def _lock(value: object, where: str) -> Lock:
    try:
        return Lock.model_validate(value)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise InputError(
            f"this is no lock that this allmend reads: {place}: {problem['msg']}"[:300], where=where,
            hint="It was edited, or made by another version: lock the notebook again.",
        ) from None  # fmt: skip


def read(notebook: Path) -> Lock | None:
    """The lock of a notebook: from its metadata and the file beside it, which have to agree; None without either.

    Raises `InputError` where they differ or cannot be read.
    """
    inside = _inside(notebook)
    file = beside(notebook)
    outside = read_toml(file) if file.is_file() else None
    if inside is not None and outside is not None and inside != outside:
        raise InputError(
            f"the lock in the notebook and {file.name} differ", where=str(notebook),
            hint=f"Delete the one that is not meant (`allmend lock {notebook.name} --from {file.name}` puts the file's "
            "into the notebook), or lock again.",
        )  # fmt: skip
    return inside or outside


def _inside(notebook: Path) -> Lock | None:
    if notebook.suffix == ".py":
        return None
    try:
        data = json.loads(notebook.read_bytes())
        kept = data["metadata"]["allmend"]["lock"]
    except FileNotFoundError:
        raise NotFound("there is no such notebook", where=str(notebook)) from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return _lock(kept, f"{notebook}: metadata.allmend.lock")


def write(notebook: Path, lock: Lock) -> list[Path]:
    """Put a lock into a notebook's metadata and beside it; returns the files written.

    The rest of the notebook keeps its bytes as far as its own way of writing JSON can be told.
    """
    written = [beside(notebook)]
    if notebook.suffix != ".py":
        text = notebook.read_bytes().decode("utf-8-sig")
        data = json.loads(text)
        metadata = data.setdefault("metadata", {})
        mine = metadata.get("allmend")
        metadata["allmend"] = {**(mine if isinstance(mine, dict) else {}), "lock": _plain(lock)}
        ascii_only = text.isascii() and "\\u" in text
        made = json.dumps(data, indent=_indent(text), ensure_ascii=ascii_only, sort_keys=_sorted(data, metadata))
        _replace(notebook, made + ("\n" if text.endswith("\n") else ""))
        written.append(notebook)
    _replace(beside(notebook), to_toml(lock))
    return written


def _indent(text: str) -> int | None:
    match = re.match(r"\{\r?\n( +)", text)
    return len(match[1]) if match else None if "\n" not in text.strip() else 1


def _sorted(data: dict[str, Any], metadata: dict[str, Any]) -> bool:
    others = [name for name in metadata if name != "allmend"]
    return list(data) == sorted(data) and others == sorted(others) and list(data)[:1] == ["cells"]


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_bytes(text.encode("utf-8", "surrogatepass"))
    if path.exists():
        temporary.chmod(path.stat().st_mode & 0o777)
    temporary.replace(path)


def requirements(lock: Lock) -> str:
    """requirements.txt with digests, for `uv pip sync` and `pip install --require-hashes --no-deps`."""
    lines = [f"# {lock.notebook}, locked for Python {lock.python.version} on {lock.python.platform}"]
    lines += [f"# as of {lock.as_of}"] if lock.as_of else []
    lines += [f"# not here: {one.what} ({one.why})" for one in lock.unlocked if one.what.startswith("package ")]
    for one in lock.packages:
        lines.append(_requirement(one))
    return "\n".join(lines) + "\n"


def _requirement(package: LockedPackage) -> str:
    if package.via in ("git", "folder"):
        fragment = f"#subdirectory={package.subdirectory}" if package.subdirectory else ""
        return f"{package.name} @ git+{package.url}@{package.commit}{fragment}"
    digest = f" \\\n    --hash=sha256:{package.sha256}" if package.sha256 else ""
    if package.via in ("url", "sdist") and package.url.startswith("http") and package.via == "url":
        return f"{package.name} @ {package.url}{digest}"
    return f"{package.name}=={package.version}{digest}"


def pep723(lock: Lock) -> str:
    """A PEP 723 block with every version exact, as uv and juv read it."""
    from allmend.locking.lines import name_of

    short = lock.python.version.rsplit(".", 1)[0]
    asked = {name_of(line.removeprefix("pip ")) for line in lock.asks if line.startswith("pip ")}
    asked |= {name_of(text) for text in (*lock.base.requirements, *lock.base.implied)}
    direct = [one for one in lock.packages if one.name in asked or one.via not in ("index", "base")]
    rest = [one for one in lock.packages if one not in direct and one.via != "base"]
    lines = ["# /// script", f'# requires-python = "=={short}.*"', "# dependencies = ["]
    lines += [f"#   {json.dumps(_requirement(one).partition(' ' + chr(92))[0])}," for one in direct]
    lines += ["# ]"]
    if rest:
        lines += ["#", "# [tool.uv]", "# constraint-dependencies = ["]
        lines += [f"#   {json.dumps(f'{one.name}=={one.version}')}," for one in rest]
        lines += ["# ]"]
    return "\n".join([*lines, "# ///"]) + "\n"


def juv(lock: Lock, content: dict[str, Any]) -> dict[str, Any]:
    """A copy of a notebook (nbformat 4) whose first cell holds the PEP 723 block, as juv keeps it."""
    cell: dict[str, Any] = {
        "cell_type": "code", "source": pep723(lock).rstrip("\n"), "outputs": [], "execution_count": None,
        "metadata": {"jupyter": {"source_hidden": True}},
    }  # fmt: skip
    return {**content, "cells": [cell, *content["cells"]]}
