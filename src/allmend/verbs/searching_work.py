"""The search inside `allmend tune`: how many trials, on which workers, and what is kept of them in the run."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from allmend import data, runs
from allmend.compute import Event, Finished, HereWorker, ProcessWorker, Stepped, Worker
from allmend.errors import UsageError
from allmend.nouns.search import Search, Trial
from allmend.search.page import write_page
from allmend.search.rungs import Costs
from allmend.search.sampling import FILE, Sampler
from allmend.search.scheduler import Limits, Scheduler
from allmend.search.space import Space, space_of
from allmend.search.state import RECORD, Keeper, read_record
from allmend.search.trainer import Shared, Siblings, plan_of
from allmend.search.upper import FILE as BELOW
from allmend.search.upper import cache_file
from allmend.search.words import bought, planned
from allmend.tuning.loop import BEST, LAST
from allmend.tuning.rates import first_rate
from allmend.tuning.tricks import Tricks
from allmend.verbs.recorded_plan import PLAN
from allmend.verbs.searching_files import link, take_over
from allmend.verbs.searching_size import how_many, why_no_search
from allmend.verbs.stopping import stop_between_steps
from allmend.verbs.tuning_plan import PACK_TOKENS, Probed, probe
from allmend.verbs.tuning_resume import interrupted, write_key

if TYPE_CHECKING:
    from allmend.data import Tokens
    from allmend.verbs.tuning_work import Tuning

MOST = 27
"""Trials in all, where a person names no number."""
_EVALUATION_SHARE = 0.15
_LEAST_SELECT = 50


class Searching:
    """A search for one run of tune; `wanted` says whether there is to be one."""

    def __init__(self, tuning: Tuning, rows: list[Tokens], select: list[Tokens]) -> None:
        self.tuning, self.rows, self.select = tuning, rows, select
        self.probed: Probed | None = None
        self.wanted = False
        settings = tuning.settings
        self.space = self._space()
        self.shared = Shared(
            config=tuning.config(),
            seed=settings.seed,
            pack_tokens=PACK_TOKENS,
            tricks=Tricks.without(*settings.without),
            upper_layers=settings.upper_layers or 0,
            cache=cache_file(tuning.run.folder, tuning.loaded, [*rows, *select]),
        )
        self.siblings: Siblings | None = None
        self.earlier: Path | None = None
        self.costs = Costs(0.0, 0.0)
        self.limits = Limits(1, 1)

    @classmethod
    def of(cls, tuning: Tuning, rows: list[Tokens], select: list[Tokens]) -> Searching | None:
        """Decide, with reasons; None where no search was asked for at all."""
        settings = tuning.settings
        why = why_no_search(settings.trials, settings.learning_rate, len(select))
        if settings.workers > 1 and (tuning.dataset.examples.source == "-" or why):
            reason = why or "rows from standard input cannot be read by several processes"
            raise UsageError(f"--workers is for a search: {reason}", where="--workers")
        if why:
            tuning.choose("trials", 1, why)
            return None
        searching = cls(tuning, rows, select)
        searching._prepare()
        return searching

    def _prepare(self) -> None:
        """Probe, and settle how many trials there are to be."""
        tuning, settings = self.tuning, self.tuning.settings
        self.siblings = Siblings(tuning.loaded, self.rows, self.select, self.shared)
        begun = time.perf_counter()
        _, passes = self.siblings.take(self.space.default)
        switch = time.perf_counter() - begun
        for choice in passes.choices:
            tuning.choose(choice.name, choice.value, choice.reason)
        batch = self.space.default.batch
        tuning.watch.stage("Trying a few steps to see how fast this machine is")
        self.probed = probe(passes, self.rows, self.select, batch, settings.seed, tuning.choose)
        self.shared = replace(self.shared, threads=max(1, self.probed.threads // settings.workers))
        self._choose_select()
        speed = self.probed.fit
        tokens = sum(map(len, self.rows)) / len(self.rows)
        # Processes on one machine share its cores.
        row = speed.seconds(tokens * batch) / batch * settings.workers
        once = speed.evaluation(sum(map(len, self.select))) * settings.workers
        self.costs = Costs(row, once, switch)
        self.earlier = self._earlier()
        passes_bought = self._time() / max(1e-9, row) / len(self.rows)
        self.space = self._space(passes_bought / 2)
        count, why = how_many(self._time(), self.costs, len(self.rows), self.space, settings.trials)
        tuning.choose("trials", count, why)
        self.limits = Limits(first=count, most=settings.trials or MOST)
        self.wanted = count > 1 or self.earlier is not None
        if self.wanted:
            self.siblings.shared = self.shared
            self.siblings.select = self.select
        else:
            self.siblings.close()

    def _space(self, passes: float | None = None) -> Space:
        settings, config = self.tuning.settings, self.tuning.loaded.model.config.get_text_config()
        middle, _ = first_rate(int(config.hidden_size), str(config.model_type))
        return space_of(
            len(self.rows), middle=middle, rate=settings.learning_rate, rank=settings.rank, batch=settings.batch,
            epochs=settings.epochs, passes=passes,
        )  # fmt: skip

    def _choose_select(self) -> None:
        """So many selection rows that measuring them a dozen times takes a small share of the time."""
        assert self.probed is not None
        tokens = sum(map(len, self.select)) / len(self.select)
        each = self.probed.fit.evaluation(tokens * 16) / 16
        count = int(max(_LEAST_SELECT, _EVALUATION_SHARE * self._time() / 16 / each))
        if count < len(self.select):
            self.select = random.Random(self.tuning.settings.seed).sample(self.select, count)
        self.tuning.choose(
            "select_rows", len(self.select), f"{each * 1000:.0f} ms a row; measured at every rung of every trial"
        )

    def _time(self) -> float:
        """Seconds for trials."""
        share = 1 / (1 + CURVE_SHARE) if self.tuning.settings.more_data else 1.0
        return self.tuning.seconds_to_train() * share

    def _earlier(self) -> Path | None:
        """The folder of a search to go on with: one that was stopped, or whose workers died."""
        folder = None if self.tuning.settings.fresh else interrupted(self.tuning, RECORD)
        if folder is None or runs.show(folder.name).state == "interrupted":
            return folder
        live = any(trial.state in {"running", "paused"} for trial in read_record(folder).trials)
        return folder if live else None

    def go(self) -> bool:
        """Search; the best adapter is in the run's folder afterwards. Says whether a person stopped it."""
        run = self.tuning.run
        write_key(self.tuning)
        search = self._begin()
        keeper = Keeper(
            run.folder,
            search,
            self.tuning.loaded.about,
            self.shared.of,
            (self.tuning.template.text, self.tuning.template.name),
            lambda folder, digest: run.output("adapter", folder, sha256=digest),
        )
        sampler = Sampler(run.folder / FILE, self.space, self.tuning.settings.seed)
        run.output("study", run.folder / FILE)
        run.output("search", run.folder / RECORD)
        before = search.seconds / self.tuning.settings.workers
        stopped = False
        try:
            with stop_between_steps() as stop:
                workers = self._workers(stop)
                scheduler = Scheduler(
                    keeper, sampler, workers, len(self.rows), self.costs, self.limits,
                    left=lambda: self._time() - before, stopping=stop, changed=self._changed,
                )  # fmt: skip
                self.tuning.watch.stage("Searching")
                for line in planned(self.space, self.limits.first, self._time() - before, self.costs, len(self.rows)):
                    self.tuning.watch.note(line)
                for choice in self.space.described(self.limits.first):
                    self.tuning.choose(choice.name, choice.value, choice.reason)
                try:
                    scheduler.go()
                    stopped = stop()
                    if self.tuning.settings.more_data and not stopped:
                        self._learning_curve(keeper, stop)
                finally:
                    for worker in workers:
                        worker.close()
        finally:
            sampler.close()
            (run.folder / BELOW).unlink(missing_ok=True)
            self._keep(keeper)
        return stopped

    def _begin(self) -> Search:
        run = self.tuning.run
        if self.earlier is None:
            search = Search(run=run.id, train_rows=len(self.rows), select_rows=len(self.select),
                            storage=str(run.folder / FILE))  # fmt: skip
            (run.folder / RECORD).write_text(search.to_json(indent=None))
            return search
        take_over(self.earlier, run.folder)
        search = read_record(run.folder)
        trials = tuple(
            trial.model_copy(update={"state": "paused", "worker": ""}) if trial.state == "running" else trial
            for trial in search.trials
        )
        self.tuning.choose("continues", self.earlier.name, "its search was interrupted, and all else is the same")
        return search.model_copy(update={"run": run.id, "trials": trials, "storage": str(run.folder / FILE)})

    def _workers(self, stop: Callable[[], bool]) -> list[Worker]:
        assert self.siblings is not None
        count = self.tuning.settings.workers
        if count == 1:
            left = self.tuning.seconds_to_train
            return [HereWorker(self.siblings, stopping=lambda: stop() or left() <= 0)]
        self.siblings.close()
        settings = {
            "source": self.tuning.dataset.examples.source,
            "settings": self.tuning.settings.model_dump(mode="json"),
            "digest": self.tuning.dataset.examples.sha256,
            "context": self.tuning.context,
            "select": [self.tuning.dataset.select.index(row) for row in self._select_rows()],
            "threads": self.shared.threads,
        }
        return [
            ProcessWorker("allmend.verbs.searching_process:siblings", settings, name=f"worker-{number + 1}",
                          threads=self.shared.threads, log=self.tuning.run.folder / f"worker-{number + 1}.log")
            for number in range(count)
        ]  # fmt: skip

    def _select_rows(self) -> list[data.Row]:
        places = {tokens.place for tokens in self.select}
        return [row for row in self.tuning.dataset.select if row.place in places]

    def _changed(self, search: Search, event: Event | None) -> None:
        if isinstance(event, Stepped) and event.measured and event.select_loss is not None:
            self.tuning.run.metric(event.step, {f"trial_{event.trial:02d}_select_loss": event.select_loss})
        if isinstance(event, Finished):
            values = {f"trial_{event.trial:02d}_seconds": event.took, "peak_mib": float(event.peak_bytes >> 20)}
            self.tuning.run.metric(event.step, values)
        self.tuning.watch.search(search)

    def _keep(self, keeper: Keeper) -> None:
        """What the run shows of the search, also when it was stopped."""
        run, search = self.tuning.run, keeper.search
        keeper.save(sentence=bought(search))
        search = keeper.search
        write_page(run.folder / "search.html", [search])
        run.output("search-page", run.folder / "search.html")
        if search.winner is None:
            return
        winner = search.trial(search.winner)
        why = f"trial {winner.number}: the lowest loss on the selection rows, {winner.best:.4f}"
        for name, value in winner.point.model_dump().items():
            self.tuning.choose(name, value, why)
        self.tuning.watch.note(search.sentence)
        folder = keeper.folder_of(winner.number)
        for file in (BEST, LAST):
            if (folder / file).is_file():
                link(folder / file, run.folder / file)
        if keeper.write_last(run.folder / "adapter-last", winner.number, winner.point):
            run.output("adapter-last", run.folder / "adapter-last")
        self._keep_plan(keeper, winner)
        best = min((one for one in winner.curve if one.loss is not None), key=lambda one: one.loss or 0.0)
        self.tuning.choose("best_step", best.step, "lowest loss on the selection rows")
        for one in winner.curve:
            if one.loss is not None:
                run.metric(one.step, select_loss=one.loss)
        run.output("adapter", run.folder / "adapter")

    def _keep_plan(self, keeper: Keeper, winner: Trial) -> None:
        """The winner's training as one plan: a replay trains it in one go, to the same bytes."""
        rungs = [one for one in keeper.search.rungs if one.bracket == winner.bracket]
        segment = keeper.segment(winner.number)
        if segment is None or not rungs:
            return
        plan = replace(plan_of(segment, self.shared), pause_at=None)
        (self.tuning.run.folder / PLAN).write_text(json.dumps(asdict(plan)))
        self.tuning.choose("steps", winner.step, f"of trial {winner.number}, the winner")

    def _learning_curve(self, keeper: Keeper, stop: Callable[[], bool]) -> None:
        from allmend.search.rows_curve import measure

        assert self.siblings is not None
        self.tuning.watch.stage("Training the winner on parts of the rows, to see what more data would bring")
        measure(keeper, self.siblings, self.tuning.seconds_to_train, stop, self.tuning.watch.note)


CURVE_SHARE = 0.6
"""Seconds of a learning curve for each second of trials, at most: halves and quarters of the winner's own training."""
