"""Lines of a file that nobody vouches for: bounded in length, decoded strictly, numbered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from allmend.errors import InputError, NotFound

LONGEST_LINE = 32 * 2**20
"""Bytes. A longer line is not a row but a file without line ends; it is never held in memory whole."""

_MAGIC = {
    b"\x1f\x8b": "a gzip file; unpack it first (gunzip)",
    b"PK\x03\x04": "a zip file or a spreadsheet; export it as CSV first",
    b"PAR1": "a Parquet file; name it with .parquet",
    b"SQLite format 3": "a SQLite database; export the table as CSV first",
    b"%PDF": "a PDF; extract its text first",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8 (iconv -f UTF-16 -t UTF-8)",
    b"GGUF": "a model, not data",
}


class Line(NamedTuple):
    """One line with its line end, and what is wrong with it; a bad line keeps what can be kept of its text."""

    number: int
    text: str
    problem: str | None = None


def existing(path: Path) -> Path:
    """`path` if it can be read; raises `NotFound` naming files beside it that are called nearly so."""
    if path.exists():
        return path
    hint = None
    if path.parent.is_dir():
        from allmend.errors import nearest

        names = [entry.name for _, entry in zip(range(2000), path.parent.iterdir(), strict=False)]
        hint = nearest(path.name, names) or None
    raise NotFound("there is no such file or folder", where=str(path), hint=hint)


def refuse_other_formats(head: bytes, where: str) -> None:
    """Raise `InputError` when the first bytes say that this is no text file."""
    if not head:
        raise InputError("the file is empty", where=where)
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            raise InputError(f"this is {what}", where=where)
    if b"\0" in head:
        raise InputError("this is not a text file: it holds NUL bytes", where=where, hint="Save it as UTF-8 text.")


def lines(stream: BinaryIO) -> Iterator[Line]:
    """The lines of `stream` as UTF-8, a byte order mark dropped; a bad line comes with its problem."""
    number = 0
    while raw := stream.readline(LONGEST_LINE + 1):
        number += 1
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if len(raw) > LONGEST_LINE and not raw.endswith(b"\n"):
            _skip_to_line_end(stream)
            yield Line(number, "", f"the line is longer than {LONGEST_LINE >> 20} MiB")
            continue
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            byte = f"byte 0x{raw[error.start]:02x} at place {error.start + 1} of the line"
            yield Line(number, raw.decode("utf-8", "replace"), f"not UTF-8 text: {byte}")
            continue
        if "\0" in text:
            yield Line(number, text, "the line holds NUL bytes")
            continue
        yield Line(number, text)


def _skip_to_line_end(stream: BinaryIO) -> None:
    while chunk := stream.readline(1 << 20):
        if chunk.endswith(b"\n"):
            return
