"""The text of HTML: what a reader of the page sees, with its tables' cells apart and its listings as they are."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_SKIPPED = {"script", "style", "template", "noscript", "svg", "title"}
"""What is no text of the page. `head` is not among them: its end may be left out, and it holds nothing else."""
_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "br", "button", "caption", "dd", "details", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "legend",
    "li", "main", "nav", "ol", "option", "p", "pre", "section", "select", "summary", "table", "textarea", "tr", "ul",
}  # fmt: skip
_CELLS = {"td", "th"}
_SPACE = re.compile(r"[ \t\r\n\f]+")
_BLANK = re.compile(r"\n(?:[ \t]*\n)+")


def page_text(source: str) -> str:
    """The page's text; blocks and rows on lines of their own."""
    parser = _Text()
    parser.feed(source)
    parser.close()
    return _BLANK.sub("\n\n", "".join(parser.pieces))


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._inside = self._listing = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _SKIPPED:
            self._inside += 1
        elif tag in _BLOCKS:
            self.pieces.append("\n")
            self._listing += tag == "pre"
        elif tag in _CELLS:
            self.pieces.append("\t")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SKIPPED:
            self._inside = max(0, self._inside - 1)
        elif tag in _BLOCKS:
            self.pieces.append("\n")
            if tag == "pre":
                self._listing = max(0, self._listing - 1)

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.pieces.append(data if self._listing else _SPACE.sub(" ", data))
