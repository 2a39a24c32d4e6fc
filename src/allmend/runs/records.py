"""Reading runs back: list, show, series, compare."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from allmend.database import reading, schema, writing
from allmend.errors import NotFound, UsageError, nearest
from allmend.nouns.choice import Choice
from allmend.nouns.run import Difference, Metric, MetricPoint, Run, RunComparison, RunFile
from allmend.runs.alive import is_alive

LAST = "last"


def list_runs(*, verb: str | None = None, limit: int | None = 50) -> list[Run]:
    """Runs, newest first, without their choices and series' points; `verb` keeps those of one verb."""
    with reading() as connection:
        if connection is None:
            return []
        query = select(schema.runs).order_by(schema.runs.c.started.desc(), schema.runs.c.id.desc()).limit(limit)
        if verb is not None:
            query = query.where(schema.runs.c.verb == verb)
        rows = connection.execute(query).mappings().all()
        runs = [_whole(connection, row) for row in rows]
    return _settled(runs)


def show(reference: str) -> Run:
    """One run, by its id, the beginning or end of it, `last`, or `last:VERB`."""
    name = resolve(reference)
    with reading() as connection:
        assert connection is not None
        row = connection.execute(select(schema.runs).where(schema.runs.c.id == name)).mappings().one()
        run = _whole(connection, row)
    return _settled([run])[0]


def series(reference: str, name: str) -> list[MetricPoint]:
    """Every point of the metric `name` of a run, by step; raises `NotFound` naming the nearest metric."""
    run = show(reference)
    if run.metric(name) is None:
        hint = nearest(name, (metric.name for metric in run.metrics)) or None
        raise NotFound(f"the run has no metric {name!r}", where=run.id, hint=hint)
    table = schema.run_metrics.c
    query = select(table.step, table.value, table.time).where(table.run_id == run.id, table.name == name)
    with reading() as connection:
        assert connection is not None
        rows = connection.execute(query.order_by(table.step, table.id)).all()
    return [MetricPoint(step=step, value=value, time=_moment(when)) for step, value, when in rows]


def resolve(reference: str) -> str:
    """The id that `reference` stands for; raises `NotFound` naming the nearest, `UsageError` when several fit."""
    with reading() as connection:
        if connection is None:
            raise NotFound("there are no runs yet", where=reference)
        if reference == LAST or reference.startswith(f"{LAST}:"):
            return _last(connection, reference)
        names = [str(row[0]) for row in connection.execute(select(schema.runs.c.id).order_by(schema.runs.c.started))]
    if reference in names:
        return reference
    fitting = [name for name in names if reference and (name.startswith(reference) or name.endswith(f"-{reference}"))]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        shown = ", ".join(fitting[-5:])
        raise UsageError(f"{len(fitting)} runs are called that", where=reference, hint=f"The newest: {shown}.")
    near = nearest(reference, names[-500:]) or "`allmend runs` lists them; `last` is the newest."
    raise NotFound("there is no such run", where=reference, hint=near)


def _last(connection: Connection, reference: str) -> str:
    verb = reference.partition(":")[2]
    query = select(schema.runs.c.id).order_by(schema.runs.c.started.desc(), schema.runs.c.id.desc()).limit(1)
    name = connection.execute(query.where(schema.runs.c.verb == verb) if verb else query).scalar()
    if name is None:
        verbs = [row[0] for row in connection.execute(select(schema.runs.c.verb).distinct())]
        words = f"there is no run of {verb!r} yet" if verb else "there are no runs yet"
        raise NotFound(words, where=reference, hint=nearest(verb, verbs) or None)
    return str(name)


