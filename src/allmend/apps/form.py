"""The page of one notebook: its words, what it will do, its form, and the place where a run appears."""

from __future__ import annotations

from collections import Counter
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any

from allmend.apps.parameters import misfit
from allmend.pages import markdown, page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allmend.apps.notebook import NotebookApp
    from allmend.nouns.plan import FormParameter

_MOST_INTRO = 3
_KINDS = {
    "install": "installs",
    "clone": "clones",
    "download": "downloads",
    "model": "fetches the model",
    "dataset": "fetches the data set",
    "foreign_code": "runs foreign code",
    "credential": "uses the account or secret",
    "send": "sends data to",
    "personal_files": "touches your files",
    "serve": "opens a server",
    "unpickle": "loads data that can run code",
    "dynamic_code": "runs text it makes itself",
    "destructive": "deletes or overwrites",
    "process": "starts the program",
    "hardware": "needs",
    "hidden_code": "hides code",
}


def notebook_page(app: NotebookApp, base: str, *, may_ask: bool) -> str:
    """The whole page. `base` is the address it lies under."""
    intro = [cell["source"] for cell in app.cells[:_MOST_INTRO] if cell["cell_type"] == "markdown"]
    body = [
        f'<main data-base="{escape(base)}" data-seen="{escape(app.sha256)}" data-cells="{len(app.code_cells)}" '
        f'data-may-ask="{str(may_ask).lower()}">',
        "".join(f'<div class="prose">{markdown(text)}</div>' for text in intro) or f"<h1>{escape(app.title)}</h1>",
        _plan(app),
        '<form id="form" novalidate>',
        *_sections(app.parameters),
        _files() if app.takes_files else "",
        '<div class="row"><button class="main" type="submit" id="run">Run</button>',
        '<button type="button" id="stop" hidden>Stop</button><span id="state" class="dim" role="status"></span></div>',
        "</form>",
        '<progress id="progress" max="1" value="0" hidden aria-label="cells done"></progress>',
        '<section id="asked" aria-live="assertive"></section>',
        '<section id="servers" aria-live="polite"></section>',
        '<section id="results" aria-live="polite"></section>',
        '<section id="after"></section>',
        '<details id="history"><summary>Earlier runs</summary><div id="earlier"></div></details>',
        _code(app),
        "</main>",
    ]
    return page(app.title, "".join(body), script="app.js")


def index_page(apps: Sequence[NotebookApp]) -> str:
    """The list of notebooks of a folder."""
    rows = "".join(
        f'<li class="card"><a href="/{escape(app.slug)}/">{escape(app.title)}</a> '
        f'<span class="dim">{len(app.parameters)} parameters, {len(app.plan.findings)} findings</span></li>'
        for app in apps
    )
    return page("Notebooks", f"<main><h1>Notebooks</h1><ul>{rows}</ul></main>")


def _plan(app: NotebookApp) -> str:
    plan = app.plan
    counts: Counter[str] = Counter(effect.kind for effect in plan.effects)
    parts = [
        '<details id="plan" class="card" open><summary><strong>What running this does</strong> '
        f'<span class="dim">held at level {escape(app.level)}</span></summary>'
    ]
    for finding in plan.findings:
        cells = ", ".join(str(cell) for cell in finding.cells)
        parts.append(
            f'<p class="{escape(finding.severity)}"><strong>{escape(finding.title)}</strong> (cells {cells}). '
            f"{escape(finding.why)} {escape(finding.fix)}</p>"
        )
    if not plan.findings:
        parts.append("<p>No findings. That is what was looked for and not found, not a promise.</p>")
    parts.append("<table>")
    for kind, words in _KINDS.items():
        if counts[kind]:
            targets = list(dict.fromkeys(effect.target for effect in plan.effects if effect.kind == kind))
            shown = ", ".join(f"<code>{escape(target[:120])}</code>" for target in targets[:12])
            more = f" and {len(targets) - 12} more" if len(targets) > 12 else ""
            parts.append(f"<tr><th scope=row>{words}</th><td>{shown}{more}</td></tr>")
    if not plan.effects:
        parts.append("<tr><td>Nothing beyond computing: no installs, no network, no accounts.</td></tr>")
    parts.append("</table>")
    if plan.unread:
        unread = "; ".join(f"cell {part.cell}: {part.reason}" for part in plan.unread[:8])
        parts.append(f'<p class="warning">Not read: {escape(unread)}</p>')
    parts.append(
        f"<details><summary>What it is permitted</summary><pre>{escape(app.permissions.to_toml())}</pre></details>"
        '<p><button type="button" id="read">I have read this</button></p></details>'
    )
    return "".join(parts)


