"""`allmend run`: shows what is asked for, asks, runs, shows the receipt."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from allmend.verbs.run import Prepared, RunSettings

if TYPE_CHECKING:
    from allmend.apps.links import Links
    from allmend.cli.run_terminal import Terminal
    from allmend.nouns.permissions import Permissions
    from allmend.nouns.receipt import Receipt

_ENDINGS = {"finished": 0, "interrupted": 130}
FAILED = 12
UNPLANNED = 11


def command(
    notebook: Path,
    /,
    *,
    param: Annotated[tuple[str, ...], Parameter(name=("--param", "-p"), negative="")] = (),
    settings: Annotated[RunSettings, Parameter(name="*")] = RunSettings(),  # noqa: B008
    json: bool = False,
) -> int:
    """Run a notebook held to its permissions, and give a receipt.

    Exit codes: 0 finished; 8 not permitted or answered with no; 11 with --check, an effect the plan does not say;
    12 a cell failed or a limit ended it; 130 interrupted.

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
    from allmend.cli.run_terminal import Terminal, question
    from allmend.cli.show import notes, print_json
    from allmend.verbs import run as verb

    settings = settings.model_copy(update={"parameters": (*settings.parameters, *param)})
    prepared = verb.prepare(notebook, settings)
    show_proposal(prepared)
    interactive = sys.stdin.isatty() and sys.stderr.isatty()
    asked = False
    if interactive and prepared.proposals and not settings.yes and not settings.unsandboxed:
        asked = question("Run it with these permissions?")
        if not asked:
            notes().print("Not run.")
            return 8
    permissions = verb.agreed(prepared, asked=asked)
    if settings.batch is not None:
        return _batch(prepared, permissions, settings, json=json)
    terminal = Terminal()
    ask = terminal.ask if interactive else None
    with _links(terminal, boxed=prepared.level != "D") as links:
        stay = links.stay if links is not None and (interactive or settings.stay) else None
        typed = terminal.type_line if interactive else None
        receipt = verb.carry_out(prepared, permissions, progress=terminal, ask=ask, web=links, stay=stay, typed=typed)
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


def _links(terminal: Terminal, *, boxed: bool) -> AbstractContextManager[Links | None]:
    """What shows web servers of the notebook; None where there is no box, or nothing to serve with."""
    from allmend.box.outputs import Shown

    try:
        from allmend.apps.links import Links
    except ImportError:  # the base install runs notebooks; showing what they serve needs `allmend[apps]`
        return nullcontext()
    if not boxed:
        return nullcontext()
    return Links(lambda text: terminal.output(-1, Shown("note", f"allmend: {text}\n")))


def show_proposal(prepared: Prepared) -> None:
    """At most ten lines: how it is held, what it asks for, what needs a second look."""
    from allmend.cli.run_terminal import plain
    from allmend.cli.show import notes

    console = notes()
    for label, text in proposal(prepared):
        shown = plain(f"  {label:<9} {text}" if label else text).replace("\n", " ")
        console.print(shown, markup=False, soft_wrap=True)