def compare(first: str, second: str) -> RunComparison:
    """What differs between two runs; every metric's last value side by side."""
    a, b = show(first), show(second)

    def seconds(run: Run) -> float | None:
        return None if run.ended is None else round((run.ended - run.started).total_seconds(), 3)

    def about(run: Run) -> dict[str, Any]:
        return {"verb": run.verb, "subject": run.subject, "state": run.state, "seconds": seconds(run)}

    def files(run: Run) -> dict[str, str]:
        return {file.name: file.sha256 or file.path for file in run.inputs}

    def choices(run: Run) -> dict[str, Any]:
        return {choice.name: choice.value for choice in run.choices}

    def last(run: Run) -> dict[str, float | None]:
        return {metric.name: metric.last for metric in run.metrics}

    return RunComparison(
        first=a.id,
        second=b.id,
        run=_differences(about(a), about(b)),
        settings=_differences(a.settings, b.settings),
        inputs=_differences(files(a), files(b)),
        choices=_differences(choices(a), choices(b)),
        metrics=_differences(last(a), last(b), all_of_them=True),
        environment=_differences(a.environment, b.environment),
    )


def _differences(first: Mapping[str, Any], second: Mapping[str, Any], all_of_them: bool = False) -> list[Difference]:
    names = list(dict.fromkeys([*first, *second]))
    return [
        Difference(name=name, first=first.get(name), second=second.get(name))
        for name in names
        if all_of_them or first.get(name) != second.get(name)
    ]


def _settled(runs: list[Run]) -> list[Run]:
    """Runs whose process is gone become `interrupted`, here and in the database."""
    gone = {run.id for run in runs if run.state == "running" and _is_gone(run)}
    if not gone:
        return runs
    table = schema.runs
    with writing() as connection:
        # A run may have ended by itself between reading and now; then its own word stands.
        connection.execute(
            table.update().where(table.c.id.in_(gone), table.c.state == "running").values(state="interrupted")
        )
        states = dict(connection.execute(select(table.c.id, table.c.state).where(table.c.id.in_(gone))).all())
    return [run.model_copy(update={"state": states[run.id]}) if run.id in states else run for run in runs]


def _is_gone(run: Run) -> bool:
    alive = is_alive(Path(run.folder))
    if alive is None:
        # No lock file: deleted here, or the run is another machine's and cannot be checked.
        return bool(run.environment.get("machine") == platform.node())
    return not alive


def _whole(connection: Connection, row: Mapping[Any, Any]) -> Run:
    name = row["id"]
    rows: Callable[[Any], Sequence[Any]] = lambda table: connection.execute(
        select(table).where(table.c.run_id == name).order_by(table.c.id)
    ).all()
    return Run(
        id=name,
        verb=row["verb"],
        subject=row["subject"],
        state=row["state"],
        started=_moment(row["started"]),
        ended=None if row["ended"] is None else _moment(row["ended"]),
        settings=json.loads(row["settings"]),
        inputs=_files(rows(schema.run_inputs)),
        choices=[Choice(name=c.name, value=json.loads(c.value), reason=c.reason) for c in rows(schema.run_choices)],
        metrics=_metrics(connection, name),
        outputs=_files(rows(schema.run_outputs)),
        environment=json.loads(row["environment"]),
        folder=row["folder"],
        error=row["error"],
    )


def _files(rows: Iterable[Any]) -> list[RunFile]:
    return [RunFile(name=row.name, path=row.path, sha256=row.sha256) for row in rows]


def _metrics(connection: Connection, name: str) -> list[Metric]:
    table = schema.run_metrics
    summary = (
        select(
            table.c.name,
            func.max(table.c.id).label("newest"),
            func.min(table.c.id).label("oldest"),
            func.min(table.c.value).label("least"),
            func.max(table.c.value).label("most"),
            func.count().label("points"),
        )
        .where(table.c.run_id == name)
        .group_by(table.c.name)
        .subquery()
    )
    query = select(summary, table.c.value, table.c.step).join(table, table.c.id == summary.c.newest)
    return [
        Metric(name=m.name, last=_finite(m.value), step=m.step, least=_finite(m.least), most=_finite(m.most),
               points=m.points)
        for m in connection.execute(query.order_by(summary.c.oldest))
    ]  # fmt: skip


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
