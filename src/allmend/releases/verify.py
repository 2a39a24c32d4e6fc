"""Checking a release, offline: every byte, every statement, the signature. What was not checked is said."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from allmend.digests import file_digest
from allmend.errors import AllmendError, InputError, NotFound
from allmend.nouns.release import Artefact, Release, Verification
from allmend.releases import signing
from allmend.releases.licences import GEMMA_NOTICE
from allmend.releases.lineage import PREDICATE_TYPE, STATEMENT_TYPE
from allmend.releases.listing import (
    BOM,
    CARD,
    RELEASE,
    SIGNATURE,
    SIGNER,
    STATEMENT,
    SUMS,
    added_to,
    files_of,
    read_sums,
)


def read(folder: Path) -> Release:
    """`release.json` of a folder; raises when it is no release."""
    path = folder / RELEASE
    if not path.is_file():
        raise NotFound(f"there is no {RELEASE} here", where=str(folder), hint="Name a folder made by `allmend ship`.")
    try:
        return Release.from_json(path.read_bytes())
    except (ValidationError, ValueError) as error:
        raise InputError(f"{RELEASE} is damaged: {str(error).splitlines()[0]}", where=str(path)) from None


def is_release(folder: Path) -> bool:
    """Whether a folder says that it is a release."""
    return (folder / RELEASE).is_file()


def verify(folder: Path, key: Path | None = None) -> Verification:
    """Check all of it.

    Args:
        key: the public key that is trusted to have signed.

    Raises:
        NotFound, InputError: it is no release at all.
    """
    if not folder.is_dir():
        raise NotFound("there is no such folder", where=str(folder))
    if not (folder / RELEASE).is_file() and not (folder / SUMS).is_file():
        raise NotFound(f"there is no {RELEASE} here", where=str(folder), hint="Name a folder made by `allmend ship`.")
    problems: list[str] = []
    checked: list[str] = []
    not_checked: list[str] = []
    names = files_of(folder)
    here = _bytes(folder, names, problems, checked)
    signer = None
    try:
        release = read(folder)
    except AllmendError as error:
        problems.append(f"{RELEASE}: {error.message}")
    else:
        _artefacts(release, here, problems, checked)
        subjects = _statement(folder, release, here, problems, checked)
        _bill(folder, release, subjects, here, problems, checked)
        _licence(folder, release, problems, checked)
        not_checked.append("whether base and data with the named digests are what their names say: they are not here")
        if release.signed and SIGNATURE not in names:
            problems.append(f"{SIGNATURE}: the release was signed and its signature is gone")
    if SIGNATURE in names:
        signer, found = signing.check(folder, key)
        problems += found
        checked.append("the signature over every file")
        if key is None:
            not_checked.append("whose key signed it: compare its SHA-256 with one you trust, or give --key FILE")
    elif key is not None:
        problems.append("a signature was asked for, and the release has none")
    else:
        not_checked.append("who made it: it is not signed, so files changed together with their digests go unseen")
    if added := added_to(folder):
        not_checked.append(f"what a hub put beside the release: {', '.join(added[:5])}")
    not_checked.append("parity again: the report says what was measured when it was made")
    size = sum((folder / name).stat().st_size for name in names)
    return Verification(
        folder=str(folder), files=len(names), bytes=size, problems=problems, checked=checked,
        not_checked=not_checked, signer=signer,
    )  # fmt: skip


def _bytes(folder: Path, names: list[str], problems: list[str], checked: list[str]) -> dict[str, str]:
    """Digests of what is here, compared with the list both ways."""
    here = {name: file_digest(folder / name) for name in names}
    try:
        listed = read_sums(folder)
    except InputError as error:
        problems.append(f"{SUMS}: {error.message}")
        return here
    outside = {SUMS, SIGNATURE, SIGNER}
    problems += [f"{name}: it is missing" for name in sorted(listed.keys() - here.keys())]
    problems += [f"{name}: it is not in {SUMS}" for name in sorted(here.keys() - listed.keys() - outside)]
    problems += [
        f"{name}: its bytes were changed" for name in sorted(listed.keys() & here.keys()) if listed[name] != here[name]
    ]
    checked.append(f"the SHA-256 of {len(listed)} files, and that there are no others")
    return here


def artefact_digest(artefact: str, here: dict[str, str]) -> str | None:
    """Digest of a file, or of a folder's listing, from the digests of all files; None when nothing is there."""
    if artefact in here:
        return here[artefact]
    lines = [
        f"{digest}  {name.removeprefix(artefact + '/')}\n"
        for name, digest in sorted(here.items())
        if name.startswith(artefact + "/")
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else None


def _artefacts(release: Release, here: dict[str, str], problems: list[str], checked: list[str]) -> None:
    for artefact in release.artefacts:
        if artefact_digest(artefact.path, here) != artefact.sha256:
            problems.append(f"{artefact.path}: it is not what {RELEASE} says")
        _was_tested(release, artefact, problems)
    checked.append(f"the digests of {len(release.artefacts)} artefacts, and that parity blessed each")


def _was_tested(release: Release, artefact: Artefact, problems: list[str]) -> None:
    found = [agreement for agreement in release.agreements if agreement.artefact == artefact.name]
    if not found:
        problems.append(f"{artefact.path}: there is no parity report for it")
    problems += [f"{artefact.path}: parity did not bless it" for agreement in found if not agreement.passed]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _statement(
    folder: Path, release: Release, here: dict[str, str], problems: list[str], checked: list[str]
) -> dict[str, str]:
    """Check the statement of lineage; returns the files it is about, with their digests."""
    value = _json(folder / STATEMENT)
    try:
        assert value["_type"] == STATEMENT_TYPE and value["predicateType"] == PREDICATE_TYPE
        subjects = {str(subject["name"]): str(subject["digest"]["sha256"]) for subject in value["subject"]}
        needed = value["predicate"]["buildDefinition"]["resolvedDependencies"]
        base = [each["digest"]["sha256"] for each in needed if each["name"].startswith("base:")]
        data = [each["digest"]["sha256"] for each in needed if each["name"] == "data"]
        run = value["predicate"]["runDetails"]["metadata"]["invocationId"]
    except (AssertionError, AttributeError, KeyError, TypeError):
        problems.append(f"{STATEMENT}: it is no statement of lineage")
        return {}
    for name, digest in subjects.items():
        if here.get(name) != digest:
            problems.append(f"{STATEMENT}: it is about another {name}")
    wanted = {name for name in here for a in release.artefacts if name == a.path or name.startswith(a.path + "/")}
    problems += [f"{STATEMENT}: it does not speak of {name}" for name in sorted(wanted - subjects.keys())]
    if base != [release.base_digest] or run != release.run:
        problems.append(f"{STATEMENT}: it names another base or run than {RELEASE}")
    if data != _known(release.data_digest):
        problems.append(f"{STATEMENT}: it names other data than {RELEASE}")
    checked.append("the statement of lineage: base, data, run and every artefact's digest")
    return subjects


def _known(digest: str | None) -> list[str]:
    return [] if digest is None else [digest]


def _bill(
    folder: Path,
    release: Release,
    subjects: dict[str, str],
    here: dict[str, str],
    problems: list[str],
    checked: list[str],
) -> None:
    value = _json(folder / BOM)
    try:
        assert value["bomFormat"] == "CycloneDX"
        parts = [(part["type"], part["name"], _hash(part)) for part in value["components"]]
        files = {str(name): digest for kind, name, digest in parts if kind == "file"}
    except (AssertionError, AttributeError, KeyError, TypeError, IndexError):
        problems.append(f"{BOM}: it is no bill of materials")
        return
    for name, digest in files.items():
        if here.get(name) != digest:
            problems.append(f"{BOM}: it lists another {name}")
    problems += [f"{BOM}: it does not list {name}" for name in sorted(subjects.keys() - files.keys())]
    problems += [f"{BOM}: {STATEMENT} is not about {name}" for name in sorted(files.keys() - subjects.keys())]
    if [digest for kind, _, digest in parts if kind == "machine-learning-model"] != [release.base_digest]:
        problems.append(f"{BOM}: it names another base than {RELEASE}")
    if [digest for kind, _, digest in parts if kind == "data"] != [release.data_digest]:
        problems.append(f"{BOM}: it names other data than {RELEASE}")
    checked.append("the bill of materials: base, data and every artefact's file")


def _hash(part: Any) -> str | None:
    hashes = part.get("hashes", [])
    return str(hashes[0]["content"]) if hashes else None


def _licence(folder: Path, release: Release, problems: list[str], checked: list[str]) -> None:
    if not (folder / CARD).is_file():
        problems.append(f"{CARD}: the card is missing")
    if "gemma" in (release.licence or "").lower():
        notice = folder / "NOTICE"
        if not notice.is_file() or GEMMA_NOTICE not in notice.read_text("utf-8", "replace"):
            problems.append("NOTICE: Gemma's terms ask for it, and it is missing")
        if not any((folder / "licence").glob("*")):
            problems.append("licence/: Gemma's terms must be passed on, and they are missing")
        checked.append("Gemma's notice and terms lie beside it")
