"""Another hub behind this one: what is not here is fetched from there when it is asked for, verified, and kept.

A repository's listing is fetched first: its commit, paths, sizes and digests. A file is fetched whole the first time it
is asked for, and given out only when its SHA-256 (git's blob name for a small one) is the one that was listed. What was
fetched stays readable when the other hub is gone. Nobody pushes to a mirrored repository; a fork of it is one's own.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
from sqlalchemy import Connection

from allmend import database
from allmend.errors import AllmendError
from allmend.hub import commits, objects, owned, refs, repositories, tree_editing
from allmend.hub.faults import Fault
from allmend.hub.looking import looking
from allmend.hub.names import PLURALS, PREFIXES, check_path, check_repository, is_commit
from allmend.hub.objects import EMPTY_TREE, File
from allmend.hub.repositories import Repository

if TYPE_CHECKING:
    from allmend.hub.state import Hub

_FRESH = 30.0
"""Seconds for which what a branch of the other hub points at is believed."""
_MOST_PAGES = 1000
_GIT = "git:"
"""Before git's name of a small file, where files are listed by their digest."""


class Mirror:
    """Fetches from one other hub.

    Args:
        url: the other hub.
        token: a key there; what it opens is private here.
    """

    def __init__(self, hub: Hub, url: str, token: str | None = None) -> None:
        self._hub = hub
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._asked: dict[tuple[str, ...], float] = {}
        self._fetching: dict[tuple[int, str], asyncio.Task[str]] = {}

    def refresh(self, kind: str, owner: str, name: str, revision: str | None) -> None:
        """Bring a repository's listing up to date, unless it was just now, or it is this hub's own."""
        wanted = revision or refs.MAIN
        key = (kind, owner.lower(), name.lower(), wanted)
        if time.monotonic() - self._asked.get(key, -_FRESH) < _FRESH:
            return
        with looking() as connection:
            here = repositories.lookup(connection, kind, owner, name)
            if here is not None and (here.mirror is None or (is_commit(wanted) and _has(connection, here, wanted))):
                return
        try:
            self._refresh(kind, owner, name, wanted)
        except (httpx.HTTPError, ValueError, KeyError, TypeError, Fault):
            # The other hub is away, or has no such thing: what is here is what there is.
            pass
        if len(self._asked) > 10_000:
            self._asked.clear()
        self._asked[key] = time.monotonic()

    def refresh_file(self, kinds: str, owner: str, name: str, revision: str, path: str) -> None:
        """Bring the listing up to date before a file of it is looked for."""
        if kinds in PLURALS:
            self.refresh(PLURALS[kinds], owner, name, revision)

    def _refresh(self, kind: str, owner: str, name: str, revision: str) -> None:
        check_repository(owner, name)
        with httpx.Client(headers=self._headers, timeout=30, follow_redirects=True) as client:
            place = f"{self._url}/api/{kind}s/{owner}/{name}"
            answer = client.get(f"{place}/revision/{quote(revision, safe='')}")
            if answer.status_code != 200:
                return
            info = answer.json()
            sha = str(info["sha"])
            if not is_commit(sha):
                return
            with looking() as connection:
                here = repositories.lookup(connection, kind, owner, name)
                known = here is not None and _has(connection, here, sha)
            files = {} if known else self._listed(client, place, sha)
        self._write(kind, str(info["id"]).partition("/")[0], name, revision, sha, info, files)

    def _listed(self, client: httpx.Client, place: str, sha: str) -> dict[str, File | None]:
        files: dict[str, File | None] = {}
        url: str | None = f"{place}/tree/{sha}?recursive=true"
        for _ in range(_MOST_PAGES):
            if url is None:
                return files
            answer = client.get(url)
            answer.raise_for_status()
            for row in answer.json():
                if row.get("type") == "file":
                    files[check_path(row["path"])] = _file(row)
            url = answer.links.get("next", {}).get("url")
        raise ValueError("the listing has no end")

    def _write(
        self, kind: str, owner: str, name: str, revision: str, sha: str, info: dict[str, Any],
        files: dict[str, File | None],
    ) -> None:  # fmt: skip
        source = {"endpoint": self._url, "id": f"{owner}/{name}"}
        hidden = bool(info.get("private") or info.get("gated"))
        with database.writing() as connection:
            here = repositories.lookup(connection, kind, owner, name)
            if here is None:
                here = repositories.insert_mirror(connection, kind, owner, name, private=hidden, mirror=source)
            if here.mirror is None:
                return
            if hidden and not here.private:
                repositories.change(connection, here, private=True)
            if files:
                tree = tree_editing.edit(connection, EMPTY_TREE, files)
                title = f"As {self._url} has it"
                commits.adopt(connection, here.id, sha, tree, "mirror", title)
            if not is_commit(revision):
                ref = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
                refs.set_to(connection, here.id, ref, sha)
                commits.touch(connection, here.id)
            card = info.get("cardData")
            repositories.change(connection, here, card=json.dumps(card if isinstance(card, dict) else {}))
            tags = info.get("tags")
            names = [str(tag) for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
            repositories.set_tags(connection, here, names)

    async def here(self, repository: Repository, commit: str, path: str, file: File) -> File:
        """The file with its name in the store: fetched and verified if it is not here yet.

        Raises:
            Fault: 502 where the other hub does not give it, or gives something else.
        """
        digest = file.sha256 or f"{_GIT}{file.oid}"
        with looking() as connection:
            have = owned.key_of(connection, repository.id, digest)
        if have is None:
            key = (repository.id, digest)
            if key not in self._fetching:
                task = asyncio.create_task(self._fetch(repository, commit, path, file))
                self._fetching[key] = task
                task.add_done_callback(lambda _: self._fetching.pop(key, None))
            # A client that goes away leaves the others, and the file, their way.
            have = await asyncio.shield(self._fetching[key])
        return File(file.oid, file.size, have, file.sha256)

    async def _fetch(self, repository: Repository, commit: str, path: str, file: File) -> str:
        place = f"{self._url}/{PREFIXES[repository.kind]}{repository.full_name}/resolve/{commit}/{quote(path)}"
        git = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)

        async def body(response: httpx.Response) -> AsyncIterator[bytes]:
            async for chunk in response.aiter_bytes():
                git.update(chunk)
                yield chunk
            if file.sha256 is None and git.hexdigest() != file.oid:
                raise Fault(502, f"The other hub's {path!r} is not what it listed.")

        try:
            timeout = httpx.Timeout(60, read=300)
            client = httpx.AsyncClient(headers=self._headers, timeout=timeout, follow_redirects=True)
            async with client, client.stream("GET", place, headers={"accept-encoding": "identity"}) as response:
                if response.status_code != 200:
                    raise Fault(502, f"The other hub answered {response.status_code} for {path!r}.")
                stored = await self._hub.store.put(body(response), sha256=file.sha256, size=file.size)
        except httpx.HTTPError as error:
            raise Fault(502, f"The other hub does not answer ({type(error).__name__}).") from None
        except AllmendError as error:
            raise Fault(502, f"The other hub's {path!r} is not what it listed: {error.message}") from None
        digest = file.sha256 or f"{_GIT}{file.oid}"

        def write() -> None:
            with database.writing() as connection:
                owned.own(connection, repository.id, digest, stored.xet, stored.size)

        await asyncio.to_thread(write)
        return stored.xet


def _has(connection: Connection, here: Repository, commit: str) -> bool:
    try:
        return refs.resolve(connection, here.id, commit) == commit
    except Fault:
        return False


def _file(row: dict[str, Any]) -> File:
    """A listed file; it has no name in the store until it was fetched."""
    large = row.get("lfs")
    if isinstance(large, dict):
        sha256, size = str(large["oid"]), int(large["size"])
        if len(sha256) != 64 or not set(sha256) <= set("0123456789abcdef") or size < 0:
            raise ValueError("a digest is none")
        return objects.large_file(sha256, size, "")
    oid, size = str(row["oid"]), int(row["size"])
    if not is_commit(oid) or size < 0:
        raise ValueError("a name is none")
    return File(oid, size, "")
