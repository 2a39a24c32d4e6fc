"""The work of `allmend verdict`: the run's own rows and template, or another file's rows, and the same judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from allmend import adapters, runs
from allmend.adapters import attach_weights, detach
from allmend.data import Row, labels_of, read_rows, read_template
from allmend.errors import InputError, NotFound, UsageError
from allmend.models import resolve
from allmend.models.loading import load
from allmend.verbs.tune import TuneSettings
from allmend.verbs.tuning_work import read_dataset, write_verdict
from allmend.verdicts.judge import Question, judge

if TYPE_CHECKING:
    from allmend.nouns.run import Run
    from allmend.nouns.verdict import Verdict
    from allmend.verbs.verdict import VerdictSettings
    from allmend.verbs.watching import Watch


def work(reference: str, settings: VerdictSettings, watch: Watch) -> Verdict:
    """Do it; the verdict is also kept as a Run of its own."""
    tuned = runs.show(reference)
    if tuned.verb != "tune":
        raise UsageError(f"{tuned.id} is a run of {tuned.verb}, not of tune", hint="`allmend runs` lists them.")
    folder = tuned.output(settings.adapter)
    if folder is None or not Path(folder).is_dir():
        have = [file.name for file in tuned.outputs if file.name.startswith("adapter")]
        raise NotFound(
            f"the run {tuned.id} has no {settings.adapter}",
            hint=f"It has: {', '.join(have)}." if have else "It ended before an adapter was made.",
        )
    before = TuneSettings.of(tuned.settings)
    weights = adapters.read(folder)
    watch.stage(f"Loading {before.model}")
    loaded = load(resolve(before.model, watch.amount), before.dtype, progress=watch.amount, bits=before.base_bits)
    if weights.base_digest and weights.base_digest != loaded.about.digest:
        raise InputError(
            f"{before.model} is not the model that the adapter was trained on (another digest)",
            hint="The model behind that name has changed; name the old revision when tuning.",
        )
    rows, labels, source = _rows(tuned, before, settings)
    question = Question(
        rows=rows,
        labels=labels,
        template=read_template(Path(folder)),
        adapter=folder,
        data=source,
        run=tuned.id,
        confidence=settings.confidence,
        seed=before.seed,
        free_text_rows=settings.free_text_rows,
    )
    with runs.record("verdict", settings=settings, subject=tuned.id) as run:
        run.input(source, name="data")
        run.input(folder, name="adapter", sha256=weights.digest)
        lora = attach_weights(loaded.model, weights)
        try:
            result = judge(loaded, lora, question, watch.stage)
        finally:
            detach(loaded.model, lora)
        write_verdict(run, result)
    return result


def _rows(tuned: Run, before: TuneSettings, settings: VerdictSettings) -> tuple[list[Row], list[str] | None, str]:
    if settings.data is not None:
        rows = list(
            read_rows(
                settings.data,
                prompt_column=before.prompt_column,
                completion_column=before.completion_column,
                skip_bad=before.skip_bad,
            )
        )
        return rows, labels_of(rows), str(settings.data)
    recorded = next((file for file in tuned.inputs if file.name == "data"), None)
    if recorded is None or recorded.path == "-":
        raise UsageError("the run's rows came from standard input", hint="Name a file with --data.")
    dataset = read_dataset(recorded.path, before)
    if dataset.examples.sha256 != recorded.sha256:
        raise InputError(
            "the data file has changed since the run, so its held-out rows are no longer the same",
            where=recorded.path,
            hint="Name rows to judge on with --data FILE.",
        )
    return dataset.held_out, dataset.labels, recorded.path
