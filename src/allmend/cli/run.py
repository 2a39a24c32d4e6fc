"""`allmend run`: shows what is asked for, asks, runs, shows the receipt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from allmend.verbs.run import Prepared, RunSettings

if TYPE_CHECKING:
    from allmend.box.outputs import Shown
    from allmend.nouns.permissions import Permissions
    from allmend.nouns.receipt import CellRecord, Receipt

_ENDINGS = {"finished": 0, "interrupted": 130}
FAILED = 12
UNPLANNED = 11


def command(
    notebook: Path,
    *,
    param: Annotated[tuple[str, ...], Parameter(name=("--param", "-p"), negative="")] = (),
    settings: Annotated[RunSettings, Parameter(name="*")] = RunSettings(),  # noqa: B008
    json: bool = False,
) -> int:
    """Run a notebook held to its permissions, and give a receipt.

    Parameters
    ----------
    notebook
        The notebook (.ipynb) or percent script (.py).
    param
        A parameter of the notebook, NAME=VALUE.
    settings
        What is allowed and how it runs.
    json
        Print the receipt as JSON.
    """
    from allmend.cli.show import notes, print_json
    from allmend.verbs import run as verb

    settings = settings.model_copy(update={"parameters": (*settings.parameters, *param)})
    prepared = verb.prepare(notebook, settings)
    show_proposal(prepared)
    interactive = sys.stdin.isatty() and sys.stderr.isatty()
    asked = False
    if interactive and prepared.proposals and not settings.yes and not settings.unsandboxed:
        asked = confirm("Run it with these permissions?")
        if not asked:
            notes().print("Not run.")
            return 8
    permissions = verb.agreed(prepared, asked=asked)
    if settings.batch is not None:
        return _batch(prepared, permissions, settings, json=json)
    receipt = verb.carry_out(prepared, permissions, progress=_Terminal(), ask=_ask if interactive else None)
    if json:
        print_json(receipt)
    else:
        _show_receipt(receipt, prepared.folder)
    code = _ENDINGS.get(receipt.ended, FAILED)
    if code == 0 and settings.check and receipt.difference and receipt.difference.seen_not_planned:
        notes().print(
            f"--check: {len(receipt.difference.seen_not_planned)} effects that the plan does not say.",
            markup=False,
        )
        return UNPLANNED
    return code


def show_proposal(prepared: Prepared) -> None:
    """At most ten lines: the level, what is granted, what is asked for."""
    from allmend.cli.show import notes

    console = notes()
    names = {
        "A": "level A, enforced",
        "B": "level B, enforced with gaps (see the receipt)",
        "D": "NOT BOXED: nothing is enforced",
    }
    console.print(f"{prepared.document.path.name}: {names[prepared.level]}; {'; '.join(prepared.why)}", markup=False)
    ordinary = [proposed.grant for proposed in prepared.proposals if not proposed.careful]
    if ordinary:
        shown = ", ".join(ordinary[:6]) + (f" and {len(ordinary) - 6} more" if len(ordinary) > 6 else "")
        console.print(f"  asks for  {shown}", markup=False)
    careful = prepared.careful
    for proposed in careful[:5]:
        console.print(f"  careful   {proposed.grant}  ({proposed.why})", markup=False)
    if len(careful) > 5:
        console.print(f"  careful   and {len(careful) - 5} more (allmend plan lists them)", markup=False)
    for note in prepared.notes[:2]:
        console.print(f"  note      {note}", markup=False)


def _batch(prepared: Prepared, permissions: Permissions, settings: RunSettings, *, json: bool) -> int:
    """A line for every row as it ends; exit code 12 when one failed."""
    from allmend.cli.show import notes, out, print_json
    from allmend.verbs.batch import batch

    def tell(line: dict[str, Any]) -> None:
        words = line["error"] or line.get("result", "")
        notes().print(f"  row {line['row']}: {line['state']}  {_plain(str(words))[:100]}", markup=False)

    assert settings.batch is not None
    result = batch(prepared, permissions, settings.batch, at_once=settings.at_once, tell=tell)
    if json:
        shown = {"finished": result.finished, "failed": result.failed, "kept": result.kept, "table": str(result.table)}
        print_json(shown | {"rows": result.rows})
    else:
        kept = f" ({result.kept} from before)" if result.kept else ""
        out().print(
            f"{result.finished} rows finished{kept}, {result.failed} failed; results in {result.table}", markup=False
        )
    return FAILED if result.failed else 0


def confirm(question: str) -> bool:
    """Whether a person at the terminal says yes."""
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _ask(kind: str, what: str) -> bool:
    """Something not permitted, while a cell waits."""
    return confirm(f"\nThe running cell wants {kind} {what}, which is not permitted. Allow it for this run?")


class _Terminal:
    """Progress at a terminal: outputs stream, each cell ends with its time."""

    def __init__(self) -> None:
        from allmend.cli.show import notes

        self.console = notes()

    def cell_started(self, cell: int, source: str) -> None:
        first = next((line for line in source.split("\n") if line.strip()), "")[:70]
        self.console.print(f"[{cell}] {_plain(first)}", markup=False)

    def output(self, cell: int, shown: Shown) -> None:
        text = _plain(shown.text)
        if text:
            self.console.print(text, end="" if text.endswith("\n") else "\n", markup=False)

    def cell_ended(self, record: CellRecord) -> None:
        self.console.print(f"[{record.cell}] {record.status} in {record.seconds:.2f} s", markup=False)


def _plain(text: str) -> str:
    """Text from inside without terminal controls: it could rewrite what was shown before."""
    import re

    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.", "", text)
    return "".join(c for c in text if c in "\n\t" or c.isprintable())


def _show_receipt(receipt: Receipt, folder: Path) -> None:
    from allmend.cli.show import out

    console = out()

    def line(text: str) -> None:
        console.print(text, markup=False)

    line(f"{receipt.notebook}: {receipt.ended} in {receipt.seconds:.1f} s ({receipt.ended_why})")
    line(
        f"  held      {receipt.enforcement.name} (level {receipt.enforcement.level}), "
        f"{receipt.profile} Python {receipt.python}"
    )
    for host in receipt.hosts[:8]:
        owner = " (package index)" if host.operator else ""
        line(f"  host      {host.host}:{host.port}{owner}  {host.bytes_out:,} bytes out, {host.bytes_in:,} in")
    denied = [event for event in receipt.events if event.verdict in ("denied", "stopped")]
    for event in denied[:8]:
        line(
            f"  refused   cell {event.cell}: {event.kind} {event.target}"
            + (f" ({event.count} times)" if event.count > 1 else "")
        )
    if len(denied) > 8:
        line(f"  refused   and {len(denied) - 8} more")
    exported = [file for file in receipt.files if file.exported]
    line(f"  files     {len(exported)} taken out, {len(receipt.files) - len(exported)} left inside")
    if receipt.difference:
        difference = receipt.difference
        line(
            f"  plan      {len(difference.seen_not_planned)} effects it does not say, "
            f"{len(difference.planned_not_seen)} it says that were not seen, "
            f"{len(difference.not_comparable)} that no record can tell"
        )
    line(f"  receipt   {folder / 'receipt.html'}")
