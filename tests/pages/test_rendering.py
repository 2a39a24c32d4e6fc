"""What others wrote is shown, and nothing of it is active in our pages."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmend.pages import POLICY, asset, fragment, frame, frame_policy, markdown, page

HARMLESS = {
    "p", "em", "strong", "code", "pre", "a", "ul", "ol", "li", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "hr", "br",
    "table", "thead", "tbody", "tr", "th", "td", "s", "img", "div", "iframe",
}  # fmt: skip
ATTRIBUTES = {"href", "title", "rel", "target", "src", "alt", "class", "start", "style", "sandbox"}


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def _tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Tags()
    parser.feed(text)
    return parser.found


def _is_harmless(text: str) -> bool:
    """True; fails at the first tag or attribute that could act."""
    for tag, attributes in _tags(text):
        assert tag in HARMLESS and set(attributes) <= ATTRIBUTES, (tag, attributes)
        assert not (attributes.get("href") or "").strip().lower().startswith(("javascript:", "data:", "vbscript:"))
        source = attributes.get("src") or ""
        assert source.startswith("data:image/") if tag == "img" else tag != "iframe" or source.startswith("/frames/")
        assert tag != "iframe" or attributes["sandbox"] == "allow-scripts"
        style = attributes.get("style") or ""
        assert not style or style.startswith("text-align:")
    return True


NASTY = st.sampled_from(
    ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "![a](http://t.example/p)", "[x](javascript:alert(1))", "<iframe src=//x>",
     "</pre>", "\x1b]8;;http://x\x07y", "<a href='java\nscript:1'>", "| a |\n|:-|\n| <b> |", "&#60;script&#62;", "[x]: data:text/html,1\n[x]"]
)  # fmt: skip


@given(st.lists(NASTY | st.text(max_size=30), max_size=6).map(" ".join))
def test_markdown_keeps_nothing_active(text: str) -> None:
    assert _is_harmless(markdown(text))


@given(
    st.lists(
        st.fixed_dictionaries(
            {"output_type": st.sampled_from(["stream", "display_data", "error", "execute_result", "odd"])},
            optional={
                "text": NASTY | st.text(max_size=30) | st.lists(NASTY),
                "name": st.text(max_size=8),
                "data": st.dictionaries(
                    st.sampled_from(["text/plain", "text/html", "text/markdown", "image/png", "image/svg+xml", "text/latex", "x/y"]),
                    NASTY | st.text(max_size=30) | st.integers() | st.none(),
                ),
                "traceback": st.lists(NASTY) | st.integers(),
                "ename": NASTY,
            },
        ),
        max_size=4,
    )
)  # fmt: skip
def test_outputs_of_any_shape_keep_nothing_active(outputs: list[dict[str, Any]]) -> None:
    assert _is_harmless(fragment(outputs, "/frames/1/"))
    for output in outputs:
        assert not frame(output) or frame(output).startswith("<!doctype html>")


def test_what_is_meant_is_shown() -> None:
    shown = markdown("# Title\n\n*word* [link](https://x.example) `code`\n\n| a | b |\n|---|---|\n| 1 | 2 |")
    assert "<h1>Title</h1>" in shown and 'href="https://x.example"' in shown and "<table>" in shown
    picture = {"output_type": "display_data", "data": {"image/png": "aGVsbG8=", "text/plain": "<Figure>"}}
    assert 'src="data:image/png;base64,aGVsbG8="' in fragment([picture], "/frames/")
    coloured = {"output_type": "stream", "name": "stdout", "text": "\x1b[31mred\x1b[0m & <b>"}
    assert "red &amp; &lt;b&gt;" in fragment([coloured], "/frames/")


def test_frames_reach_nothing_and_pages_load_only_their_own() -> None:
    assert "connect-src 'none'" in frame_policy and frame_policy.startswith("sandbox allow-scripts;")
    assert "unsafe-inline" not in POLICY and "unsafe-eval" not in POLICY
    assert "&lt;b&gt;" in page("<b>", "")


@pytest.mark.parametrize("name", ["../shell.py", "shell.py", "theme.css/..", "nothing.css", "", ".css"])
def test_only_assets_are_assets(name: str) -> None:
    assert asset(name) is None and asset("theme.css") is not None


def test_a_progress_bar_is_shown_in_its_last_state() -> None:
    bar = "\r  0%|    |\r 50%|##  |\r\x1b[1G100%|####|\nnext\r\nlast\r"
    made = fragment([{"output_type": "stream", "name": "stderr", "text": bar}], "/f/")
    assert "100%|####|\nnext\nlast<" in made
    assert "50%" not in made
