"""The work of `allmend benchmark`: each base loaded once, its adapters put in and taken out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from allmend import adapters, runs
from allmend.adapters import attach_weights, detach
from allmend.errors import NotFound, UsageError, nearest
from allmend.models import parse, resolve
from allmend.models.loading import Loaded, load
from allmend.verdicts import benchmarks
from allmend.verdicts.benchmarks import Result

if TYPE_CHECKING:
    from allmend.nouns.benchmarks import Benchmarks
    from allmend.verbs.benchmark import BenchmarkSettings
    from allmend.verbs.watching import Watch


def work(models: tuple[str, ...], settings: BenchmarkSettings, watch: Watch) -> Benchmarks:
    """Do it; the table is kept as a Run of its own."""
    for name in settings.task:
        if name not in benchmarks.TASKS:
            raise NotFound(f"there is no benchmark {name!r}", where="--task", hint=nearest(name, benchmarks.TASKS))
    if len(set(models)) < len(models):
        raise UsageError("the same model is named twice")
    watch.stage("Loading lm-eval")
    benchmarks.harness()
    plan = [(name, *_base_and_adapter(name)) for name in models]
    results: dict[str, dict[str, Result]] = {name: {} for name in models}
    with runs.record("benchmark", settings=settings, subject=" ".join(models)) as record:
        for base in dict.fromkeys(base for _, base, _ in plan):
            watch.stage(f"Loading {base}")
            loaded = load(resolve(base, watch.amount), settings.dtype, progress=watch.amount)
            record.input(loaded.about.path, name=f"model {base}", sha256=loaded.about.digest)
            for name, its_base, adapter in plan:
                if its_base == base:
                    results[name] = _all(loaded, adapter, settings, lambda what, n=name: watch.stage(f"{n}: {what}"))  # type: ignore[misc]
        table = benchmarks.table(results, settings.limit, settings.few_shot)
        path = record.folder / "benchmarks.json"
        path.write_text(table.to_json(), "utf-8")
        record.output("benchmarks", path)
    return table


def _base_and_adapter(name: str) -> tuple[str, str | None]:
    """The base model of a name and the adapter on it: a run of tune has one."""
    try:
        run = runs.show(name)
    except NotFound:
        parse(name)
        return name, None
    if run.verb != "tune" or run.output("adapter") is None:
        raise UsageError(f"{run.id} is no run of tune with an adapter")
    return str(run.settings["model"]), run.output("adapter")


def _all(
    loaded: Loaded, adapter: str | None, settings: BenchmarkSettings, say: Callable[[str], None]
) -> dict[str, Result]:
    found: dict[str, Result] = {}
    lora = attach_weights(loaded.model, adapters.read(Path(adapter))) if adapter is not None else None
    try:
        for task in settings.task:
            say(task)
            found[task] = benchmarks.run(loaded, task, settings.limit, settings.few_shot)
    finally:
        if lora is not None:
            detach(loaded.model, lora)
    return found
