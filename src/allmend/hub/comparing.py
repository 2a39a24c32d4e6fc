"""What a pull request changes, in text and in rows."""

from __future__ import annotations

import difflib
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from allmend.hub.contents import contents
from allmend.hub.objects import File

if TYPE_CHECKING:
    from allmend.hub.state import Hub

Changes = Mapping[str, tuple[File | None, File | None]]
_LONGEST_TEXT = 256 * 1024
_MOST_TEXT = 2 * 2**20
_LARGEST_DATA = 64 * 2**20
_SHOWN = 20
"""Rows of each kind that are shown; all are counted."""
_LONGEST_VALUE = 500
_DATA = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
_IDENTITIES = ("id", "_id", "uuid", "key", "index")


async def text_difference(hub: Hub, files: Changes) -> str:
    """The difference of small text files as git writes it; large and binary files are named."""
    parts: list[str] = []
    total = 0
    for path, (was, now) in sorted(files.items()):
        sides = [await _text(hub, was), await _text(hub, now)]
        if sides[0] is None or sides[1] is None:
            parts.append(f"diff --git a/{path} b/{path}\nBinary or large files differ\n")
            continue
        part = await run_in_threadpool(_unified, path, sides[0], sides[1], was is None, now is None)
        total += len(part)
        if total > _MOST_TEXT:
            parts.append("… more files differ than are shown\n")
            break
        parts.append(part)
    return "".join(parts)


def _unified(path: str, was: str, now: str, added: bool, removed: bool) -> str:
    before, after = "/dev/null" if added else f"a/{path}", "/dev/null" if removed else f"b/{path}"
    sides = was.splitlines(keepends=True), now.splitlines(keepends=True)
    if len(sides[0]) + len(sides[1]) > 20_000:
        return f"diff --git a/{path} b/{path}\nA long text differs\n"
    lines = difflib.unified_diff(*sides, before, after)
    body = "".join(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines)
    return f"diff --git a/{path} b/{path}\n{body}"


async def _text(hub: Hub, file: File | None) -> str | None:
    """A small file's text; None for what is large or no text. A file that is not there is empty."""
    if file is None:
        return ""
    if file.sha256 is not None or file.size > _LONGEST_TEXT:
        return None
    try:
        return (await hub.store.read_small(file.key)).decode()
    except UnicodeDecodeError:
        return None


async def row_difference(hub: Hub, files: Changes) -> list[dict[str, Any]]:
    """For every data file that differs: how many rows were added, removed and changed, and the first of each.

    A row is *changed* where one that went and one that came share the value of a column named like an identity, or
    stand at the same place.
    """
    found: list[dict[str, Any]] = []
    for path, (was, now) in sorted(files.items()):
        if not path.lower().endswith(_DATA):
            continue
        if any(side is not None and side.size > _LARGEST_DATA for side in (was, now)):
            found.append({"path": path, "compared": False, "why": f"larger than {_LARGEST_DATA >> 20} MiB"})
            continue
        sides = [
            b"" if side is None else b"".join([chunk async for chunk in contents(hub.store, side)])
            for side in (was, now)
        ]
        found.append(await run_in_threadpool(_compared, path, sides[0], sides[1]))
    return found


def _compared(path: str, was: bytes, now: bytes) -> dict[str, Any]:
    try:
        before, after = (list(_rows(path, data)) if data else [] for data in (was, now))
    except Exception as error:  # whatever a reader of formats stumbles over in a stranger's file
        return {"path": path, "compared": False, "why": f"the rows cannot be read: {type(error).__name__}"}
    return {"path": path, "compared": True, **compare(before, after)}


def compare(before: list[Any], after: list[Any]) -> dict[str, Any]:
    """Rows added, removed and changed between two tables."""
    old, new = [_name(row) for row in before], [_name(row) for row in after]
    gone, came = Counter(old) - Counter(new), Counter(new) - Counter(old)
    removed, added = _places(old, gone), _places(new, came)
    identity = next((key for key in _IDENTITIES if _unique(before, key) and _unique(after, key)), None)
    if identity is not None:
        at = {str(after[place][identity]): place for place in added}
        pairs = [(place, at[str(before[place][identity])]) for place in removed if str(before[place][identity]) in at]
    else:
        there = set(added)
        pairs = [(place, place) for place in removed if place in there]
    taken_old, taken_new = {one for one, _ in pairs}, {two for _, two in pairs}
    removed, added = [p for p in removed if p not in taken_old], [p for p in added if p not in taken_new]
    return {
        "rows": {"before": len(before), "after": len(after)},
        "added": len(added), "removed": len(removed), "changed": len(pairs), "matched_by": identity or "place",
        "examples": {
            "added": [{"row": place, "value": _short(after[place])} for place in added[:_SHOWN]],
            "removed": [{"row": place, "value": _short(before[place])} for place in removed[:_SHOWN]],
            "changed": [
                {"row": two, "before": _short(before[one]), "after": _short(after[two])} for one, two in pairs[:_SHOWN]
            ],
        },
    }  # fmt: skip


def _places(names: list[bytes], wanted: Counter[bytes]) -> list[int]:
    left, found = Counter(wanted), []
    for place, name in enumerate(names):
        if left[name] > 0:
            left[name] -= 1
            found.append(place)
    return found


def _unique(rows: list[Any], key: str) -> bool:
    values = [row.get(key) if isinstance(row, dict) else None for row in rows]
    return bool(rows) and None not in values and len({str(value) for value in values}) == len(values)


def _name(row: Any) -> bytes:
    text = json.dumps(row, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def _short(row: Any) -> Any:
    text = json.dumps(row, ensure_ascii=False, default=str)
    if len(text) <= 4 * _LONGEST_VALUE:
        return json.loads(text)
    if isinstance(row, dict):
        return {str(key)[:100]: str(value)[:_LONGEST_VALUE] for key, value in list(row.items())[:20]}
    return text[:_LONGEST_VALUE]


def _rows(path: str, data: bytes) -> Iterable[Any]:
    name = path.lower()
    if name.endswith(".parquet"):
        import pyarrow.parquet

        rows: list[Any] = pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
        return rows
    text = data.decode("utf-8-sig")
    if name.endswith((".csv", ".tsv")):
        import csv

        return list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if name.endswith(".tsv") else ","))
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    value = json.loads(text)
    return value if isinstance(value, list) else [value]
