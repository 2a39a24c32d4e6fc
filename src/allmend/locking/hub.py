"""Models and data sets of a hub that speaks Hugging Face's protocol: one commit, and a digest for each file.

`HF_ENDPOINT` names the hub. The hub tells SHA-256 and size of large files and git's own digest of small ones; a file
that is fetched is held to them.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from allmend.errors import FetchError, NotFound, Refused
from allmend.locking import fetch, store
from allmend.nouns.lock import HubFile, LockedRepository


def endpoint() -> str:
    """The hub's address."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _group(kind: str) -> str:
    return "models" if kind == "model" else "datasets"


def lock(kind: str, name: str, revision: str | None) -> LockedRepository:
    """The repository's commit and files at `revision` (None: main).

    Raises `NotFound`, `Refused` (private or gated), `FetchError`.
    """
    url = f"{endpoint()}/api/{_group(kind)}/{name}/revision/{quote(revision or 'main', safe='')}?blobs=true"
    try:
        told = fetch.json_page(url)
    except Refused:
        # The hub answers 401 for what is not there as for what is private.
        raise Refused("it is private, gated or gone: the hub asks for an account", where=f"{kind} {name}") from None
    except NotFound:
        raise NotFound(f"the hub has no {kind} of that name and revision", where=f"{kind} {name}") from None
    try:
        files = sorted((_file(entry) for entry in told["siblings"]), key=lambda file: file.path)
        return LockedRepository(
            kind="model" if kind == "model" else "dataset", name=name, revision=revision, commit=str(told["sha"]),
            modified=told.get("lastModified"), files=files,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        raise FetchError("the hub's answer is not what its protocol says", where=url) from None


def _file(entry: Any) -> HubFile:
    large = entry.get("lfs") or {}
    path = str(entry["rfilename"])
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(path)
    return HubFile(
        path=path,
        sha256=str(large.get("sha256") or large.get("oid") or "").removeprefix("sha256:"),
        git="" if large else str(entry.get("blobId") or ""),
        bytes=int(large.get("size") or entry.get("size") or 0),
    )


def address(repository: LockedRepository, file: HubFile) -> str:
    """Where a file is fetched from."""
    group = "" if repository.kind == "model" else "datasets/"
    return f"{endpoint()}/{group}{repository.name}/resolve/{repository.commit}/{quote(file.path)}"


def bring(repository: LockedRepository, *, most: int | None = None) -> LockedRepository:
    """Fetch every file into the cache, hold it to the hub's digest; returns the lock with SHA-256 of all files."""
    files = []
    for file in repository.files:
        if file.sha256 and store.has(file.sha256, file.bytes):
            files.append(file)
            continue
        known = store.recall("blobs", file.git) if file.git else None
        if known and store.has(known, file.bytes):
            files.append(file.model_copy(update={"sha256": known}))
            continue
        got = fetch.file(address(repository, file), most=most)
        if (file.sha256 and got.sha256 != file.sha256) or (
            file.git and git_digest(store.place(got.sha256)) != file.git
        ):
            raise FetchError("what arrived is not what the hub says it is", where=f"{repository.name}/{file.path}")
        if file.git:
            store.remember("blobs", file.git, got.sha256)
        files.append(file.model_copy(update={"sha256": got.sha256, "bytes": got.bytes}))
    return repository.model_copy(update={"files": files})


def git_digest(path: Path) -> str:
    """Git's name of a file's content (SHA-1 over `blob SIZE NUL bytes`)."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()
