"""`allmend tune`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from allmend.cli.live import Terminal
from allmend.cli.show import out, print_json
from allmend.cli.sources import check_source
from allmend.cli.verdict import show_verdict
from allmend.verbs.tune import TuneSettings, tune


def command(
    data: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    settings: Annotated[TuneSettings, Parameter(name="*")] = TuneSettings(),  # noqa: B008
    json: bool = False,
) -> None:
    """Tune a LoRA on your own rows and judge it on rows it never saw.

    Parameters
    ----------
    data
        A .jsonl, .csv, .tsv or .parquet file, a folder of texts, - for standard input, or a data set's name.
    json
        Print the run as JSON.
    """
    check_source(data, TuneSettings)
    with Terminal() as watch:
        run = tune(data, **dict(settings), watch=watch)
    if json:
        print_json(run)
        return
    from pathlib import Path

    from allmend.nouns.verdict import Verdict

    show_verdict(Verdict.from_json(Path(run.output("verdict") or "").read_text("utf-8")))
    show = out().print
    if settings.full:
        show(f"\nModel: {run.output('model')}", markup=False, soft_wrap=True)
        show("Next:")
        show(f"  allmend chat {run.output('model')}", markup=False, soft_wrap=True)
        show(f"  allmend runs show {run.id}", markup=False, soft_wrap=True)
        return
    show(f"\nAdapter: {run.output('adapter')}", markup=False, soft_wrap=True)
    show("Next:")
    show(f"  allmend chat {settings.model} --adapter mine={run.id}", markup=False, soft_wrap=True)
    show(f"  allmend serve {settings.model} --adapter mine={run.id}", markup=False, soft_wrap=True)
    show(f"  allmend runs show {run.id}", markup=False, soft_wrap=True)
