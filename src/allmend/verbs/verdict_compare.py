"""The work of `allmend verdict RUN RUN …`: one base, the adapters one after another, and a table over all pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from allmend import runs
from allmend.adapters import attach_weights, detach
from allmend.data import read_template
from allmend.errors import UsageError
from allmend.verbs import verdict_work as one
from allmend.verdicts.compare import UNTUNED, comparison
from allmend.verdicts.judge import answers_of, few_shot_answers, verdict_from

if TYPE_CHECKING:
    from allmend.nouns.verdict import Comparison
    from allmend.verbs.verdict import VerdictSettings
    from allmend.verbs.watching import Watch


def work(references: Sequence[str], settings: VerdictSettings, watch: Watch) -> Comparison:
    """Do it; the comparison is kept as a Run of its own."""
    if len(references) < 2:
        raise UsageError("a comparison needs two runs or more")
    judge = one.judge_of(settings)
    metrics = one.metrics_of(settings, judge)
    tuned = [one.find(reference, settings) for reference in references]
    first = tuned[0]
    if len({each.run.id for each in tuned}) < len(tuned):
        raise UsageError("the same run is named twice")
    rows = one.rows_for(first, settings)
    _check_same(tuned, rows, settings)
    loaded = one.load_base(first, watch)
    asked_norms = one.norms_of(settings, first, judge, watch) if settings.norms is not None else None
    question = one.question_of(first, settings, rows, metrics, asked_norms, watch)
    base = answers_of(loaded, question, lambda what: watch.stage(f"untuned: {what}"))
    few = few_shot_answers(loaded, question, lambda what: watch.stage(f"untuned: {what}"))
    models, verdicts = [(UNTUNED, base)], []
    with runs.record("verdict", settings=settings, subject=" ".join(each.run.id for each in tuned)) as record:
        record.input(rows.source, name="data")
        for each in tuned:
            one.check_base(loaded, each)
            record.input(each.folder, name=f"adapter {each.run.id}", sha256=each.weights.digest)
            lora = attach_weights(loaded.model, each.weights)
            run = each.run.id
            try:
                answers = answers_of(loaded, question, lambda what, run=run: watch.stage(f"{run}: {what}"))  # type: ignore[misc]
            finally:
                detach(loaded.model, lora)
            about = replace(question, adapter=each.folder, run=each.run.id)
            models.append((each.run.id, answers))
            verdicts.append(verdict_from(loaded.about.name, about, base, answers, few))
        result = comparison(question, models, verdicts)
        if rows.notes:
            result = result.model_copy(update={"notes": [*rows.notes, *result.notes]})
        path = record.folder / "comparison.json"
        path.write_text(result.to_json(), "utf-8")
        record.output("comparison", path)
    return result


def _check_same(tuned: Sequence[one.Tuned], rows: one.Rows, settings: VerdictSettings) -> None:
    """Refuse runs that cannot be compared on rows that none of them has seen."""
    first = tuned[0]
    template = read_template(Path(first.folder))
    for each in tuned[1:]:
        if each.settings.model != first.settings.model:
            raise UsageError(
                f"{first.run.id} starts from {first.settings.model}, {each.run.id} from {each.settings.model}",
                hint="Runs of different models are compared by `allmend benchmark`.",
            )
        if read_template(Path(each.folder)).digest != template.digest:
            raise UsageError(f"{first.run.id} and {each.run.id} were trained with different chat templates")
        theirs = one.rows_for(each, settings)
        if [row.given for row in theirs.rows] != [row.given for row in rows.rows]:
            raise UsageError(
                f"{first.run.id} and {each.run.id} do not hold the same rows out",
                hint="Name rows that neither has seen with --data FILE, or tune them with the same --seed.",
            )
