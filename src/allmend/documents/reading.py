"""The text of a file, by its kind. Runs in a process of its own (`compute.limited`): files come from anywhere."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from allmend.documents.decoding import text_of
from allmend.documents.markup import page_text
from allmend.documents.office import word_text

MOST_TEXT = 4 << 20
"""Characters of a document; the rest is left out, and said."""
MOST_BYTES = 64 << 20
"""Bytes of a file."""
MOST_SECONDS = 40.0
"""After which no further page of a file is begun: a book's first half is worth more than nothing of it."""

_NO_TEXT = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
"""Control characters other than those that old printers, terminals and backspaced manuals know."""
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_HEADING = re.compile(r"^#{1,6} +(\S.{0,119})$", re.MULTILINE)
_FENCED = re.compile(r"^ {0,3}(```|~~~).*?(?:^ {0,3}\1|\Z)", re.MULTILINE | re.DOTALL)

Pages = Iterator[tuple[int | None, str | None]]
"""Page and text; no text where the page could not be read."""


def read(given: bytes) -> bytes:
    """A file's name and bytes to its text.

    Args:
        given: `{"name": …}` in JSON, a line's end, the bytes.

    Returns:
        `{"parts": [[page, text], …], "cut": …, "missing": [page, …], "headings": [heading, …]}` in JSON: whether its
        end was left out, pages that could not be read, and its headings, where files of its kind mark some.

    Raises:
        ValueError: the file is not what its name says, or of a kind that is not read.
    """
    head, _, content = given.partition(b"\n")
    name = str(json.loads(head)["name"]).rpartition("/")[2]
    ending = name.rsplit(".", 1)[-1].lower() if "." in name else ""
    reader = READERS.get(ending)
    if reader is None:
        raise ValueError("this kind of file is not read")
    parts: list[tuple[int | None, str]] = []
    missing: list[int] = []
    size, cut = 0, False
    until = time.monotonic() + MOST_SECONDS
    for page, text in _each(reader, content):
        if text is None:
            missing.append(page or 0)
            continue
        clean = _clean(text)
        if size + len(clean) > MOST_TEXT:
            clean, cut = clean[: MOST_TEXT - size], True
        size += len(clean)
        if clean.strip():
            parts.append((page, clean))
        cut = cut or time.monotonic() > until
        if cut:
            break
    if missing and not parts:
        raise ValueError("none of its pages can be read")
    headings = sorted(_headings(ending, content, parts)) if ending in _MARKED else []
    answer = {"parts": parts, "cut": cut, "missing": missing, "headings": headings}
    return json.dumps(answer, ensure_ascii=False).encode()


def _each(reader: Callable[[bytes], Pages], content: bytes) -> Pages:
    try:
        yield from reader(content)
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # Readers of broken files raise what they like.
        raise ValueError(f"it cannot be read ({type(error).__name__})") from None


def _clean(text: str) -> str:
    """Text with one kind of line's end, and without what is no character: UTF-8 cannot write it."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return _SURROGATE.sub("\ufffd", plain).strip("\n").rstrip()


def _plain(content: bytes, *, declares: bool = False) -> Pages:
    yield None, text_of(content, declares=declares)


def _nameless(content: bytes) -> Pages:
    """README, LICENSE, Makefile: text, where it looks like some. Programs have bytes that no text has."""
    start = content[:4096]
    marked = start.startswith((b"\xff\xfe", b"\xfe\xff"))
    if not marked and _NO_TEXT.search(start):
        raise ValueError("this kind of file is not read")
    return _plain(content)


def _html(content: bytes) -> Pages:
    yield None, page_text(text_of(content, declares=True))


def _notebook(content: bytes) -> Pages:
    yield None, "\n\n".join(source for _, source in _cells(content))


def _cells(content: bytes) -> list[tuple[str, str]]:
    """(kind, source) of a notebook's cells of text and code; in the third format they lie in worksheets."""
    try:
        whole = json.loads(content)
        sheets = [whole] if "cells" in whole else whole["worksheets"]
        found = []
        for cell in (cell for sheet in sheets for cell in sheet["cells"]):
            kind, source = cell.get("cell_type"), cell.get("source", cell.get("input", ""))
            if kind in ("markdown", "code", "heading"):
                found.append((kind, "".join(source) if isinstance(source, list) else str(source)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("this is no notebook") from None
    return found


def _pdf(content: bytes) -> Pages:
    try:
        from pypdf import PdfReader
    except ImportError:
        raise ValueError("reading PDF needs pypdf: pip install 'allmend[documents]'") from None
    try:
        reader = PdfReader(io.BytesIO(content), strict=False)
        if reader.is_encrypted and not reader.decrypt(""):
            raise ValueError("this PDF is locked with a password")
        count = len(reader.pages)
    except ValueError:
        raise
    except Exception as error:  # pypdf says of itself that broken files raise others than its own
        raise ValueError(f"this PDF cannot be read ({type(error).__name__})") from None
    for number in range(count):
        try:
            yield number + 1, reader.pages[number].extract_text() or ""
        except MemoryError:
            raise
        except Exception:  # of this page alone
            yield number + 1, None


def _word(content: bytes) -> Pages:
    yield None, word_text(content)


def _headings(ending: str, content: bytes, parts: Iterable[tuple[int | None, str]]) -> set[str]:
    """Headings as Markdown marks them: not the comments of a listing, nor of a notebook's code."""
    if ending == "ipynb":
        texts = [source for kind, source in _cells(content) if kind == "markdown"]
    else:
        texts = [text for _, text in parts]
    return {found.strip() for text in texts for found in _HEADING.findall(_FENCED.sub("", text))}


_MARKED = ("md", "markdown", "ipynb", "docx")
READERS: dict[str, Callable[[bytes], Pages]] = {
    **dict.fromkeys(("txt", "text", "md", "markdown", "rst", "org", "csv", "tsv", "log", "tex"), _plain),
    **dict.fromkeys(("js", "ts", "java", "c", "h", "cpp", "rs", "go", "rb", "sh", "sql", "r", "jl"), _plain),
    **dict.fromkeys(("json", "jsonl", "toml", "yaml", "yml", "ini", "cfg"), _plain),
    **dict.fromkeys(("py", "xml"), partial(_plain, declares=True)),
    **dict.fromkeys(("html", "htm", "xhtml"), _html),
    "ipynb": _notebook,
    "pdf": _pdf,
    "docx": _word,
    "": _nameless,
}
"""What reads a file, by the ending of its name; "" is a name without one."""
