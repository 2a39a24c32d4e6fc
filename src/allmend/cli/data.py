"""`allmend data check`."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from allmend.cli.live import blocks
from allmend.cli.show import notes, out, print_json
from allmend.cli.sources import check_source
from allmend.errors import InputError
from allmend.verbs.data_check import DataCheckSettings, data_check

if TYPE_CHECKING:
    from allmend.nouns.data_report import DataReport, Preview

app = App(name="data", help="Your own rows: check them before training.")

_SHOWN = 480
"""Characters of a part that a preview shows."""

_LEARNED, _CUT = "bold green", "red"

_MARKS = {"blocking": ("red", "stops tuning"), "warning": ("yellow", "warning"), "note": ("cyan", "note")}


@app.command(name="check")
def check_command(
    source: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    settings: Annotated[DataCheckSettings, Parameter(name="*")] = DataCheckSettings(),  # noqa: B008
    json: bool = False,
) -> int:
    """Look for duplicates, leakage, empty rows, lone classes, secrets, before any training.

    Exits with 4 when something was found that stops tuning.

    Parameters
    ----------
    source
        A .jsonl, .csv, .tsv or .parquet file, a folder of texts, or - for standard input.
    json
        Print JSON.
    """
    check_source(source, DataCheckSettings)
    report = data_check(source, **dict(settings))
    if json:
        print_json(report)
    else:
        _show(report)
    return InputError.exit_code if report.blocking else 0


def _show(report: DataReport) -> None:
    from rich.markup import escape
    from rich.table import Table

    show = out().print
    columns = ", ".join(f"{part} from {column!r}" for part, column in report.columns.items() if part != column)
    show(f"[bold]{escape(report.source)}[/bold]  {_rows(report.rows)} of {report.kind.replace('_', ' and ')}"
         + (f" ({escape(columns)})" if columns else ""))  # fmt: skip
    for note in report.notes:
        show(f"[dim]{escape(visible(note))}[/dim]")
    if report.labels:
        total = sum(report.labels.values())
        shares = [f"{label} {count} ({count / total:.0%})" for label, count in list(report.labels.items())[:12]]
        more = f", {len(report.labels) - 12} more" if len(report.labels) > 12 else ""
        show(visible(f"labels  {', '.join(shares)}{more}"), markup=False)
    if report.lengths:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("length", "in", "least", "median", "95 of 100", "most", "from least to most"):
            table.add_column(name, justify="left" if name in ("length", "in", "from least to most") else "right")
        for size in report.lengths:
            numbers = (f"{n:g}" for n in (size.least, size.median, size.most_of_them, size.most))
            table.add_row(size.of, size.unit, *numbers, blocks(size.bins))
        show(table)
    if report.previews:
        _previews(report.previews)
    show("")
    for found in report.problems:
        colour, word = _MARKS[found.severity]
        show(f"[{colour}]{word}[/{colour}]  {_rows(found.count)}: {escape(found.message)}")
        if found.rows:
            show(f"  at {', '.join(found.rows)}{' …' if found.count > len(found.rows) else ''}", markup=False)
        if found.fix:
            show(f"  next: {found.fix}", markup=False)
    if not report.problems:
        show("Nothing was found by the checks that ran.")
    for missing in report.unchecked:
        show(f"[dim]not checked[/dim]  {missing.what}: {missing.why}")
    if report.fixed_rows == 0:
        notes().print("No usable row is left, so no cleaned copy was written.")
    elif report.fixed:
        notes().print(f"A cleaned copy with {_rows(report.fixed_rows or 0)} is in {report.fixed}.", markup=False)


def _previews(previews: list[Preview]) -> None:
    """Rows as training sees them; what is learned stands out, in colour and, without one, in brackets."""
    from rich.text import Text

    note = Text(f"\nRows as training sees them ({previews[0].template}): ", style="dim")
    note.append("⟦learned⟧", style=_LEARNED)
    note.append(", the rest is only read")
    if any(preview.cut_tokens for preview in previews):
        note.append("; ")
        note.append("⟪cut⟫", style=_CUT)
        note.append(" does not fit into the context")
    out().print(note.append(".", style="dim"))
    for preview in previews:
        _preview(preview)


def _preview(preview: Preview) -> None:
    from rich.text import Text

    counted = [] if preview.tokens is None else [f"{preview.tokens} tokens, {preview.learned_tokens} of them learned"]
    about = visible(", ".join(filter(None, [preview.why, *counted])))
    out().print(Text(f"\n{preview.place}", style="bold").append(f"  {about}" if about else "", style="not bold dim"))
    text = Text()
    if preview.cut_tokens:
        text.append(f"⟪{_shortened(preview.cut, _SHOWN // 3)}⟫ ({preview.cut_tokens} tokens) ", style=_CUT)
    for part, learned in preview.parts:
        shown = _shortened(part, _SHOWN)
        text.append(f"⟦{shown}⟧" if learned else shown, style=_LEARNED if learned else "dim")
    text.rstrip()
    out().print(text)


def visible(text: str) -> str:
    """`text` with characters that cannot be seen, or that steer a terminal or the direction of writing, spelled out.

    Joiners inside words and emoji stay: scripts need them.
    """
    if text.isascii() and text.isprintable():
        return text
    hidden = {"Cc", "Cf", "Co", "Zl", "Zp"}
    return "".join(
        f"<U+{ord(letter):04X}>"
        if unicodedata.category(letter) in hidden and letter not in "\n\t\u200c\u200d\ufe0f"
        else letter
        for letter in text
    )


def _shortened(text: str, most: int) -> str:
    text = visible(text)
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
