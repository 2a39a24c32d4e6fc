"""`allmend verdict`: the verdict on tuned adapters again, on the same rows or others, by the same metrics or others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from allmend.verbs.settings import Settings
from allmend.verbs.watching import SILENT, Watch

if TYPE_CHECKING:
    from allmend.nouns.verdict import Comparison, Verdict


class VerdictSettings(Settings):
    """Settings of `allmend verdict`."""

    data: str | None = None
    """Judge on all rows of this file instead of the run's own held-out rows; or on a benchmark: humaneval, gsm8k."""

    prompt_column: str | None = None
    """Column of the prompt in --data, where it cannot be told; the run's own when not given."""

    completion_column: str | None = None
    """Column of the completion in --data."""

    adapter: str = "adapter"
    """Which adapter of the run: adapter (the best) or adapter-last."""

    metric: tuple[str, ...] = ()
    """What to judge by; may be given several times, the first carries the words: accuracy, macro_f1, loss, exact_match,
    numeric_match, rouge_l, chrf, json_valid, json_fields, tool_call_match, pass@1, pass@5/20 (of 20 programs), judge,
    file.py:function. Read off the rows when not given."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of the intervals."""

    bootstrap: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Resamples of a paired bootstrap for the intervals, such as 10000, instead of the formulas; 0 takes the formulas,
    which hold the truth more often where rows are few."""

    free_text_rows: Annotated[int, Field(ge=0)] = 64
    """Rows that the models also answer in free text; three times as many where free text carries the words."""

    longest_answer: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Most tokens of a free-text answer; as many as the longest expected answer takes, and 512 at least for pass@k,
    when not given."""

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """At which free text is drawn; 0 takes the best token always."""

    few_shot: Annotated[int, Field(ge=0, le=32)] = 4
    """Training rows to show the untuned model in its prompt, as a third contestant; 0 leaves it out."""

    norms: Path | None = None
    """File of must and must-not cases (TOML). Remembered with the adapter for the next verdicts."""

    forgetting: bool = True
    """Measure what the model could do before: loss on general text, and fixed questions."""

    judge: str | None = None
    """Address of a model that grades answers, like http://127.0.0.1:8000/v1; for the metric judge and for norms."""

    judge_model: str | None = None
    """The grading model's name there."""

    criterion: str | None = None
    """What the judge grades by, in a sentence."""

    seed: Annotated[int, Field(ge=0)] | None = None
    """Of the rows drawn for free text and few-shot prompts, and of sampling; the run's own when not given."""


def verdict(
    run: str,
    *,
    data: str | Path | None = None,
    prompt_column: str | None = None,
    completion_column: str | None = None,
    adapter: str = "adapter",
    metric: tuple[str, ...] = (),
    confidence: float = 0.95,
    bootstrap: int = 0,
    free_text_rows: int = 64,
    longest_answer: int | None = None,
    temperature: float = 0.0,
    few_shot: int = 4,
    norms: str | Path | None = None,
    forgetting: bool = True,
    judge: str | None = None,
    judge_model: str | None = None,
    criterion: str | None = None,
    seed: int | None = None,
    watch: Watch = SILENT,
) -> Verdict:
    """Judge a tune run's adapter; see `VerdictSettings` for the keywords.

    Args:
        run: a run's id, its beginning, or `last`.

    Raises:
        NotFound: no such run, or it has no adapter.
        InputError: the run's data file is not the one it was tuned on any more.
    """
    values = {name: value for name, value in locals().items() if name not in {"run", "watch"}}
    from allmend.verbs.verdict_work import work

    return work(run, VerdictSettings.of(_texts(values)), watch)


def compare(runs: tuple[str, ...], settings: VerdictSettings | None = None, watch: Watch = SILENT) -> Comparison:
    """Judge several runs on the same rows, each against the untuned model and against each other.

    Raises:
        UsageError: fewer than two runs, or runs of different models or data.
    """
    from allmend.verbs.verdict_compare import work

    return work(runs, settings or VerdictSettings(), watch)


def _texts(values: dict[str, object]) -> dict[str, object]:
    """`data` may be a path or a name."""
    return values | ({"data": str(values["data"])} if values.get("data") is not None else {})
