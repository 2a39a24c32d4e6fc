"""The shell of a page: head, theme and policy; and the files that pages load from beside this module."""

from __future__ import annotations

import html
from functools import lru_cache
from importlib.resources import files

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy header of every page: our own files, no inline script, nothing from elsewhere."""

_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


def page(title: str, body: str, *, script: str | None = None, base: str = "") -> str:
    """A whole page. `body` is HTML that the caller made safe; `script` the name of an asset to load as a module."""
    load = f'<script type="module" src="{base}/assets/{script}"></script>' if script else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{html.escape(title)}</title><link rel="stylesheet" href="{base}/assets/theme.css">'
        f'<link rel="icon" href="{base}/assets/mark.svg">{load}</head><body>{body}</body></html>\n'
    )


@lru_cache(maxsize=32)
def asset(name: str) -> tuple[bytes, str] | None:
    """The bytes and media type of a file in `assets/`; None for any other name."""
    kind = _TYPES.get(name.rpartition(".")[2])
    folder = files("allmend.pages") / "assets"
    if kind is None or "/" in name or name not in {entry.name for entry in folder.iterdir()}:
        return None
    return (folder / name).read_bytes(), kind
