"""The text of Word files (Office Open XML): paragraphs, tables by rows, headings, foot- and endnotes."""

from __future__ import annotations

import io
import re
import zipfile
from xml.etree import ElementTree

_PARTS = ("word/document.xml", "word/footnotes.xml", "word/endnotes.xml")
_SKIPPED = {"Fallback", "moveFrom"}
"""What is there a second time: for programs that cannot draw the first, and where it was moved to."""
_HEADING = re.compile(r"heading\s*([1-6])", re.IGNORECASE)
_MOST = 64 << 20


def word_text(content: bytes) -> str:
    """A document's text; headings as in Markdown, the cells of a table's row with tabs between them.

    Raises:
        ValueError: it is no Word document, or one that is made to be too large.
    """
    texts: list[str] = []
    left = _MOST
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = set(archive.namelist())
            for name in _PARTS:
                if name not in names and name != _PARTS[0]:
                    continue
                inner = archive.getinfo(name)
                if inner.file_size > left:
                    raise ValueError("the text of this document is too large")
                left -= inner.file_size
                with archive.open(inner) as stream:
                    texts.append(_part(io.BytesIO(stream.read(inner.file_size))))
    except (zipfile.BadZipFile, KeyError, ElementTree.ParseError, NotImplementedError, RuntimeError, OSError):
        raise ValueError("this is no Word document") from None
    return "\n".join(text for text in texts if text)


def _part(stream: io.BytesIO) -> str:
    lines = _Lines()
    skipped = 0
    for event, element in ElementTree.iterparse(stream, events=("start", "end")):
        # By local names: the strict form of the format has another namespace.
        name = str(element.tag).rpartition("}")[2]
        if name in _SKIPPED:
            skipped += 1 if event == "start" else -1
        elif not skipped:
            lines.take(event, name, element)
        if event == "end" and name in ("p", "tbl"):
            element.clear()
    return lines.text()


class _Lines:
    """Lines as the elements of a document come."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._open: list[str] = []
        """Texts of the paragraphs that are open: one in a text box stands within another."""
        self._mark = ""
        self._rows: list[list[str]] = []

    def text(self) -> str:
        return "\n".join(self._lines)

    def take(self, event: str, name: str, element: ElementTree.Element) -> None:
        """An element that begins or ends."""
        if event == "start":
            if name == "p":
                self._open.append("")
            elif name == "tr":
                self._rows.append([])
            elif name == "tc" and self._rows:
                self._rows[-1].append("")
            return
        if name == "pStyle":
            self._heading(element)
        elif name == "p" and self._open:
            self._close()
        elif name == "tr" and self._rows:
            row = self._rows.pop()
            self._say("\t".join(row) if any(row) else "")
        elif self._open and (said := _said(name, element)):
            self._open[-1] += said

    def _heading(self, element: ElementTree.Element) -> None:
        value = next((value for key, value in element.items() if key.rpartition("}")[2] == "val"), "")
        found = _HEADING.fullmatch(value)
        self._mark = f"{'#' * int(found[1])} " if found else ""

    def _close(self) -> None:
        said, mark = self._open.pop().strip(), self._mark
        self._mark = ""
        self._say(f"{mark}{said}" if said else "")

    def _say(self, line: str) -> None:
        """Into the cell that is open, or as a line."""
        if not line:
            return
        if self._rows and self._rows[-1]:
            cell = self._rows[-1][-1]
            self._rows[-1][-1] = f"{cell} {line}" if cell else line
        else:
            self._lines.append(line)


def _said(name: str, element: ElementTree.Element) -> str:
    if name == "t":
        return element.text or ""
    return {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}.get(name, "")
