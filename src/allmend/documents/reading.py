"""The text of a file, by its kind. Runs in a process of its own (`compute.limited`): files come from anywhere."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from html.parser import HTMLParser

MOST_TEXT = 4 << 20
"""Characters of a document; the rest is left out, and said."""
MOST_BYTES = 64 << 20
"""Bytes of a file."""

_SKIPPED = {"script", "style", "template", "noscript", "svg", "head"}
_BLOCKS = {
    "p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "pre", "blockquote", "dt",
    "dd", "table", "ul", "ol",
}  # fmt: skip


def read(given: bytes) -> bytes:
    """`{"name": …}` in JSON, a line's end, and the file's bytes, to `{"parts": [[page, text], …], "cut": …}`.

    Raises:
        ValueError: the file is not what its name says, or of a kind that is not read.
    """
    head, _, content = given.partition(b"\n")
    name = str(json.loads(head)["name"])
    ending = name.rsplit(".", 1)[-1].lower() if "." in name else ""
    reader = READERS.get(ending)
    if reader is None:
        raise ValueError("this kind of file is not read")
    parts: list[tuple[int | None, str]] = []
    size, cut = 0, False
    for page, text in reader(content):
        clean = text.replace("\0", "").strip()
        if size + len(clean) > MOST_TEXT:
            clean, cut = clean[: MOST_TEXT - size], True
        size += len(clean)
        if clean:
            parts.append((page, clean))
        if cut:
            break
    return json.dumps({"parts": parts, "cut": cut}).encode()


Pages = Iterator[tuple[int | None, str]]


def _plain(content: bytes) -> Pages:
    if b"\0" in content[:8192]:
        raise ValueError("this is not text")
    try:
        yield None, content.decode("utf-8-sig")
    except UnicodeDecodeError:
        yield None, content.decode("latin-1")


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._inside = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _SKIPPED:
            self._inside += 1
        elif tag in _BLOCKS:
            self.pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SKIPPED:
            self._inside = max(0, self._inside - 1)
        elif tag in _BLOCKS:
            self.pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.pieces.append(data)


def _html(content: bytes) -> Pages:
    for _, text in _plain(content):
        parser = _Text()
        parser.feed(text)
        parser.close()
        yield None, re.sub(r"[ \t\r\f]+", " ", re.sub(r"\n\s*\n+", "\n\n", "".join(parser.pieces)))


def _notebook(content: bytes) -> Pages:
    try:
        cells = json.loads(content)["cells"]
        sources = [cell["source"] for cell in cells if cell.get("cell_type") in ("markdown", "code")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError("this is no notebook") from None
    yield None, "\n\n".join("".join(source) if isinstance(source, list) else str(source) for source in sources)


def _pdf(content: bytes) -> Pages:
    try:
        from pypdf import PdfReader
        from pypdf.errors import PyPdfError
    except ImportError:
        raise ValueError("reading PDF needs pypdf: pip install 'allmend[documents]'") from None
    try:
        reader = PdfReader(io.BytesIO(content), strict=False)
        if reader.is_encrypted and not reader.decrypt(""):
            raise ValueError("this PDF is locked with a password")
        for number, page in enumerate(reader.pages, 1):
            yield number, page.extract_text() or ""
    except (PyPdfError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OSError) as error:
        raise ValueError(f"this PDF cannot be read ({type(error).__name__})") from None


def _word(content: bytes) -> Pages:
    from xml.etree import ElementTree

    space = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            inner = archive.getinfo("word/document.xml")
            if inner.file_size > MOST_BYTES:
                raise ValueError("the text of this document is too large")
            with archive.open(inner) as stream:
                root = ElementTree.fromstring(stream.read(MOST_BYTES))
    except (zipfile.BadZipFile, KeyError, ElementTree.ParseError, NotImplementedError, RuntimeError, OSError):
        raise ValueError("this is no Word document") from None
    lines = []
    for paragraph in root.iter(f"{space}p"):
        lines.append("".join(node.text or "" for node in paragraph.iter(f"{space}t")))
    yield None, "\n".join(lines)


READERS: dict[str, Callable[[bytes], Pages]] = {
    **dict.fromkeys(("txt", "text", "md", "markdown", "rst", "org", "csv", "tsv", "log", "tex"), _plain),
    **dict.fromkeys(("py", "js", "ts", "java", "c", "h", "cpp", "rs", "go", "rb", "sh", "sql", "r", "jl"), _plain),
    **dict.fromkeys(("json", "jsonl", "toml", "yaml", "yml", "xml", "ini", "cfg"), _plain),
    **dict.fromkeys(("html", "htm", "xhtml"), _html),
    "ipynb": _notebook,
    "pdf": _pdf,
    "docx": _word,
}
"""What reads a file, by the ending of its name."""