def _sections(parameters: Sequence[FormParameter]) -> list[str]:
    if not parameters:
        return ['<p class="dim">This notebook has no parameters.</p>']
    made = []
    for section, fields in groupby(parameters, key=lambda parameter: parameter.section):
        inner = "".join(_field(parameter) for parameter in fields)
        made.append(f"<fieldset><legend>{escape(section)}</legend>{inner}</fieldset>" if section else inner)
    return made


def _field(parameter: FormParameter) -> str:
    name = escape(parameter.name)
    about = f'<p class="about" id="about-{name}">{escape(parameter.description)}</p>' if parameter.description else ""
    wrong = misfit(parameter)
    control = _control(parameter) if wrong is None else _as_text(parameter)
    if wrong is not None:
        own = escape(_text(parameter.default)[:80])
        words = f"The notebook's own value, {own}, is not what it asks for (it {escape(wrong)}); unchanged it is used."
        about += f'<p class="about warning">{words}</p>'
    kind = "field check" if parameter.type == "boolean" and not parameter.choices and wrong is None else "field"
    label = f'<label for="p-{name}">{name}</label>'
    inner = f"{control}{label}{about}" if kind.endswith("check") else f"{label}{about}{control}"
    return f'<div class="{kind}" data-name="{name}">{inner}<p class="wrong" hidden></p></div>'


def _as_text(parameter: FormParameter) -> str:
    """A field that shows any value: one made for its type would show another and send that."""
    name, value = escape(parameter.name), escape(_text(parameter.default))
    options = "".join(f'<option value="{escape(_text(choice))}"></option>' for choice in parameter.choices or ())
    common = f'id="p-{name}" name="{name}" data-type="{escape(parameter.type)}" value="{value}"'
    return (
        f'<input type="text" {common} list="l-{name}" autocomplete="off"><datalist id="l-{name}">{options}</datalist>'
    )


def _control(parameter: FormParameter) -> str:
    name, value = escape(parameter.name), escape(_text(parameter.default))
    common = f'id="p-{name}" name="{name}" data-type="{escape(parameter.type)}"'
    if parameter.choices and parameter.allow_input:
        options = "".join(f'<option value="{escape(_text(choice))}"></option>' for choice in parameter.choices)
        field = f'<input type="text" {common} list="l-{name}" value="{value}" autocomplete="off">'
        return f'{field}<datalist id="l-{name}">{options}</datalist>'
    if parameter.choices:
        options = "".join(_option(choice, chosen=choice == parameter.default) for choice in parameter.choices)
        return f"<select {common}>{options}</select>"
    if parameter.type == "boolean":
        return f'<input type="checkbox" {common}{" checked" if parameter.default is True else ""}>'
    if parameter.type == "slider":
        high = 100 if parameter.maximum is None else parameter.maximum
        bounds = f'min="{parameter.minimum or 0:g}" max="{high:g}" step="{parameter.step or 1:g}"'
        field = f'<input type="range" {common} {bounds} value="{value}">'
        return f'<div class="range">{field}<output for="p-{name}">{value}</output></div>'
    if parameter.type in ("integer", "number"):
        step = "1" if parameter.type == "integer" else "any"
        return f'<input type="number" {common} step="{step}" value="{value}">'
    if parameter.type == "date":
        return f'<input type="date" {common} value="{value}">'
    if isinstance(parameter.default, str) and ("\n" in parameter.default or len(parameter.default) > 120):
        return f'<textarea {common} rows="4">{value}</textarea>'
    return f'<input type="text" {common} value="{value}">'


def _option(choice: Any, *, chosen: bool) -> str:
    text = escape(_text(choice))
    return f'<option value="{text}"{" selected" if chosen else ""}>{text}</option>'


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else repr(value)


def _files() -> str:
    return (
        '<div class="field"><label for="files">Files</label><p class="about">The notebook asks for files of yours. '
        'They go to this run alone.</p><input type="file" id="files" multiple></div>'
    )


def _code(app: NotebookApp) -> str:
    cells = "".join(
        f"<p class=dim>cell {number}</p><pre>{escape(cell['source'])}</pre>"
        if cell["cell_type"] == "code"
        else f'<div class="prose">{markdown(cell["source"])}</div>'
        for number, cell in enumerate(app.cells)
    )
    return f'<details id="code"><summary>The code</summary>{cells}</details>'
