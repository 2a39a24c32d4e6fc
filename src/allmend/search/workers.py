"""The workers of a search: who trains which trial how far in a rung, and what is heard of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from allmend.compute import Event, Failed, Finished, Lost, Ready, Segment, Stepped, Worker
from allmend.errors import Unavailable
from allmend.nouns.search import Rung, Trial
from allmend.search.rungs import ETA, Costs
from allmend.search.trainer import rows_of, steps_for
from allmend.search.trials import Trials

_LATE, _MUCH = 1.5, 0.5
"""Trials that have not begun are left out when a first rung takes so many times as long as was planned, and they
would take such a share of what is left."""


class Workers:
    """Trains rungs on as many workers as there are; a trial is never assumed to be local.

    Args:
        rows: training rows.
        evaluations: evaluations in the last rung.
        left: seconds that may still be spent on trials.
        over: whether no more is to be begun.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        trials: Trials,
        rows: int,
        evaluations: int,
        *,
        left: Callable[[], float],
        over: Callable[[], bool],
    ) -> None:
        self.workers, self.trials = list(workers), trials
        self._rows, self._evaluations, self._left, self._over = rows, evaluations, left, over
        self._running: dict[str, int] = {}
        self._until: dict[int, int] = {}

    @property
    def alive(self) -> int:
        """How many can train, one at least."""
        return max(1, sum(worker.alive for worker in self.workers))

    def train(self, rungs: list[Rung], place: int, members: list[Trial], costs: Costs) -> None:
        """Train the members to the end of rung `place`; returns before that where no more is to be begun.

        Raises:
            Unavailable: every worker died.
        """
        queue = sorted(members, key=lambda one: (one.step == 0, one.number))
        if place:
            queue.sort(key=lambda one: one.best if one.best is not None else float("inf"))
        begun = time.perf_counter()
        planned = sum(costs.segment(rungs[place].rows - one.rows) for one in queue) / self.alive
        done = 0
        while (queue or self._running) and not (self._over() and not self._running):
            if self._over():
                for worker in self.workers:
                    if worker.busy:
                        worker.stop()
                queue.clear()
            passed = time.perf_counter() - begun
            late = place == 0 and done >= 2 and passed > _LATE * planned
            late = late and passed / done * len(queue) > _MUCH * self._left()
            for one in [one for one in queue if late and not one.step]:
                queue.remove(one)
                self.trials.end(one, "stopped", "not begun: the machine is slower than it was measured")
            self._hand_out(queue, rungs, place, costs)
            done += self._listen(queue, place, place == len(rungs) - 1)

    def _hand_out(self, queue: list[Trial], rungs: list[Rung], place: int, costs: Costs) -> None:
        if not any(worker.alive for worker in self.workers):
            raise Unavailable(
                "every worker died", hint="The best so far is kept. Run the same command again and it goes on."
            )
        for worker in self.workers:
            while queue and worker.alive and not worker.busy:
                trial = self.trials[queue.pop(0).number]
                segment = self._segment(trial, rungs, place, costs)
                if segment is None:
                    self.trials.set(trial, state="paused", rung=place)
                    continue
                self._until[trial.number] = segment.until
                self.trials.keeper.remember(segment)
                worker.submit(segment)
                self._running[worker.name] = trial.number
                self.trials.set(trial, state="running", worker=worker.name)

    def _segment(self, trial: Trial, rungs: list[Rung], place: int, costs: Costs) -> Segment | None:
        """What the trial does in this rung; None where its epochs are over."""
        batch, cap = trial.point.batch, rows_of(trial.point, self._rows)
        end = rungs[place].rows
        until = steps_for(min(end, cap), batch, self._rows)
        start = steps_for(min(rungs[place - 1].rows, cap), batch, self._rows) if place else 0
        if place and start >= until:
            return None
        last = place == len(rungs) - 1 or cap <= end
        whole = steps_for(min(rungs[-1].rows, cap), batch, self._rows)
        climb = max(1, round(0.05 * steps_for(min(rungs[0].rows * ETA, cap), batch, self._rows)))
        earlier = self.trials.keeper.segment(trial.number)
        if earlier is not None and trial.step:
            climb = earlier.climb
        measured = {one.step for one in trial.curve} | {until}
        if last:
            parts = self._evaluations
            measured |= {start + (until - start) * part // parts for part in range(1, parts)} - {0, start}
        return Segment(
            trial=trial.number,
            point=trial.point,
            folder=self.trials.keeper.folder_of(trial.number),
            until=until,
            steps=until if last else max(until + 1, whole),
            climb=climb,
            decay_from=(start or climb) if last else until,
            evaluate_at=tuple(sorted(measured)),
            seconds=max(0.0, self._left() - costs.evaluation) if place == len(rungs) - 1 else None,
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
                queue.insert(0, self.trials.set(self.trials[event.trial], state="paused", worker=""))
            elif isinstance(event, Finished) and event.step >= min(event.steps, self._until[event.trial]):
                trial = self.trials.set(self.trials[event.trial], rung=place)
                if last:
                    self.trials.end(trial, "finished", "trained to the end")
        return sum(isinstance(event, Finished | Failed) for event in events)

    def _hear(self, event: Event, events: list[Event]) -> None:
        if isinstance(event, Ready):
            return
        if isinstance(event, Stepped):
            self.trials.stepped(event)
            return
        events.append(event)
        self._running = {name: number for name, number in self._running.items() if number != event.trial}
        if isinstance(event, Finished):
            self.trials.set(
                self.trials[event.trial],
                state="paused", step=event.step, rows=event.rows, tokens=event.tokens, seconds=event.seconds,
            )  # fmt: skip
        elif isinstance(event, Failed):
            self.trials.end(self.trials[event.trial], "diverged" if event.diverged else "failed", event.message)
        self.trials.tell(event)
