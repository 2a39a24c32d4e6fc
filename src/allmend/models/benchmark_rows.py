"""Catalogue benchmarks: rows of well-known evaluations that packages carry, for measuring only, never for training."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from allmend.errors import InputError, NotFound, nearest
from allmend.models.catalogue import BenchmarkEntry, catalogue
from allmend.models.fetch import Progress, fetch, write_once

_LARGEST = 64 << 20


def benchmark_entry(name: str) -> BenchmarkEntry:
    """The catalogue's entry; raises `NotFound` naming the nearest."""
    entry = catalogue().benchmarks.get(name)
    if entry is None:
        known = catalogue().benchmarks
        raise NotFound(f"there is no benchmark {name!r} in the catalogue", hint=nearest(name, known) or None)
    return entry


def benchmark_file(name: str, progress: Progress | None = None) -> Path:
    """The rows of a benchmark as the package has them, as JSON lines, fetched if they are not here."""
    entry = benchmark_entry(name)
    path = fetch("benchmarks", name, entry, progress)
    if path.suffix != ".gz":
        return path
    target = path.with_suffix("")
    if not target.is_file():
        with gzip.open(path) as stream:
            content = stream.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise InputError("it unpacks to more than 64 MiB", where=str(path))
        write_once(target, [content])
    return target


def benchmark_examples(name: str, progress: Progress | None = None) -> Path:
    """A benchmark's rows as a file that `allmend verdict --data` reads: `prompt`, `completion` and `tests`.

    Raises `InputError` for a benchmark of choices, which has no completions.
    """
    fields = benchmark_entry(name).examples
    if not fields:
        raise InputError(f"{name} has choices, not completions", hint=f"allmend benchmark MODEL --task {name}")
    source = benchmark_file(name, progress)
    target = source.with_name(f"{name}.examples.jsonl")
    if not target.is_file():
        rows = [json.loads(line) for line in source.read_text("utf-8").splitlines() if line.strip()]
        kept = ({key: row[field] for key, field in fields.items()} for row in rows)
        write_once(target, ((json.dumps(row, ensure_ascii=False) + "\n").encode() for row in kept))
    return target


def source_words(name: str) -> str:
    """Where a benchmark's rows come from, in words."""
    entry = benchmark_entry(name)
    packages = ", ".join(dict.fromkeys(f"{part.package} {part.version}" for part in entry.parts))
    return f"{entry.title}, from the package {packages} ({entry.licence})"
