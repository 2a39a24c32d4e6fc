"""Markdown that others wrote, as HTML without anything active in it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

MOST_CHARACTERS = 200_000


@lru_cache(maxsize=1)
def _reader() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # CommonMark with HTML switched off: tags are shown as the text they are, and `javascript:` links are no links.
    return MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])


def markdown(text: str) -> str:
    """HTML of `text`: no raw HTML, no scripts, and pictures only when they lie in the text itself (`data:`).

    A picture at an address would tell its host who is reading; it becomes a link to it.
    """
    reader = _reader()
    tokens = reader.parse(text[:MOST_CHARACTERS])
    for token in tokens:
        for child in token.children or ():
            if child.type == "image" and not str(child.attrGet("src") or "").startswith("data:image/"):
                child.content = f"picture: {child.attrGet('src')}"
                child.type, child.tag, child.nesting, child.attrs = "code_inline", "code", 0, {}
            elif child.type == "link_open":
                child.attrSet("rel", "noopener noreferrer nofollow")
                child.attrSet("target", "_blank")
    return str(reader.renderer.render(tokens, reader.options, {}))
