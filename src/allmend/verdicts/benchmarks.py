"""Standard benchmarks through lm-eval, the library: its prompts, its scoring, our forward pass, local rows.

lm-eval's own task definitions are used as they are; only where their rows come from is replaced, by rows that packages
of the catalogue carry. Nothing is fetched from a hub.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from allmend.data.tokens import marks
from allmend.errors import InputError, Unavailable
from allmend.models.benchmark_rows import benchmark_entry, benchmark_file, source_words
from allmend.models.fetch import Progress
from allmend.models.loading import Loaded
from allmend.models.scoring import Scored, logprobs
from allmend.nouns.benchmarks import Benchmarks, Scenario, Score
from allmend.verdicts.free_text import engine_answers
from allmend.verdicts.intervals import holm, p_value, paired_interval

_LONGEST_ANSWER = 256


@dataclass(frozen=True)
class _Task:
    """How one benchmark's rows become those that lm-eval's task reads."""

    folder: str
    """Of the task, inside lm-eval."""
    split: str
    row: Callable[[dict[str, Any]], dict[str, Any]]
    few_shot: int = 0


def _hellaswag(row: dict[str, Any]) -> dict[str, Any]:
    return {"activity_label": row["activity_label"], "ctx_a": row["ctx"], "ctx_b": "", "endings": row["endings"],
            "label": str(row["expected_index"])}  # fmt: skip


def _gsm8k(row: dict[str, Any]) -> dict[str, Any]:
    return {"question": row["prompt"], "answer": row["upstream_answer"]}


def _truthfulqa(row: dict[str, Any]) -> dict[str, Any]:
    # The task takes the first choice to be the right one.
    right = row["choices"][row["expected_index"]]
    others = [choice for place, choice in enumerate(row["choices"]) if place != row["expected_index"]]
    return {"question": row["question"], "mc1_targets": {"choices": [right, *others]}}


TASKS = {
    "gsm8k": _Task("gsm8k", "test", _gsm8k, few_shot=5),
    "hellaswag": _Task("hellaswag", "validation", _hellaswag),
    "truthfulqa_mc1": _Task("truthfulqa", "validation", _truthfulqa),
}
"""Benchmarks that can be asked through lm-eval, by the name that both it and the catalogue have for them."""


@dataclass
class Result:
    """One model on one benchmark."""

    values: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    rows: dict[str, list[float]] = field(default_factory=dict)
    """Metric: a number for each row."""


def harness() -> Any:
    """lm-eval, imported for offline use; raises `Unavailable` where it is not installed."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import lm_eval
        import lm_eval.evaluator
        import lm_eval.tasks
    except ImportError:
        raise Unavailable("benchmarks need lm-eval", hint="pip install 'allmend[benchmarks]'") from None
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return lm_eval


def run(
    loaded: Loaded, name: str, limit: int | None = None, few_shot: int | None = None, progress: Progress | None = None
) -> Result:
    """One benchmark on the model as it is in memory now.

    Args:
        limit: at most this many rows, the first ones.
        few_shot: examples in the prompt; the task's own number when None.
    """
    library = harness()
    task = TASKS[name]
    rows = [task.row(row) for row in _rows(benchmark_file(name, progress))]
    shots = task.few_shot if few_shot is None else few_shot
    with tempfile.TemporaryDirectory(prefix="allmend-benchmark-") as folder:
        config = _config(library, name, task, rows, Path(folder))
        # Its bars and notes would run into our own; what matters of them is in the table.
        with contextlib.redirect_stderr(io.StringIO()):
            found = library.evaluator.simple_evaluate(
                model=_lm(library, loaded),
                tasks=[str(config)],
                num_fewshot=shots,
                limit=limit,
                task_manager=library.tasks.TaskManager(include_path=folder, include_defaults=False),
                bootstrap_iters=1000,
                log_samples=True,
            )
    return _result(found["results"][name], found["samples"][name])


def _config(library: Any, name: str, task: _Task, rows: list[dict[str, Any]], folder: Path) -> Path:
    """lm-eval's own task file, included, with our rows in the place of those on a hub."""
    own = Path(library.__file__).parent / "tasks" / task.folder / f"{name}.yaml"
    if not own.is_file():
        raise Unavailable(f"this version of lm-eval has no task {name}", hint="pip install 'allmend[benchmarks]'")
    # JSON is YAML. Examples come from the split that is asked, so that lm-eval leaves the row itself out of them.
    values = {
        "include": str(own),
        "task": name,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {
            "data_files": {task.split: _lines(folder / "rows.jsonl", rows)},
            "cache_dir": str(folder / "cache"),
        },
        "training_split": None,
        "fewshot_split": task.split,
    }
    config = folder / f"{name}.yaml"
    config.write_text(json.dumps(values), "utf-8")
    return config


def _lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise InputError(f"not JSON lines: {error}", where=str(path)) from None


