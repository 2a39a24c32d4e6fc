"""Cutting stored outputs out of a large notebook before its JSON is parsed.

Outputs (images, widget states, plots) are most of a notebook's bytes and nothing of its program. A document of
100 MB is reduced to its sources by one pass over strings and brackets, so that memory stays near the file's size.
"""

from __future__ import annotations

import re

LARGE = 4 * 2**20
"""Documents above this many bytes have their outputs cut out before parsing."""

_TOKEN = re.compile(rb'"(?:[^"\\]+|\\.)*+"|[\[\]{}]', re.DOTALL)
_SCRIPTS = (b"<script", b"<SCRIPT", b"application/javascript")
_KEYS = frozenset({b'"outputs"', b'"widgets"', b'"attachments"'})

_OPEN = b"[{"


def strip(data: bytes) -> tuple[bytes, list[int]]:
    """`data` with every value of `outputs`, `widgets` and `attachments` emptied.

    Returns the shorter document and, for each `outputs` that was met in order, how many scripts it holds.
    Text that is not JSON comes back shortened or whole; the parser then says what is wrong with it.
    """
    kept: list[bytes] = []
    scripts: list[int] = []
    start = position = 0
    length = len(data)
    while True:
        match = _next_key(data, position)
        if match is None:
            break
        key, value_at = match
        if data[value_at : value_at + 1] not in (b"[", b"{"):
            position = value_at
            continue
        end = _skip(data, value_at)
        if end < 0:
            break
        kept.append(data[start:value_at])
        kept.append(b"[]" if data[value_at : value_at + 1] == b"[" else b"{}")
        if key == b'"outputs"':
            scripts.append(sum(data.count(word, value_at, end) for word in _SCRIPTS))
        start = position = end
        if position >= length:
            break
    kept.append(data[start:])
    return b"".join(kept), scripts


_KEY = re.compile(rb'"(?:[^"\\]+|\\.)*+"(?:(\s*:\s*))?', re.DOTALL)


def _next_key(data: bytes, position: int) -> tuple[bytes, int] | None:
    """The next of the emptied keys at or after `position`, and where its value starts."""
    for match in _KEY.finditer(data, position):
        if match[1] is not None:
            text = match[0][: match.start(1) - match.start()]
            if len(text) < 16 and text in _KEYS:
                return text, match.end()
    return None


def _skip(data: bytes, position: int) -> int:
    """The end of the list or object that starts at `position`, or -1 when it never ends."""
    depth = 0
    for match in _TOKEN.finditer(data, position):
        byte = data[match.start()]
        if byte == 0x22:
            continue
        if byte in _OPEN:
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                return match.end()
    return -1


def nesting(data: bytes, limit: int) -> bool:
    """Whether brackets outside strings nest deeper than `limit` (the parser would recurse that deep)."""
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    depth = 0
    for match in _TOKEN.finditer(data):
        byte = data[match.start()]
        if byte in _OPEN:
            depth += 1
            if depth > limit:
                return True
        elif byte != 0x22:
            depth -= 1
    return False


def count_scripts(outputs: object, budget: int = 2000) -> int:
    """How many scripts already parsed `outputs` hold; looks at no more than `budget` values."""
    found = 0
    stack: list[object] = [outputs]
    while stack and budget > 0:
        budget -= 1
        value = stack.pop()
        if isinstance(value, str):
            if "<script" in value or "<SCRIPT" in value:
                found += 1
        elif isinstance(value, list):
            if value and all(isinstance(item, str) for item in value):
                found += any("<script" in item for item in value)
            else:
                stack.extend(reversed(value))
        elif isinstance(value, dict):
            found += "application/javascript" in value
            stack.extend(item for key, item in value.items() if not str(key).startswith("image/"))
    return found


__all__ = ["LARGE", "count_scripts", "nesting", "strip"]
