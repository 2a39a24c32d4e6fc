"""`allmend models`."""

from __future__ import annotations

from allmend.cli.show import out, print_json
from allmend.verbs.models import models


def command(*, json: bool = False) -> None:
    """The models and data sets that can be had by a short name, with licences, and what is here.

    Parameters
    ----------
    json
        Print JSON.
    """
    offers = models()
    if json:
        print_json(offers)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("name", "what", "download", "licence", "here"):
        table.add_column(name, justify="right" if name == "download" else "left")
    for offer in offers.offers:
        size = f"{offer.download_bytes / 2**20:.0f} MiB"
        table.add_row(offer.name, offer.title, size, offer.licence, "yes" if offer.here else "no")
    out().print(table)
    for offer in offers.offers:
        if offer.terms:
            out().print(f"[dim]{offer.name}: {offer.terms}[/dim]")
    out().print("Also: OWNER/NAME[@REV] of a hub, a folder, a .gguf file.", markup=False, style="dim")
