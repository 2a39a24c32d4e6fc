"""The search: brackets of successive halving over workers, kept on disk after every event that matters.

The scheduler never assumes that a trial is local: it hands segments to workers and hears what became of them. What it
knows is a `Search` noun, written by rename; a search that was killed goes on from it and from the trials' checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from allmend.compute import Event, Failed, Finished, Lost, Ready, Segment, Stepped, Worker
from allmend.errors import AllmendError, DoesNotFit, TrainingDiverged, Unavailable
from allmend.nouns.search import Measured, Point, Rung, Search, Trial
from allmend.search.rungs import ETA, Costs, fit, halve, survivors
from allmend.search.sampling import Sampler
from allmend.search.space import first_points
from allmend.search.state import Keeper, add_loss
from allmend.search.trainer import rows_after, steps_for

ENOUGH_ROWS = 480
"""Rows after which trials can be told apart, as a rule: thirty steps of the default batch."""
SLACK = 0.98
"""Share of what is left that is planned; the rest is for what cannot be seen ahead."""
_LIVE = {"waiting", "running", "paused"}
_LATE, _MUCH = 1.5, 0.5
"""Trials that have not begun are left out when a first rung takes so many times as long as was planned, and they
would take such a share of what is left."""


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
        self.keeper, self.sampler, self.workers, self.rows = keeper, sampler, list(workers), rows
        self.costs, self.limits = costs, limits
        self._left, self._asked, self._changed = left, stopping, changed
        self._trials = {trial.number: trial for trial in keeper.search.trials}
        self._running: dict[str, int] = {}
        self._until: dict[int, int] = {}
        self._out_of_time = False

    def go(self) -> Search:
        """Search until nothing more fits, the time is over, or a person asks for an end; the best is kept throughout.

        Raises:
            DoesNotFit: the time does not suffice for one rung.
            TrainingDiverged: every trial diverged.
            Unavailable: every worker died. Whatever was best so far is kept.
        """
        number = max((trial.bracket for trial in self._trials.values()), default=0)
        if not self._trials:
            self._open(0, self.limits.first)
        while not self.over():
            self._bracket(number)
            if self.over() or not self._another(number + 1):
                break
            number += 1
        for trial in list(self._trials.values()):
            # What a person stopped is left as it is: the same command goes on with it.
            if trial.state in _LIVE and not self._asked():
                self._end(trial, "stopped", "the time was over" if trial.step else "not begun: the time was over")
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
            self._trials[number] = Trial(number=number, point=point, bracket=bracket)
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
        room = self.limits.most - len(self._trials)
        most = max((trial.rows for trial in self._trials.values()), default=0)
        for count in (9, 3, 1):
            if count > room or self._varied() < 2:
                continue
            ends = fit(halve(count), self._left() * SLACK, self.costs, most, eta=ETA, workers=self._alive())
            if ends and ends[-1] >= most * 0.95:
                self._open(bracket, count)
                return True
        return False

    def _varied(self) -> int:
        return self.sampler.space.size()

    def _alive(self) -> int:
        return max(1, sum(worker.alive for worker in self.workers))

    def _cap(self, point: Point) -> int:
        return max(1, round(point.epochs * self.rows))

    def _fit(self, counts: list[int], points: Sequence[Point], costs: Costs, begin: int) -> list[int]:
        most = max(map(self._cap, points))
        return fit(counts, self._left() * SLACK, costs, most, begin=begin, workers=self._alive())

    def _plan(self, bracket: int, counts: list[int], ends: list[int], first: int) -> None:
        """Put rungs from `first` on into the record."""
        kept = [one for one in self.keeper.search.rungs if one.bracket != bracket or one.number < first]
        made = [
            Rung(bracket=bracket, number=first + place, trials=count, rows=end)
            for place, (count, end) in enumerate(zip(counts, ends, strict=True))
        ]
        self._save(rungs=tuple(kept + made))

    def _bracket(self, number: int) -> None:
        while not self.over():
            live = [one for one in self._trials.values() if one.bracket == number and one.state in _LIVE]
            if not live:
                return
            rungs = [one for one in self.keeper.search.rungs if one.bracket == number]
            place = min(one.rung for one in live) + 1
            self._rung(rungs, place, [one for one in live if one.rung < place])
            if self.over():
                return
            self._halve(number, rungs, place)

    def _halve(self, bracket: int, rungs: list[Rung], place: int) -> None:
        """After a rung: who goes on, and how far."""
        live = [one for one in self._trials.values() if one.bracket == bracket and one.state in _LIVE]
        if place == len(rungs) - 1:
            for one in live:
                self._end(one, "finished", "trained to the end")
            return
        scores = {one.number: one.best for one in live}
        default = min(self._trials) if bracket == 0 else None
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
                self._end(one, "stopped", why)
        if chosen:
            self._refit(bracket, rungs, place, [self._trials[number] for number in chosen])

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
                    self._end(one, "stopped", f"rung {place + 1}: no time was left to go on with more than one")
            point = self._trials[best].point
            counts, ends = [1], self._fit([1], [point], self.costs, rungs[place].rows)
            if not ends:
                self._end(self._trials[best], "finished", "no time was left to train it further")
                return
        self._plan(bracket, counts, ends, place + 1)

    def _rung(self, rungs: list[Rung], place: int, members: list[Trial]) -> None:
        """Train the members to the rung's end, on as many workers as there are."""
        queue = sorted(members, key=lambda one: (one.step == 0, one.number))
        if place:
            queue.sort(key=lambda one: one.best if one.best is not None else float("inf"))
        begun = time.perf_counter()
        planned = sum(self.costs.segment(rungs[place].rows - one.rows) for one in queue) / self._alive()
        done = 0
        while (queue or self._running) and not (self.over() and not self._running):
            if self.over():
                for worker in self.workers:
                    if worker.busy:
                        worker.stop()
                queue.clear()
            passed = time.perf_counter() - begun
            late = place == 0 and done >= 2 and passed > _LATE * planned
            late = late and passed / done * len(queue) > _MUCH * self._left()
            for one in [one for one in queue if late and not one.step]:
                queue.remove(one)
                self._end(one, "stopped", "not begun: the machine is slower than it was measured")
            self._hand_out(queue, rungs, place)
            done += self._listen(queue, place, place == len(rungs) - 1)

    def _hand_out(self, queue: list[Trial], rungs: list[Rung], place: int) -> None:
        if not any(worker.alive for worker in self.workers):
            raise Unavailable(
                "every worker died", hint="The best so far is kept. Run the same command again and it goes on."
            )
        for worker in self.workers:
            while queue and worker.alive and not worker.busy:
                trial = self._trials[queue.pop(0).number]
                segment = self._segment(trial, rungs, place)
                if segment is None:
                    self._set(trial, state="paused", rung=place)
                    continue
                self._until[trial.number] = segment.until
                self.keeper.remember(segment)
                worker.submit(segment)
                self._running[worker.name] = trial.number
                self._set(trial, state="running", worker=worker.name)

    def _segment(self, trial: Trial, rungs: list[Rung], place: int) -> Segment | None:
        """What the trial does in this rung; None where its epochs are over."""
        batch, cap = trial.point.batch, self._cap(trial.point)
        end = rungs[place].rows
        until = steps_for(min(end, cap), batch, self.rows)
        start = steps_for(min(rungs[place - 1].rows, cap), batch, self.rows) if place else 0
        if place and start >= until:
            return None
        last = place == len(rungs) - 1 or cap <= end
        whole = steps_for(min(rungs[-1].rows, cap), batch, self.rows)
        climb = max(1, round(0.05 * steps_for(min(rungs[0].rows * ETA, cap), batch, self.rows)))
        earlier = self.keeper.segment(trial.number)
        if earlier is not None and trial.step:
            climb = earlier.climb
        measured = {one.step for one in trial.curve} | {until}
        if last:
            parts = self.limits.evaluations
            measured |= {start + (until - start) * part // parts for part in range(1, parts)} - {0, start}
        return Segment(
            trial=trial.number,
            point=trial.point,
            folder=self.keeper.folder_of(trial.number),
            until=until,
            steps=until if last else max(until + 1, whole),
            climb=climb,
            decay_from=(start or climb) if last else until,
            evaluate_at=tuple(sorted(measured)),
            seconds=max(0.0, self._left() - self.costs.evaluation) if place == len(rungs) - 1 else None,
        )

    def _listen(self, queue: list[Trial], place: int, last: bool) -> int:
        """Hear what workers say; how many trials came to the rung's end."""
        events: list[Event] = []
        for worker in self.workers:
            if worker.busy:
                worker.pump(lambda event: self._hear(event, events), 0.05)
        for event in events:
            if isinstance(event, Lost) and event.trial is not None:
                # Its checkpoint is in its folder: whoever takes it next goes on from there.
                queue.insert(0, self._set(self._trials[event.trial], state="paused", worker=""))
            elif isinstance(event, Finished) and event.step >= min(event.steps, self._until[event.trial]):
                trial = self._set(self._trials[event.trial], rung=place)
                if last:
                    self._end(trial, "finished", "trained to the end")
        return sum(isinstance(event, Finished | Failed) for event in events)

    def _hear(self, event: Event, events: list[Event]) -> None:
        if isinstance(event, Ready):
            return
        if isinstance(event, Stepped):
            self._stepped(event)
            return
        events.append(event)
        self._running = {name: number for name, number in self._running.items() if number != event.trial}
        if isinstance(event, Finished):
            self._set(
                self._trials[event.trial],
                state="paused", step=event.step, rows=event.rows, tokens=event.tokens, seconds=event.seconds,
            )  # fmt: skip
        elif isinstance(event, Failed):
            self._end(self._trials[event.trial], "diverged" if event.diverged else "failed", event.message)
        self._changed(self.keeper.search, event)

    def _stepped(self, event: Stepped) -> None:
        trial = self._trials[event.trial]
        rows = rows_after(event.step, trial.point.batch, self.rows)
        changes: dict[str, Any] = {"losses": add_loss(trial.losses, event.step, event.loss)}
        if event.measured and event.step not in {one.step for one in trial.curve}:
            measured = Measured(rows=rows, step=event.step, loss=event.select_loss)
            changes["curve"] = (*trial.curve, measured)
            if event.select_loss is not None:
                self.sampler.report(trial.number, rows, event.select_loss)
        changes |= {"step": event.step, "rows": rows, "tokens": event.tokens, "seconds": event.seconds}
        trial = trial.model_copy(update=changes)
        self._trials[trial.number] = trial
        if event.measured:
            self._consider(trial)
            self._save()
        self._changed(self._record(), event)

    def _consider(self, trial: Trial) -> None:
        """Keep the adapter where it is the best so far."""
        winner = self.keeper.search.winner
        best = self._trials[winner].best if winner is not None else None
        if (
            trial.best is not None
            and trial.score == trial.best
            and (best is None or trial.best < best or winner == trial.number)
        ):
            self.keeper.keep_best(trial)
            self._save(winner=trial.number)
            if winner is not None and winner != trial.number and self._trials[winner].state not in _LIVE:
                self.keeper.drop(winner)

    def _set(self, trial: Trial, **changes: Any) -> Trial:
        self._trials[trial.number] = self._trials[trial.number].model_copy(update=changes)
        self._save()
        return self._trials[trial.number]

    def _end(self, trial: Trial, state: str, why: str) -> None:
        adapter = self.keeper.leave(trial.number, trial.point)
        self._set(trial, state=state, why=why, adapter=adapter, worker="")
        self.sampler.tell(self._trials[trial.number])
        self._changed(self.keeper.search, None)

    def _record(self) -> Search:
        trials = tuple(self._trials[number] for number in sorted(self._trials))
        self.keeper.search = self.keeper.search.model_copy(update={"trials": trials})
        return self.keeper.search

    def _save(self, **changes: Any) -> None:
        self._record()
        self.keeper.save(seconds=sum(trial.seconds for trial in self._trials.values()), **changes)

    def _check_any(self) -> None:
        """Raise where no trial has anything to show."""
        ended = list(self._trials.values())
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
