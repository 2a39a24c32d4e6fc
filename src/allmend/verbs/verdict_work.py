"""The work of `allmend verdict`: the run's own rows and template, or another file's rows, and the same judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from allmend import adapters, runs
from allmend.adapters import attach_weights, detach
from allmend.data import Dataset, Row, labels_of, overlap, read_rows, read_template
from allmend.errors import AllmendError, InputError, NotFound, UsageError
from allmend.models import catalogue, resolve
from allmend.models.benchmark_rows import benchmark_examples
from allmend.models.loading import Loaded, load
from allmend.verbs.recorded_rows import check_division, check_held_out, division, held_out_digest
from allmend.verbs.tune import TuneSettings
from allmend.verbs.tuning_question import general_text
from allmend.verbs.tuning_rows import read_dataset
from allmend.verbs.tuning_verdict import write_verdict
from allmend.verdicts import norms
from allmend.verdicts.few_shot import choose_shots
from allmend.verdicts.judge import Question, judge
from allmend.verdicts.metrics import Metric, named
from allmend.verdicts.metrics.judge_model import JudgeModel

if TYPE_CHECKING:
    from allmend.adapters.peft_format import AdapterWeights
    from allmend.nouns.run import Run
    from allmend.nouns.verdict import Verdict
    from allmend.verbs.verdict import VerdictSettings
    from allmend.verbs.watching import Watch


def work(reference: str, settings: VerdictSettings, watch: Watch) -> Verdict:
    """Do it; the verdict is also kept as a Run of its own."""
    judge_model = judge_of(settings)
    metrics = metrics_of(settings, judge_model)
    tuned = find(reference, settings)
    asked_norms = norms_of(settings, tuned, judge_model, watch)
    loaded = load_base(tuned, watch)
    rows = rows_for(tuned, settings)
    question = question_of(tuned, settings, rows, metrics, asked_norms, watch)
    _say_where_rows_go(question, judge_model, watch)
    with runs.record("verdict", settings=settings, subject=tuned.run.id) as run:
        run.input(rows.source, name="data")
        run.input(tuned.folder, name="adapter", sha256=tuned.weights.digest)
        if asked_norms is not None:
            run.input(asked_norms.path, name="norms", sha256=asked_norms.sha256)
        lora = attach_weights(loaded.model, tuned.weights)
        try:
            result = judge(loaded, lora, question, watch.stage)
        finally:
            detach(loaded.model, lora)
        if rows.notes:
            result = result.model_copy(update={"notes": [*rows.notes, *result.notes]})
        write_verdict(run, result)
        if settings.norms is not None and asked_norms is not None:
            norms.remember(asked_norms, Path(tuned.folder), watch.note)
    return result


@dataclass(frozen=True)
class Tuned:
    """A run of tune with the adapter to judge."""

    run: Run
    settings: TuneSettings
    folder: str
    weights: AdapterWeights


@dataclass(frozen=True)
class Rows:
    """Rows to judge on, and rows to show in a prompt."""

    rows: list[Row]
    labels: list[str] | None
    source: str
    train: Sequence[Row] = ()
    notes: list[str] = field(default_factory=list)


def find(reference: str, settings: VerdictSettings) -> Tuned:
    """The run and its adapter; raises `UsageError` or `NotFound`."""
    run = runs.show(reference)
    if run.verb != "tune":
        raise UsageError(f"{run.id} is a run of {run.verb}, not of tune", hint="`allmend runs` lists them.")
    folder = run.output(settings.adapter)
    if folder is None or not Path(folder).is_dir():
        if run.output("model") is not None:
            raise UsageError(
                f"{run.id} learned all weights (--full), and only adapters can be judged again",
                hint=f"`allmend runs show {run.id}` shows the verdict that it ended with.",
            )
        have = [file.name for file in run.outputs if file.name.startswith("adapter")]
        raise NotFound(
            f"the run {run.id} has no {settings.adapter}",
            hint=f"It has: {', '.join(have)}." if have else "It ended before an adapter was made.",
        )
    return Tuned(run, TuneSettings.of(run.settings), folder, adapters.read(folder))


def load_base(tuned: Tuned, watch: Watch) -> Loaded:
    """The model that the adapter belongs to; raises `InputError` when it is not that any more."""
    name = tuned.settings.model
    watch.stage(f"Loading {name}")
    settings = tuned.settings
    loaded = load(resolve(name, watch.amount), settings.dtype, progress=watch.amount, bits=settings.base_bits)
    check_base(loaded, tuned)
    return loaded


def check_base(loaded: Loaded, tuned: Tuned) -> None:
    """Raise `InputError` where the adapter was trained on another model."""
    if tuned.weights.base_digest and tuned.weights.base_digest != loaded.about.digest:
        raise InputError(
            f"{tuned.settings.model} is not the model that the adapter was trained on (another digest)",
            hint="The model behind that name has changed; name the old revision when tuning.",
        )


def judge_of(settings: VerdictSettings) -> JudgeModel | None:
    """The judge that the settings name."""
    if settings.judge is None and settings.judge_model is None:
        return None
    if settings.judge is None or settings.judge_model is None:
        raise UsageError("a judge has an address and a model", hint="--judge http://…/v1 --judge-model NAME")
    if settings.criterion is None:
        return JudgeModel(settings.judge, settings.judge_model)
    return JudgeModel(settings.judge, settings.judge_model, settings.criterion)


def metrics_of(settings: VerdictSettings, judge: JudgeModel | None) -> list[Metric | str]:
    """The metrics that the settings name; with a judge and no names, the judge."""
    if not settings.metric and judge is not None and settings.norms is None:
        return [named("judge", judge)]
    return [named(name, judge) for name in settings.metric]


def norms_of(settings: VerdictSettings, tuned: Tuned, judge: JudgeModel | None, watch: Watch) -> norms.NormsFile | None:
    """The norms that the settings name, or those remembered with the adapter."""
    if settings.norms is not None:
        return norms.read(settings.norms, judge)
    remembered = Path(tuned.folder) / norms.FILE_NAME
    if not remembered.is_file():
        return None
    watch.note(f"Norms remembered with the adapter are checked: {remembered}.")
    return norms.read(remembered, judge)


def rows_for(tuned: Tuned, settings: VerdictSettings) -> Rows:
    """The rows to judge on: the run's own held-out rows, or those of another file that training did not see."""
    if settings.data is None:
        dataset, path = _own_dataset(tuned)
        return Rows(dataset.held_out, dataset.labels, path, dataset.train)
    source = str(benchmark_examples(settings.data)) if _is_benchmark(settings.data) else settings.data
    rows = list(
        read_rows(
            source,
            prompt_column=settings.prompt_column or (None if _is_benchmark(settings.data) else _kept(tuned, "prompt")),
            completion_column=settings.completion_column
            or (None if _is_benchmark(settings.data) else _kept(tuned, "completion")),
            skip_bad=tuned.settings.skip_bad,
        )
    )
    try:
        dataset, _ = _own_dataset(tuned)
    except AllmendError as error:
        note = f"Whether training saw these rows was not checked: {error.message}."
        return Rows(rows, labels_of(rows), source, notes=[note])
    seen = set(overlap(rows, [*dataset.train, *dataset.select]))
    if seen:
        rows = [row for place, row in enumerate(rows) if place not in seen]
        note = f"{len(seen)} rows (nearly) repeat rows of training or selection and were left out."
        return Rows(rows, joined_labels(dataset.labels, rows), source, dataset.train, [note])
    return Rows(rows, joined_labels(dataset.labels, rows), source, dataset.train)