def _result(values: dict[str, Any], samples: Sequence[dict[str, Any]]) -> Result:
    result = Result()
    for key, value in values.items():
        name, comma, way = key.partition(",")
        if not comma or not isinstance(value, int | float):
            continue
        metric = name.removesuffix("_stderr")
        shown = metric if way == "none" else f"{metric} ({way})"
        (result.errors if name.endswith("_stderr") else result.values)[shown] = float(value)
        if not name.endswith("_stderr"):
            mine = [sample for sample in samples if sample.get("filter", "none") == way and metric in sample]
            ordered = sorted(mine, key=lambda sample: int(sample["doc_id"]))
            result.rows[shown] = [float(sample[metric]) for sample in ordered]
    return result


def _lm(library: Any, loaded: Loaded) -> Any:
    """Our forward pass and engine as lm-eval's `LM`."""
    from lm_eval.api.model import LM

    class Model(LM):  # type: ignore[misc]
        """Text in, log-probabilities and text out."""

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            return loglikelihoods(loaded, [request.args for request in requests])

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            return [value for value, _ in loglikelihoods(loaded, [("", request.args[0]) for request in requests])]

        def generate_until(self, requests: list[Any]) -> list[str]:
            return continuations(loaded, [request.args for request in requests])

    return Model()


def loglikelihoods(loaded: Loaded, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
    """Log-probability of each continuation after its context.

    As lm-eval's own models do: spaces at the end of a context move to the continuation, the two are tokenised as one
    text and divided where the context's tokens end. Whether it is the greedy continuation is not worked out (False):
    no metric used here asks.
    """
    begin = marks(loaded.tokenizer)
    first = [begin.bos if begin.bos is not None else begin.eos]
    scored = []
    for context, continuation in pairs:
        bare = context.rstrip()
        continuation, context = context[len(bare) :] + continuation, bare
        whole = _ids(loaded, context + continuation)
        given = len(_ids(loaded, context)) if context else 0
        ids = (first + whole)[-loaded.context :]
        start = max(1, len(ids) - (len(whole) - given))
        scored.append(Scored(ids, min(start, len(ids) - 1)))
    return [(value, False) for value in logprobs(loaded.model, scored)]


def continuations(loaded: Loaded, asked: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """Greedy text after each context, up to the first of its stop strings."""
    begin = marks(loaded.tokenizer)
    prompts, stops, longest = [], [], []
    for context, settings in asked:
        until = settings.get("until") or []
        stops.append(tuple([until] if isinstance(until, str) else until))
        longest.append(min(int(settings.get("max_gen_toks", _LONGEST_ANSWER)), loaded.context // 2))
        ids = _ids(loaded, context)[-(loaded.context - longest[-1] - 1) :]
        prompts.append(([begin.bos] if begin.bos is not None else []) + ids)
    return engine_answers(loaded, prompts, longest, stops)


def _ids(loaded: Loaded, text: str) -> list[int]:
    return list(loaded.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def table(
    results: dict[str, dict[str, Result]], limit: int | None, few_shot: int | None, confidence: float = 0.95
) -> Benchmarks:
    """The table of results by model and benchmark; every model is compared with the first on the same rows."""
    from importlib.metadata import version

    models = list(results)
    scores: list[Score] = []
    for name in results[models[0]]:
        first = results[models[0]][name]
        for metric in first.values:
            for model in models:
                other = None if model == models[0] else first
                scores.append(_score(name, metric, model, results[model][name], other, confidence))
    return Benchmarks(
        models=models,
        scenarios=[_scenario(name, results[models[0]][name], limit, few_shot) for name in results[models[0]]],
        scores=_adjusted(scores, results),
        confidence=confidence,
        harness=f"lm-eval {version('lm-eval')}",
        notes=["The rows are samples: figures are for comparing models here, not with published tables."],
    )


def _score(name: str, metric: str, model: str, mine: Result, first: Result | None, confidence: float) -> Score:
    more: dict[str, Any] = {}
    if first is not None:
        low, high = paired_interval(first.rows[metric], mine.rows[metric], confidence)
        more = {"low": low, "high": high, "difference": mine.values[metric] - first.values[metric]}
    return Score(scenario=name, metric=metric, model=model, value=mine.values[metric], error=mine.errors.get(metric),
                 **more)  # fmt: skip


def _adjusted(scores: list[Score], results: dict[str, dict[str, Result]]) -> list[Score]:
    """The scores with p-values adjusted for being many."""
    first = next(iter(results))
    compared = [score for score in scores if score.difference is not None]
    p_values = [
        p_value(
            results[first][score.scenario].rows[score.metric], results[score.model][score.scenario].rows[score.metric]
        )
        for score in compared
    ]
    adjusted = {id(score): p for score, p in zip(compared, holm(p_values), strict=True)}
    return [
        score if id(score) not in adjusted else score.model_copy(update={"adjusted_p_value": adjusted[id(score)]})
        for score in scores
    ]


def _scenario(name: str, result: Result, limit: int | None, few_shot: int | None) -> Scenario:
    rows = max((len(values) for values in result.rows.values()), default=0)
    note = benchmark_entry(name).note + (f"; the first {limit} of them" if limit is not None else "")
    shots = TASKS[name].few_shot if few_shot is None else few_shot
    return Scenario(name=name, rows=rows, few_shot=shots, source=source_words(name), note=note)
