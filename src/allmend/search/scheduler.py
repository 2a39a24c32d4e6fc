"""The search: brackets of successive halving over workers, kept on disk after every event that matters.

The scheduler never assumes that a trial is local: it hands segments to workers and hears what became of them. What it
knows is a `Search` noun, written by rename; a search that was killed goes on from it and from the trials' checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from allmend.compute import Event, Worker
from allmend.errors import AllmendError, DoesNotFit, TrainingDiverged
from allmend.nouns.search import Point, Rung, Search, Trial
from allmend.search.rungs import ETA, Costs, fit, halve, survivors
from allmend.search.sampling import Sampler
from allmend.search.space import first_points
from allmend.search.state import Keeper
from allmend.search.trainer import rows_of
from allmend.search.trials import LIVE, Trials
from allmend.search.workers import Workers

ENOUGH_ROWS = 480
"""Rows after which trials can be told apart, as a rule: thirty steps of the default batch."""
SLACK = 0.98
"""Share of what is left that is planned; the rest is for what cannot be seen ahead."""


@dataclass(frozen=True)
class Limits:
    """How much a search may do."""

    first: int
    """Trials of the first bracket."""
    most: int
    """Trials in all; later brackets are opened while time is left."""
    evaluations: int = 3
    """Evaluations in the last rung."""


class Scheduler:
    """Runs a search.

    Args:
        rows: training rows.
        left: seconds that may still be spent on trials.
        stopping: whether a person asked for an end.
        changed: called with the record whenever it has changed.
    """

    def __init__(
        self,
        keeper: Keeper,
        sampler: Sampler,
        workers: Sequence[Worker],
        rows: int,
        costs: Costs,
        limits: Limits,
        *,
        left: Callable[[], float],
        stopping: Callable[[], bool] = lambda: False,
        changed: Callable[[Search, Event | None], None] = lambda search, event: None,
    ) -> None:
        self.keeper, self.sampler, self.rows = keeper, sampler, rows
        self.costs, self.limits = costs, limits
        self._left, self._asked = left, stopping
        self._out_of_time = False
        self.trials = Trials(keeper, sampler, rows, changed)
        self.workers = Workers(workers, self.trials, rows, limits.evaluations, left=left, over=self.over)

    def go(self) -> Search:
        """Search until nothing more fits, the time is over, or a person asks for an end; the best is kept throughout.

        Raises:
            DoesNotFit: the time does not suffice for one rung.
            TrainingDiverged: every trial diverged.
            Unavailable: every worker died. Whatever was best so far is kept.
        """
        number = max((trial.bracket for trial in self.trials), default=0)
        if not len(self.trials):
            self._open(0, self.limits.first)
        while not self.over():
            self._bracket(number)
            if self.over() or not self._another(number + 1):
                break
            number += 1
        for trial in self.trials:
            # What a person stopped is left as it is: the same command goes on with it.
            if trial.state in LIVE and not self._asked():
                self.trials.end(trial, "stopped", "the time was over" if trial.step else "not begun: the time was over")
        self._check_any()
        return self.keeper.search

    def over(self) -> bool:
        """Whether no more is to be begun."""
        self._out_of_time = self._out_of_time or self._left() <= 0
        return self._out_of_time or self._asked()

    def _open(self, bracket: int, count: int) -> None:
        """Draw trials and plan their rungs."""
        points = first_points(self.sampler.space, count) if bracket == 0 else []
        asked = self.sampler.ask(points)
        asked += self.sampler.draw(count - len(asked))
        for number, point in asked:
            self.trials.add(number, point, bracket)
        counts = halve(len(asked))
        ends = self._fit(counts, [point for _, point in asked], self.costs, 0)
        if not ends:
            least = self.costs.segment(1) * len(asked) * 3
            raise DoesNotFit(
                f"the budget is too small for one rung of {len(asked)} trials: {max(0.0, self._left()):.0f} s are left "
                f"for them after everything else, and they need about {least:.0f} s",
                where="--budget",
                hint="Allow more time, or fewer --trials.",
            )
        self._plan(bracket, counts, ends, 0)

    def _another(self, bracket: int) -> bool:
        """Open one more bracket, where its winner could be trained as far as the first one's; False where not."""
        room = self.limits.most - len(self.trials)
        most = max((trial.rows for trial in self.trials), default=0)
        for count in (9, 3, 1):
            if count > room or self.sampler.space.size() < 2:
                continue
            ends = fit(halve(count), self._left() * SLACK, self.costs, most, eta=ETA, workers=self.workers.alive)
            if ends and ends[-1] >= most * 0.95:
                self._open(bracket, count)
                return True
        return False

    def _fit(self, counts: list[int], points: Sequence[Point], costs: Costs, begin: int) -> list[int]:
        most = max(rows_of(point, self.rows) for point in points)
        return fit(counts, self._left() * SLACK, costs, most, begin=begin, workers=self.workers.alive)

    def _plan(self, bracket: int, counts: list[int], ends: list[int], first: int) -> None:
        """Put rungs from `first` on into the record."""
        kept = [one for one in self.keeper.search.rungs if one.bracket != bracket or one.number < first]
        made = [
            Rung(bracket=bracket, number=first + place, trials=count, rows=end)
            for place, (count, end) in enumerate(zip(counts, ends, strict=True))
        ]
        self.trials.save(rungs=tuple(kept + made))

    def _bracket(self, number: int) -> None:
        while not self.over():
            live = self.trials.live(number)
            if not live:
                return
            rungs = [one for one in self.keeper.search.rungs if one.bracket == number]
            place = min(one.rung for one in live) + 1
            self.workers.train(rungs, place, [one for one in live if one.rung < place], self.costs)
            if self.over():
                return
            self._halve(number, rungs, place)

    def _halve(self, bracket: int, rungs: list[Rung], place: int) -> None:
        """After a rung: who goes on, and how far."""
        live = self.trials.live(bracket)
        if place == len(rungs) - 1:
            for one in live:
                self.trials.end(one, "finished", "trained to the end")
            return
        scores = {one.number: one.best for one in live}
        default = min(one.number for one in self.trials) if bracket == 0 else None
        chosen = survivors(scores, rungs[place + 1].trials, default=default)
        best = survivors(scores, rungs[place + 1].trials)
        kept = [number for number in chosen if number in best]
        for one in live:
            if one.number not in chosen:
                worst = f"{scores[kept[-1]]:.4f}" if kept else "nothing"
                score = "no finite loss" if one.best is None else f"loss {one.best:.4f}"
                why = f"rung {place + 1}: {score}; the best {len(kept)} of {len(live)} had {worst} or less"
                if kept != chosen:
                    why += ", and the informed settings stay until the last choice"
                self.trials.end(one, "stopped", why)
        if chosen:
            self._refit(bracket, rungs, place, [self.trials[number] for number in chosen])

    def _refit(self, bracket: int, rungs: list[Rung], place: int, chosen: list[Trial]) -> None:
        """Fit what is left into the time that is left, by what the survivors have really taken."""
        rates = [one.seconds / one.rows for one in chosen if one.rows and one.seconds]
        if rates:
            self.costs = Costs(sum(rates) / len(rates), self.costs.evaluation, self.costs.switch)
        counts = [min(rung.trials, len(chosen)) for rung in rungs[place + 1 :]]
        ends = self._fit(counts, [one.point for one in chosen], self.costs, rungs[place].rows)
        if not ends:
            # Not even a little for each: the best alone goes on, as far as it gets.
            best = survivors({one.number: one.best for one in chosen}, 1)[0]
            for one in chosen:
                if one.number != best:
                    self.trials.end(one, "stopped", f"rung {place + 1}: no time was left to go on with more than one")
            point = self.trials[best].point
            counts, ends = [1], self._fit([1], [point], self.costs, rungs[place].rows)
            if not ends:
                self.trials.end(self.trials[best], "finished", "no time was left to train it further")
                return
        self._plan(bracket, counts, ends, place + 1)

    def _check_any(self) -> None:
        """Raise where no trial has anything to show."""
        ended = list(self.trials)
        kept = self.keeper.search.winner is not None
        if ended and all(one.state == "diverged" for one in ended):
            lowest = min(one.point.learning_rate for one in ended)
            raise TrainingDiverged(
                f"all {len(ended)} trials diverged; the first: {ended[0].why}",
                hint=f"Try --learning-rate {lowest / 10:g}, or look at the rows with `allmend data check`."
                + (" The best adapter so far is kept." if kept else ""),
            )
        if kept or self.over():
            return
        raise AllmendError(
            f"no trial came to a measurement: {next((one.why for one in ended if one.why), 'nothing was begun')}",
            hint="Each trial's end is in `allmend runs compare RUN`.",
        )
