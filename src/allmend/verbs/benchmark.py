"""`allmend benchmark`: standard benchmarks on models and tuned runs, scenario by metric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from allmend.errors import UsageError
from allmend.verbs.settings import Settings
from allmend.verbs.watching import SILENT, Watch

if TYPE_CHECKING:
    from allmend.nouns.benchmarks import Benchmarks


class BenchmarkSettings(Settings):
    """Settings of `allmend benchmark`."""

    task: tuple[str, ...] = ("hellaswag", "truthfulqa_mc1")
    """Benchmarks to ask: hellaswag, truthfulqa_mc1, gsm8k; may be given several times."""

    limit: Annotated[int, Field(ge=2)] | None = None
    """At most this many rows of each; all when not given."""

    few_shot: Annotated[int, Field(ge=0, le=32)] | None = None
    """Examples in the prompt; each benchmark's usual number when not given."""

    dtype: str | None = None
    """float32, bfloat16 or float16; chosen from what the machine has when not given."""


def benchmark(
    models: tuple[str, ...] | str,
    *,
    task: tuple[str, ...] = ("hellaswag", "truthfulqa_mc1"),
    limit: int | None = None,
    few_shot: int | None = None,
    dtype: str | None = None,
    watch: Watch = SILENT,
) -> Benchmarks:
    """Ask standard benchmarks; see `BenchmarkSettings` for the keywords.

    Args:
        models: names of models, or runs of tune; the first is what the others are compared with.

    Raises:
        Unavailable: lm-eval is not installed.
        NotFound: no such model, run or benchmark.
    """
    values = {name: value for name, value in locals().items() if name not in {"models", "watch"}}
    named = (models,) if isinstance(models, str) else tuple(models)
    if not named:
        raise UsageError("name at least one model or run")
    from allmend.verbs.benchmark_work import work

    return work(named, BenchmarkSettings.of(values), watch)
