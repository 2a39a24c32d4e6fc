"""The receipt as one readable HTML page. Nothing from the notebook is ever markup in it: no scripts,
everything escaped."""

from __future__ import annotations

import html as _html
from collections.abc import Iterable, Sequence
from typing import Any

from allmend.box.record import clean
from allmend.nouns.receipt import Receipt

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .25rem .6rem;
vertical-align: top; }
tr + tr { border-top: 1px solid #8884; } td { overflow-wrap: anywhere; }
.n { text-align: right;
font-variant-numeric: tabular-nums; }
.denied, .stopped { font-weight: 600; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: .5rem; border: 1px solid #8884; }
.badge { border: 1px solid; border-radius: .3rem; padding: .1rem .4rem; }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_MOST_ROWS = 1000
_MOST_OUTPUT = 4000


def html(receipt: Receipt, notebook: dict[str, Any] | None = None) -> str:
    """The page; with `notebook` (the executed one) its text outputs are shown by cell, as text."""
    held = receipt.enforcement
    wall = f"Landlock ABI {held.landlock_abi}, bubblewrap {held.bubblewrap or 'none'}"
    wall += f", control group {held.cgroup}, uid {held.uid}"
    dropped = [f"{receipt.events_dropped} events beyond the bound"] if receipt.events_dropped else []
    parts = [
        f"<h1>{_text(receipt.notebook)}: {_text(receipt.ended)}</h1>",
        f"<p>{_text(receipt.ended_why)}. {receipt.seconds:.1f} s, from {_text(receipt.started)}. ",
        f"SHA-256 <code>{_text(receipt.sha256)}</code></p>",
        f'<p><span class="badge">{_text(held.name)}, level {held.level}</span> ',
        f"{_text('; '.join(held.why))}. {_text(wall)}.</p>",
        _list("What this level does not hold", held.missing),
        _difference(receipt),
        _hosts(receipt),
        _events(receipt),
        _files(receipt),
        _list("Secrets handed over", receipt.secrets_used),
        _table(
            "Limits",
            ("limit", "value", "held by", "note"),
            [(limit.name, limit.value, limit.by, limit.note or "") for limit in receipt.limits],
        ),
        _table(
            "Cells",
            ("cell", "status", "seconds", "error"),
            [(c.cell, c.status, f"{c.seconds:.2f}", c.error or "") for c in receipt.cells],
        ),
        _list("Granted by this machine's owner", receipt.operator_grants),
        _list("Not recorded", [*receipt.not_recorded, *dropped]),
        _outputs(notebook),
    ]
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Receipt: {_text(receipt.notebook)}</title><style>{_STYLE}</style></head>"
    )
    return f"{head}<body>{''.join(parts)}</body></html>\n"


def _hosts(receipt: Receipt) -> str:
    columns = ("host", "port", "granted by", "connections", "bytes out", "bytes in")
    rows = []
    for host in receipt.hosts:
        by = "the machine's owner" if host.operator else "the permissions"
        rows.append((host.host, host.port, by, host.connections, host.bytes_out, host.bytes_in))
    return _table("Hosts", columns, rows)


def _events(receipt: Receipt) -> str:
    columns = ("cell", "what", "target", "verdict", "times", "seen by", "detail")
    rows = [(_place(e.cell), e.kind, e.target, e.verdict, e.count, e.source, e.detail) for e in receipt.events]
    return _table("What happened, by cell", columns, rows)


def _files(receipt: Receipt) -> str:
    rows = [(f.path, _place(f.cell), f.bytes, "yes" if f.exported else f.why_not or "no") for f in receipt.files]
    return _table("Files written", ("path", "cell", "bytes", "taken out"), rows)


def _place(cell: int) -> object:
    return cell if cell >= 0 else "-"


def _text(value: object) -> str:
    return _html.escape(clean(str(value), 2000), quote=True)


def _list(title: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    return f"<h2>{_text(title)}</h2><ul>{''.join(f'<li>{_text(item)}</li>' for item in items[:_MOST_ROWS])}</ul>"


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    kept = list(rows)
    if not kept:
        return f"<h2>{_text(title)}</h2><p>None.</p>"
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in kept[:_MOST_ROWS])
    more = f"<p>and {len(kept) - _MOST_ROWS} more in receipt.json</p>" if len(kept) > _MOST_ROWS else ""
    return f"<h2>{_text(title)}</h2><table><tr>{head}</tr>{body}</table>{more}"


def _cell(value: object) -> str:
    if isinstance(value, int | float):
        return f'<td class="n">{value:,}</td>'
    mark = f' class="{value}"' if value in ("denied", "stopped") else ""
    return f"<td{mark}>{_text(value)}</td>"


def _difference(receipt: Receipt) -> str:
    if receipt.difference is None:
        return "<h2>Against the plan</h2><p>There was no plan to compare with.</p>"
    found = receipt.difference
    same = not found.seen_not_planned and not found.planned_not_seen
    return (
        "<h2>Against the plan</h2>"
        + ("<p>Nothing was seen that the plan does not say, and all it says of hosts was seen.</p>" if same else "")
        + _list("Seen, not planned", found.seen_not_planned)
        + _list("Planned, not seen", found.planned_not_seen)
        + _list("Planned, and no record can tell", found.not_comparable)
    )


def _outputs(notebook: dict[str, Any] | None) -> str:
    if notebook is None:
        return ""
    parts = []
    for place, cell in enumerate(notebook["cells"]):
        texts = [_output_text(output) for output in cell.get("outputs", [])]
        text = "".join(texts)[:_MOST_OUTPUT]
        if text:
            shown = _html.escape("\n".join(clean(line, _MOST_OUTPUT) for line in text.split("\n")), quote=True)
            parts.append(f"<h3>Cell {place}</h3><pre>{shown}</pre>")
    return "<h2>Outputs, as text</h2>" + "".join(parts) if parts else ""


def _output_text(output: dict[str, Any]) -> str:
    kind = output.get("output_type")
    if kind == "stream":
        return str(output.get("text", ""))
    if kind == "error":
        return f"{output.get('ename')}: {output.get('evalue')}\n"
    data = output.get("data", {})
    plain = data.get("text/plain", "")
    others = [name for name in data if name != "text/plain"]
    note = f"  [also {', '.join(others)}: in the executed notebook, not shown here]" if others else ""
    return f"{plain if isinstance(plain, str) else ''}{note}\n"
