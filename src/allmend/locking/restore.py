"""What a lock names, brought into the cache again and held to its digests; where it cannot be, why and since when."""

from __future__ import annotations

from allmend.errors import FetchError, NotFound, Refused
from allmend.locking import clones, fetch, hub, store
from allmend.nouns.lock import Lock, LockedClone, LockedFile, LockedRepository


def restore(part: object) -> None:
    """Bring one part of a lock back into the cache. Raises `FetchError` saying what changed upstream and since when."""
    if isinstance(part, LockedFile):
        _file(part)
    elif isinstance(part, LockedClone):
        _clone(part)
    elif isinstance(part, LockedRepository):
        _repository(part)


def _file(part: LockedFile) -> None:
    if store.has(part.sha256, part.bytes):
        return
    try:
        now = fetch.file(part.url)
    except NotFound:
        raise NotFound(
            "the locked file is gone upstream and is not in the cache", where=part.url,
            hint="Copy the cache of a machine that still has it, or change the notebook and lock again.",
        ) from None  # fmt: skip
    if now.sha256 != part.sha256:
        since = f" since {now.modified}" if now.modified else ", and the server does not say since when"
        raise FetchError(
            f"the file changed upstream{since}: {part.bytes:,} bytes and SHA-256 {part.sha256[:12]}… were locked, "
            f"{now.bytes:,} bytes and {now.sha256[:12]}… are there now",
            where=part.url,
            hint=f"Look at what changed; `allmend lock NOTEBOOK --update {part.url}` takes the new one.",
        )


def _clone(part: LockedClone) -> None:
    if not clones.complete(part.url, part.commit):
        try:
            clones.fetch(part.url, clones.Found(part.commit, part.branch))
        except FetchError as error:
            raise FetchError(
                f"the cached copy is missing or damaged, and upstream does not answer: {error.message}", where=part.url,
                hint="Connect this machine, or copy the cache of one that has it.",
            ) from None  # fmt: skip
        except (NotFound, Refused) as error:
            raise NotFound(
                f"the locked commit {part.commit[:12]} of {part.committed[:10]} is not to be had: {error.message}",
                where=part.url, hint="Copy the cache of a machine that still has it, or lock again with --update.",
            ) from None  # fmt: skip


def _repository(part: LockedRepository) -> None:
    missing = [file for file in part.files if not (file.sha256 and store.has(file.sha256, file.bytes))]
    if missing:
        hub.bring(part)


def everything(lock: Lock) -> None:
    """Bring all that is missing. Raises the first trouble."""
    for part in (*lock.downloads, *lock.clones, *lock.repositories):
        restore(part)
    for package in lock.system:
        if package.sha256 and package.url and not store.has(package.sha256, package.bytes):
            fetch.wheel(package.url, package.sha256)


def missing(lock: Lock) -> list[str]:
    """What of a lock the cache does not hold, without asking anyone."""
    found = [one.url for one in lock.downloads if not store.has(one.sha256, one.bytes)]
    found += [f"{one.url} at {one.commit[:12]}" for one in lock.clones if not clones.complete(one.url, one.commit)]
    for repository in lock.repositories:
        found += [
            f"{repository.name}/{file.path}" for file in repository.files
            if not (file.sha256 and store.has(file.sha256, file.bytes))
        ]  # fmt: skip
    return found