def joined_labels(own: Sequence[str] | None, rows: Sequence[Row]) -> list[str] | None:
    """The labels that a run learned and those of other rows: a label that these lack can still be answered wrongly.

    Rows too few to tell a classification by are one where the run knows all their labels.
    """
    theirs = labels_of(rows)
    if own is None:
        return theirs
    if theirs is None and not all(row.kind == "prompt_completion" and row.completion in own for row in rows):
        return None
    return sorted({*own, *(theirs or ())})


def _kept(tuned: Tuned, part: str) -> str | None:
    value: str | None = getattr(tuned.settings, f"{part}_column")
    return value


def _is_benchmark(name: str) -> bool:
    return name in catalogue().benchmarks and not Path(name).exists()


def _own_dataset(tuned: Tuned) -> tuple[Dataset, str]:
    recorded = next((file for file in tuned.run.inputs if file.name == "data"), None)
    if recorded is None or recorded.path == "-":
        raise UsageError("the run's rows came from standard input", hint="Name a file with --data.")
    dataset = read_dataset(recorded.path, tuned.settings)
    if dataset.examples.sha256 != recorded.sha256:
        raise InputError(
            "the data file has changed since the run, so its held-out rows are no longer the same",
            where=recorded.path,
            hint="Name rows to judge on with --data FILE.",
        )
    check_held_out(dataset.examples, held_out_digest(tuned.run), "Name rows to judge on with --data FILE.")
    check_division(dataset, division(tuned.run), "Name rows to judge on with --data FILE.")
    return dataset, recorded.path


def question_of(
    tuned: Tuned,
    settings: VerdictSettings,
    rows: Rows,
    metrics: Sequence[Metric | str],
    asked_norms: norms.NormsFile | None,
    watch: Watch,
) -> Question:
    """What will be asked of both models."""
    seed = tuned.settings.seed if settings.seed is None else settings.seed
    return Question(
        rows=rows.rows,
        labels=rows.labels,
        template=read_template(Path(tuned.folder)),
        adapter=tuned.folder,
        data=rows.source,
        run=tuned.run.id,
        confidence=settings.confidence,
        resamples=settings.bootstrap,
        seed=seed,
        free_text_rows=settings.free_text_rows,
        metrics=tuple(metrics),
        shots=tuple(choose_shots(rows.train, settings.few_shot, seed)),
        temperature=settings.temperature,
        longest_answer=settings.longest_answer,
        norms=asked_norms,
        general=general_text(watch) if settings.forgetting else None,
    )


def _say_where_rows_go(question: Question, judge: JudgeModel | None, watch: Watch) -> None:
    if judge is not None and not judge.is_near:
        watch.note(f"Held-out prompts and answers are sent to {judge.host}, which grades them.")
