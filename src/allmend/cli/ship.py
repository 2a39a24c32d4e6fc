"""`allmend ship`, `allmend ship verify`, `allmend ship key`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from allmend.cli.live import Terminal
from allmend.cli.show import notes, out, print_json
from allmend.verbs.ship import ShipSettings, make_key, ship, verify

if TYPE_CHECKING:
    from allmend.nouns.release import Release

app = App(name="ship", help="Pass on what was tested: merged, GGUF, card, lineage, signature; or refuse.")


@app.default
def command(
    run: str,
    /,
    *,
    settings: Annotated[ShipSettings, Parameter(name="*")] = ShipSettings(),  # noqa: B008
    json: bool = False,
) -> None:
    """Make a release from a tune run, or refuse and name the cause.

    Every artefact is loaded as its consumer loads it (PEFT, transformers, llama.cpp) and asked held-out prompts; what
    differs from the tested model beyond its format's noise does not leave.

    Parameters
    ----------
    run
        A tune run: its id, its beginning, or `last:tune`.
    json
        Print the release as JSON.
    """
    with Terminal() as watch:
        release = ship(run, **dict(settings), watch=watch)
    from allmend.models.publishing import is_target

    sent = settings.to is not None and is_target(settings.to)
    target = Path(f"release-{release.run}") if sent or settings.to is None else Path(settings.to)
    if json:
        print_json(release)
    else:
        _show(release, target)
        if sent:
            out().print(f"  allmend serve {settings.to}   (it is on the hub)", markup=False)


@app.command(name="verify")
def verify_command(folder: str, /, *, key: Path | None = None, json: bool = False) -> int:
    """Check every byte, statement and signature of a release, offline.

    Parameters
    ----------
    folder
        The release.
    key
        The public key that you trust to have signed it.
    json
        Print JSON.
    """
    found = verify(folder, key=key)
    if json:
        print_json(found)
        return 0 if found.ok else 4
    show = out().print
    for problem in found.problems:
        show(f"[red]wrong[/red]        {problem}", highlight=False)
    for sentence in found.checked:
        show(f"[green]checked[/green]      {sentence}", highlight=False)
    for sentence in found.not_checked:
        show(f"[yellow]not checked[/yellow]  {sentence}", highlight=False)
    if found.signer:
        show(f"Signed with the key of SHA-256 {found.signer}", markup=False)
    words = "nothing is wrong" if found.ok else f"{len(found.problems)} things are wrong"
    show(f"{found.files} files, {found.bytes / 2**20:.0f} MiB: {words}.", markup=False)
    return 0 if found.ok else 4


@app.command(name="key")
def key_command(file: Path, /) -> None:
    """Make a private key to sign releases with, and its public half beside it (FILE.pub) to hand out.

    Parameters
    ----------
    file
        Where to write the private key. Never written over.
    """
    public = make_key(file)
    out().print(f"{file}\n{public}", markup=False)
    notes().print("Keep the first to yourself; give the second to whoever is to verify.", style="dim")


def _show(release: Release, target: Path) -> None:
    from rich.table import Table

    show = out().print
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("artefact", "size", "loaded by", "prompts", "loss", "difference", "metric"):
        table.add_column(name, justify="left" if name in ("artefact", "loaded by") else "right")
    sizes = {artefact.name: artefact.bytes for artefact in release.artefacts}
    for found in release.agreements:
        metric = "" if found.value is None else f"{found.reference:.3f} → {found.value:.3f}"
        if found.value is not None and found.low is not None:
            metric += f" ({found.low:+.3f} to {found.high:+.3f})"
        table.add_row(
            found.artefact,
            f"{sizes[found.artefact] / 2**20:.0f} MiB",
            found.consumer,
            f"{found.ids_equal}/{found.rows}",
            f"{found.loss:.4f}",
            f"{found.loss_difference:.4f} of {found.allowed_mean:g}",
            metric,
        )
    show(table)
    for note in release.notes:
        show(f"Note: {note}", style="dim", markup=False)
    show(f"\n{target}", markup=False)
    show("Next:")
    show(f"  allmend ship verify {target}", markup=False)
    show(f"  allmend serve {target}", markup=False)