def proposal(prepared: Prepared) -> list[tuple[str, str]]:
    """The lines of what a notebook asks for: (label, text); nine at most, the question is the tenth."""
    names = {
        "A": "level A, enforced",
        "B": "level B, enforced with gaps (see the receipt)",
        "D": "NOT BOXED: nothing is enforced",
    }
    lines = [("", f"{prepared.document.path.name}: {names[prepared.level]}; {'; '.join(prepared.why)}")]
    choice = prepared.choice
    lines.append(("packages", f"{_PROFILE_NAMES.get(choice.profile, choice.profile)}: {choice.why}"))
    granted = prepared.permissions
    asked: dict[str, list[str]] = {}
    for proposed in prepared.proposals:
        if not proposed.careful:
            kind, _, value = proposed.grant.partition(":")
            asked.setdefault(kind, []).append(value)
    hosts = [*granted.network.hosts, *asked.pop("host", [])]
    lines.append(("hosts", _few(hosts, 6) or "none"))
    writes = asked.pop("write", [granted.files.write] if granted.files.write else [])
    reads = granted.files.read
    files = [f"reads {_few(reads, 4)}"] if reads else []
    files += [f"its outputs go to {_short(folder)}" for folder in writes]
    lines.append(("files", "; ".join(files) or "none come in or out"))
    rest = [f"{kind}:{value}" for kind, values in asked.items() for value in values]
    rest += [f"secret:{name}" for name in granted.secrets] + (
        [f"drive:{granted.drive.folder}"] if granted.drive else []
    )
    if rest:
        lines.append(("also", _few(rest, 6)))
    lines.append(("limits", _limits(prepared)))
    optional = [proposed.grant for proposed in prepared.optional]
    if optional:
        lines.append(("beside it", f"{_few(optional, 4)}; not shown to it without --allow, or a yes here"))
    careful = [f"{proposed.grant}  ({proposed.why})" for proposed in prepared.careful]
    room = 9 - len(lines) - bool(prepared.notes)
    if len(careful) > room:
        careful = [
            *careful[: max(0, room - 1)],
            f"and {len(careful) - max(0, room - 1)} more (`allmend plan` lists them)",
        ]
    lines += [("careful", text) for text in careful]
    if prepared.notes:
        more = f" and {len(prepared.notes) - 1} more" if len(prepared.notes) > 1 else ""
        lines.append(("note", prepared.notes[0] + more))
    return lines


def _batch(prepared: Prepared, permissions: Permissions, settings: RunSettings, *, json: bool) -> int:
    """A line for every row as it ends; exit code 12 when one failed."""
    from allmend.cli.run_terminal import plain
    from allmend.cli.show import notes, out, print_json
    from allmend.verbs.batch import batch

    def tell(line: dict[str, Any]) -> None:
        words = line["error"] or line.get("result", "")
        notes().print(f"  row {line['row']}: {line['state']}  {plain(str(words))[:100]}", markup=False)

    assert settings.batch is not None
    result = batch(prepared, permissions, settings.batch, at_once=settings.at_once, tell=tell)
    if json:
        shown = {"finished": result.finished, "failed": result.failed, "kept": result.kept, "table": str(result.table)}
        print_json(shown | {"rows": result.rows})
    else:
        kept = f" ({result.kept} from before)" if result.kept else ""
        words = f"{result.finished} rows finished{kept}, {result.failed} failed; results in {result.table}"
        out().print(words, markup=False)
    return FAILED if result.failed else 0


_PROFILE_NAMES = {"this": "this environment's", "colab": "the colab profile", "base": "the base profile"}


def _few(items: Sequence[str], most: int) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def _short(folder: str) -> str:
    """A folder as one would type it here."""
    try:
        return str(Path(folder).relative_to(Path.cwd()))
    except ValueError:
        return folder


def _limits(prepared: Prepared) -> str:
    shown = []
    for limit in prepared.limits:
        name, value = limit.name, limit.value
        if name in ("memory", "disk"):
            text = f"{value / 2**30:.3g} GiB {name}"
        elif name in ("time", "cell_time"):
            text = f"{_duration(value)} {'a cell' if name == 'cell_time' else 'in all'}"
        else:
            text = f"{value:g} {name}"
        shown.append(text)
    return ", ".join(shown)


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:g} s"


def _show_receipt(receipt: Receipt, folder: Path) -> None:
    from allmend.cli.run_terminal import plain
    from allmend.cli.show import out

    console = out()

    def line(text: str) -> None:
        console.print(plain(text).replace("\n", " "), markup=False, soft_wrap=True)

    line(f"{receipt.notebook}: {receipt.ended} in {receipt.seconds:.1f} s ({receipt.ended_why})")
    line(
        f"  held      {receipt.enforcement.name} (level {receipt.enforcement.level}), "
        f"{receipt.profile} Python {receipt.python}"
    )
    for host in receipt.hosts[:8]:
        owner = " (package index)" if host.operator else ""
        line(f"  host      {host.host}:{host.port}{owner}  {host.bytes_out:,} bytes out, {host.bytes_in:,} in")
    denied = [event for event in receipt.events if event.verdict in ("denied", "stopped") and event.cell >= 0]
    denied = [event for event in denied if not (event.kind == "read" and event.target.startswith("/sys/"))]
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
