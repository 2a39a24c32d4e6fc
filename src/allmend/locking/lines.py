"""Requirement lines: of install commands and of the requirements files that they name."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import replace

from allmend.locking.asks import Wanted

Reader = Callable[[str], str | None]
"""The text of a file beside the one that is read; None when it is not there."""

_MOST_LINES = 5000
_DEPTH = 5


def name_of(text: str) -> str | None:
    """The normalised name (PEP 503) that a requirement line asks for; None for a path, an address or nonsense."""
    match = re.match(r"\s*([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)\s*(?=$|[\[=<>!~;@(,])", text)
    return re.sub(r"[-_.]+", "-", match[1]).lower() if match else None


def exact(text: str) -> str | None:
    """The version that a requirement pins exactly (`==1.2`, without a wildcard)."""
    match = re.search(r"={2,3}\s*([^\s*,;]+)\s*(?:;|$)", text)
    return match[1] if match and "," not in text.partition(";")[0] else None


def read(wanted: Wanted, text: str, beside: Reader, depth: int = 0) -> tuple[list[Wanted], list[str]]:
    """A requirements file as requirements and options (as pip's documentation describes the format).

    Editable and folder lines keep where they are inside the clone; `-r` inside is followed.
    """
    found: list[Wanted] = []
    options: list[str] = []
    joined = re.sub(r"\\\r?\n", " ", text)
    for raw in joined.splitlines()[:_MOST_LINES]:
        line = re.sub(r"(?:^|\s)#.*$", "", raw).strip()
        if not line:
            continue
        head, _, rest = line.partition(" ")
        if "=" in head and head.startswith("--"):
            head, _, rest = line.partition("=")
        rest = rest.strip()
        if head in ("-r", "--requirement") and depth < _DEPTH:
            other = beside(rest)
            if other is not None:
                inside = posixpath.join(posixpath.dirname(wanted.inside), rest)
                more, theirs = read(replace(wanted, inside=inside), other, beside, depth + 1)
                found += more
                options += theirs
        elif head in ("-i", "--index-url", "--extra-index-url"):
            options.append(f"--extra-index-url {rest}")
        elif head in ("-f", "--find-links"):
            options.append(f"--find-links {rest}")
        elif head == "--pre":
            options.append("--pre")
        elif head in ("-e", "--editable"):
            found.append(_one(wanted, rest))
        elif not head.startswith("-"):
            found.append(_one(wanted, re.split(r"\s--(?:hash|config-settings|global-option)", line)[0].strip()))
    return found, options


def _one(wanted: Wanted, text: str) -> Wanted:
    base = replace(wanted, text=text, written=None)
    if re.match(r"(?:[\w\[\],.-]+\s*@\s*)?git\+", text):
        return replace(base, source="git", text=text.partition("@ ")[2].strip() if "@ git+" in text else text)
    if re.match(r"(?:[\w\[\],.-]+\s*@\s*)?https?://", text):
        address = text[text.index("http") :].partition(" ")[0]
        return replace(base, source="url", text=address)
    if text.startswith((".", "/")) and wanted.clone:
        folder = posixpath.normpath(posixpath.join(posixpath.dirname(wanted.inside), text))
        return replace(base, source="path", inside="" if folder == "." else folder)
    if text.startswith((".", "/")):
        return replace(base, source="path")
    return replace(base, source="index")


def later_wins(wanted: list[Wanted]) -> tuple[list[str], list[str]]:
    """The requirement texts for one environment, and a note for each pin that a later line replaces.

    pip installs line after line, so the last exact version of a package is the one that stays.
    """
    pins: dict[str, tuple[str, Wanted]] = {}
    notes: list[str] = []
    for one in wanted:
        name, version = name_of(one.text), exact(one.text)
        if name is None or version is None:
            continue
        before = pins.get(name)
        if before is not None and before[0] != version:
            notes.append(
                f"{name}: {before[1].place} asks for {before[0]}, {one.place} for {version}; "
                f"locked to {version}, which is what pip leaves"
            )
        pins[name] = (version, one)
    texts = []
    for one in wanted:
        name, version = name_of(one.text), exact(one.text)
        if name is not None and version is not None and pins[name][0] != version:
            continue
        texts.append(one.text.strip())
    return list(dict.fromkeys(texts)), notes
