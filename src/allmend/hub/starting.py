"""What a new repository begins with, and which files travel as large ones."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING

from allmend.hub import objects
from allmend.hub.objects import File

if TYPE_CHECKING:
    from allmend.hub.store import Store

LARGE: tuple[str, ...] = tuple(
    "7z arrow bin bin.* bz2 ckpt ftz gguf gz h5 joblib lz4 mds mlmodel model msgpack npy npz onnx ot parquet pb "  # noqa: SIM905
    "pickle pkl pt pth rar safetensors tar tar.* tflite tgz wasm xz zip zst".split(" ")
)
"""Endings of files that are large or not text."""
_LARGE_DATA: tuple[str, ...] = tuple(
    "aac ape flac m4a mp3 mp4 ogg opus pcm sam raw wav webm webp bmp gif png tiff jpg jpeg".split(" ")  # noqa: SIM905
)


def attributes(kind: str) -> bytes:
    """The `.gitattributes` of a new repository: which files git would keep as pointers."""
    endings = [*LARGE, *(_LARGE_DATA if kind == "dataset" else ())]
    rows = [f"*.{ending} filter=lfs diff=lfs merge=lfs -text" for ending in endings]
    rows.append("*tfevents* filter=lfs diff=lfs merge=lfs -text")
    return ("\n".join(rows) + "\n").encode()


async def first_files(store: Store, kind: str) -> dict[str, File | None]:
    """The files of the first commit."""
    data = attributes(kind)
    return {".gitattributes": await small_file(store, data)}


async def small_file(store: Store, data: bytes) -> File:
    """A regular file, stored."""
    return File(objects.blob_id(data), len(data), (await store.put_small(data)).xet)


def patterns(text: str) -> list[str]:
    """Patterns of a `.gitattributes` that name large files."""
    found = []
    for line in text[:65536].splitlines()[:500]:
        words = line.split()
        if len(words) > 1 and "filter=lfs" in words[1:] and not line.startswith("#"):
            found.append(words[0])
    return found


def is_large(path: str, size: int, sample: bytes, wanted: Sequence[str], most: int) -> bool:
    """Whether a file travels as a large one: by its name, its size, or because it is not text."""
    if size > most:
        return True
    name = path.rsplit("/", 1)[-1]
    if any(fnmatch.fnmatchcase(path if "/" in pattern else name, pattern.lstrip("/")) for pattern in wanted):
        return True
    return size > 0 and not _is_text(sample)


def _is_text(sample: bytes) -> bool:
    if b"\0" in sample:
        return False
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        # A sample may end in the middle of a letter.
        return error.reason == "unexpected end of data" and error.start >= len(sample) - 3
    return True


def ignored(path: str, rules: Sequence[str]) -> bool:
    """Whether a `.gitignore` names the path (https://git-scm.com/docs/gitignore); the last rule that fits decides."""
    out = False
    for rule in rules:
        line = rule.rstrip()
        if not line or line.startswith("#"):
            continue
        wanted = not line.startswith("!")
        pattern = line.lstrip("!").lstrip("\\")
        if _fits(path, pattern):
            out = wanted
    return out


def _fits(path: str, pattern: str) -> bool:
    anchored = "/" in pattern.rstrip("/")
    only_folders = pattern.endswith("/")
    pattern = pattern.strip("/")
    parts = path.split("/")
    for end in range(1, len(parts) + 1):
        if only_folders and end == len(parts):
            continue
        whole = "/".join(parts[:end])
        if anchored:
            if fnmatch.fnmatchcase(whole, pattern) or fnmatch.fnmatchcase(whole, pattern.replace("**/", "")):
                return True
        elif fnmatch.fnmatchcase(parts[end - 1], pattern):
            return True
    return False
