"""What stops `allmend tune` before any training: settings that exclude each other, and rows that cannot be learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allmend.data.checks import check
from allmend.errors import InputError, UsageError
from allmend.verdicts import norms
from allmend.verdicts.norms import NormsFile

if TYPE_CHECKING:
    from pathlib import Path

    from allmend.data import Dataset, Template
    from allmend.models.loading import Loaded
    from allmend.verbs.tune import TuneSettings
    from allmend.verbs.watching import Watch

_SKIPPED = {"unreadable-rows", "empty-rows"}
"""Problems that `--skip-bad` takes care of."""


def check_settings(settings: TuneSettings) -> None:
    """Raise where two settings exclude each other."""
    if not settings.full:
        return
    plain = {"base_bits": None, "dora": False, "rslora": False, "dropout": 0.0, "targets": ()}
    for name, value in plain.items():
        if getattr(settings, name) != value:
            raise UsageError(
                f"--{name.replace('_', '-')} is about a LoRA on a frozen base, which --full has not",
                where="--full",
                hint="Leave one of the two out.",
            )


def read_norms(path: Path | None) -> NormsFile | None:
    """The norms of `--norms`, before anything long begins."""
    if path is None:
        return None
    found = norms.read(path, norms.ANY_JUDGE)
    judged = next((case.name for _, case in found.cases if case.judge is not None), None)
    if judged is not None:
        raise UsageError(
            f"the norm {judged!r} needs a judge, and tune asks none",
            where=str(path),
            hint=f"Tune first, then: allmend verdict last:tune --norms {path} --judge http://… --judge-model NAME",
        )
    return found


def check_data(
    source: str,
    dataset: Dataset,
    settings: TuneSettings,
    loaded: Loaded,
    template: Template,
    context: int,
    watch: Watch,
) -> None:
    """Check the data; what blocks stops here, with the row named."""
    watch.stage("Checking the data")
    if source == "-":
        watch.note("Rows from standard input cannot be read twice, so the data check was not run.")
        return
    report = check(
        source,
        held_out=settings.held_out,
        prompt_column=settings.prompt_column,
        completion_column=settings.completion_column,
        tokenizer=loaded.tokenizer,
        template=template,
        context=context,
        preview=0,
    )
    watch.data(report)
    for problem in report.problems:
        if problem.severity == "blocking" and not (settings.skip_bad and problem.id in _SKIPPED):
            raise InputError(
                problem.message,
                where=problem.rows[0] if problem.rows else source,
                hint=problem.fix or f"`allmend data check {source}` shows all of it.",
            )
