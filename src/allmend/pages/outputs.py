"""Outputs of notebook cells for a page: what a notebook printed is shown, what it wrote as HTML is caged.

Text is escaped. Pictures become `<img>` with their bytes inside, so that a script in an SVG never runs. HTML,
JavaScript and everything like it goes into a frame of its own: sandboxed without an origin, held by `frame_policy` to
what it carries in itself, so that it can neither read the page nor call anywhere.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Sequence
from typing import Any

from allmend.pages.markdown import markdown

MOST_TEXT = 200_000
"""Characters of one text output that are shown; the whole lies in the executed notebook."""
MOST_FRAME = 8 * 2**20
_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.")
_FRAMED = ("text/html", "application/javascript", "text/javascript")

frame_policy = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; media-src data: blob:; font-src data:; connect-src 'none'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'self'"
)
"""The Content-Security-Policy header of a frame: scripts of its own run, and reach nothing."""

_FRAME_HEAD = (
    '<!doctype html><html><head><meta charset="utf-8"><style>'
    ":root{color-scheme:light;background:#fff}body{margin:.3rem;font:15px/1.5 system-ui,sans-serif;overflow-x:auto}"
    "table{border-collapse:collapse;border:0}td,th{padding:.2rem .5rem;text-align:right;border:0;"
    "border-bottom:1px solid #ddd}img,video{max-width:100%}"
    "</style>"
    # Colab's way to call a registered function; the page passes it on while the run is open, and nothing else.
    "<script>{const open=new Map();let last=0;"
    "const invokeFunction=(name,args=[],kwargs={})=>new Promise((done,failed)=>{open.set(++last,[done,failed]);"
    "parent.postMessage({call:{id:last,name,args,kwargs}},'*')});"
    "addEventListener('message',({source,data})=>{const one=open.get(data?.called);if(source!==parent||!one)return;"
    "open.delete(data.called);data.error?one[1](new Error(data.error)):one[0]({data:data.data,metadata:{}})});"
    "globalThis.google={colab:{kernel:{accessAllowed:true,invokeFunction},"
    "output:{setIframeHeight(){},resizeIframeToContent(){}}}}}</script>"
    "</head><body>"
)
# Its height and such calls are all that a frame tells the page.
_FRAME_TAIL = (
    "<script>const tell=()=>parent.postMessage({height:document.documentElement.scrollHeight},'*');"
    "new ResizeObserver(tell).observe(document.documentElement);tell()</script></body></html>"
)


def fragment(outputs: Sequence[dict[str, Any]], frame_address: str, *, after: int = 0) -> str:
    """HTML of a cell's nbformat 4 outputs.

    Args:
        outputs: as the executed notebook holds them.
        frame_address: where frames are served from; the output's number is added to it.
        after: number of the first output that is wanted.
    """
    wanted = list(enumerate(outputs))[after:]
    return "".join(_output(output, f"{frame_address}{number}") for number, output in wanted)


def frame(output: dict[str, Any]) -> str:
    """The document of one framed output; empty when the output has nothing to frame."""
    data = _data(output)
    kind = next((kind for kind in _FRAMED if kind in data), None)
    if kind is None:
        return ""
    text = _text(data[kind])[:MOST_FRAME]
    if kind != "text/html":
        text = "<div id='element'></div><script>" + text.replace("</script", "<\\/script") + "</script>"
    return _FRAME_HEAD + text + _FRAME_TAIL


def _output(output: dict[str, Any], address: str) -> str:
    kind = output.get("output_type")
    if kind == "stream":
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        return _pre(_text(output.get("text", "")), name)
    if kind == "error":
        lines = output.get("traceback")
        trace = "\n".join(_text(line) for line in lines) if isinstance(lines, list) else ""
        return _pre(trace or f"{output.get('ename')}: {output.get('evalue')}", "error")
    return _rich(_data(output), address)


def _rich(data: dict[str, Any], address: str) -> str:
    """The richest form of a bundle that can be shown safely."""
    if any(kind in data for kind in _FRAMED):
        return f'<iframe class="output" sandbox="allow-scripts" src="{html.escape(address)}" title="output"></iframe>'
    if "image/svg+xml" in data:
        packed = base64.b64encode(_text(data["image/svg+xml"]).encode("utf-8", "replace")).decode()
        return f'<img class="output" alt="picture" src="data:image/svg+xml;base64,{packed}">'
    for kind in _PICTURES:
        if kind in data and _is_base64(_text(data[kind])):
            return f'<img class="output" alt="picture" src="data:{kind};base64,{"".join(_text(data[kind]).split())}">'
    if "text/markdown" in data:
        return f'<div class="output prose">{markdown(_text(data["text/markdown"]))}</div>'
    if "text/latex" in data:
        return _pre(_text(data["text/latex"]), "result")
    if "text/plain" in data:
        return _pre(_text(data["text/plain"]), "result")
    kinds = ", ".join(str(kind) for kind in list(data)[:5])
    return _pre(f"an output of {kinds or 'no kind'}: it is in the executed notebook", "note") if data else ""


def plain_text(text: str) -> str:
    """What a terminal would show in the end: no controls, and of a line that was written over its last state."""
    text = _ANSI.sub("", text)
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return "".join(c for c in text if c in "\n\t" or c.isprintable())


def _pre(text: str, kind: str) -> str:
    plain = plain_text(text)
    cut = (
        f"\n… and {len(plain) - MOST_TEXT:,} more characters in the executed notebook" if len(plain) > MOST_TEXT else ""
    )
    return f'<pre class="output {kind}">{html.escape(plain[:MOST_TEXT] + cut)}</pre>' if plain.strip() else ""


def _data(output: dict[str, Any]) -> dict[str, Any]:
    data = output.get("data")
    return data if isinstance(data, dict) else {}


def _text(value: object) -> str:
    if isinstance(value, list):
        return "".join(part for part in value if isinstance(part, str))
    return value if isinstance(value, str) else str(value)


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode("".join(text.split()), validate=True))
    except (binascii.Error, ValueError):
        return False
