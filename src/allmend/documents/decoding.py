"""Bytes of a text file to text, whatever program wrote them."""

from __future__ import annotations

import codecs
import re

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED = re.compile(rb"(?:charset|encoding|coding)\s*[:=]\s*[\"']?([\w.:-]{2,20})", re.IGNORECASE)
"""As HTML, XML and Python say it."""
_HEAD = 2048
_NAMES = re.compile(
    r"iso-?8859-([2-9]|1[0-6])|latin-?([2-9]|10)|windows-?(874|125\d)|cp\d{3,4}|koi8-[ru]|macintosh|mac-?roman"
    r"|gbk|gb2312|gb18030|big5(-hkscs)?|(shift[_-]?jis|sjis)|euc-(jp|kr)|iso-2022-jp"
)
"""Encodings that a file may name. Python knows others that take quadratic time (idna), or are none of text."""


def text_of(content: bytes, *, declares: bool = False) -> str:
    """A file's text.

    UTF-8 where it is that; else what its first bytes mark or, where it is of a kind that does so, declare. What is left
    is read line by line, each as UTF-8 where it is that and as Windows-1252 where not: files that several programs
    wrote to hold both.

    Args:
        declares: whether the kind of file names its encoding at its beginning.

    Raises:
        ValueError: it is not text.
    """
    for mark, name in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(name, "replace")
    if b"\0" in content[:8192]:
        raise ValueError("this is not text")
    try:
        return content.decode()
    except UnicodeDecodeError:
        pass
    if declares and (found := _DECLARED.search(content[:_HEAD])) is not None:
        named = found[1].decode("ascii", "replace").lower()
        if _NAMES.fullmatch(named):
            try:
                return content.decode(named, "replace")
            except LookupError:
                pass
    return "".join(map(_line, content.splitlines(keepends=True)))


def _line(line: bytes) -> str:
    for name in ("utf-8", "cp1252"):
        try:
            return line.decode(name)
        except UnicodeDecodeError:
            continue
    return line.decode("latin-1")
