"""The text of HTML: what a reader of the page sees, with its tables' cells apart and its listings as they are."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_SKIPPED = {"script", "style", "template", "noscript", "svg", "title"}
"""What is no text of the page. `head` is not among them: its end may be left out, and it holds nothing else."""
_LINES = {
    "address", "article", "aside", "body", "br", "button", "caption", "dd", "details", "div", "dl", "dt", "fieldset",
    "figcaption", "figure", "footer", "form", "header", "hr", "legend", "li", "main", "nav", "option", "section",
    "select", "summary", "textarea", "tr",
}  # fmt: skip
"""What begins a line."""
_PARAGRAPHS = {"blockquote", "h1", "h2", "h3", "h4", "h5", "h6", "ol", "p", "pre", "table", "ul"}
"""What stands apart from what is before and after it."""
_CELLS = {"td", "th"}
_SPACE = re.compile(r"[ \t\r\n\f]+")


def page_text(source: str) -> str:
    """The page's text; blocks and rows on lines of their own."""
    parser = _Text()
    parser.feed(source)
    parser.close()
    return "".join(parser.pieces)


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._inside = self._listing = 0
        self._breaks = 2
        """Line ends after the last text."""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in _SKIPPED:
            self._inside += 1
        elif tag in _CELLS:
            self._say("" if self._breaks else "\t")
        else:
            self._break(tag)
            self._listing += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if tag in _SKIPPED:
            self._inside = max(0, self._inside - 1)
        else:
            self._break(tag)
            if tag == "pre":
                self._listing = max(0, self._listing - 1)

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self._say(data if self._listing else _SPACE.sub(" ", data))

    def _break(self, tag: str) -> None:
        wanted = 2 if tag in _PARAGRAPHS else 1 if tag in _LINES else 0
        if wanted > self._breaks:
            self.pieces.append("\n" * (wanted - self._breaks))
            self._breaks = wanted

    def _say(self, text: str) -> None:
        if self._breaks and not self._listing:
            text = text.lstrip(" ")
        if text:
            self.pieces.append(text)
            self._breaks = 0
