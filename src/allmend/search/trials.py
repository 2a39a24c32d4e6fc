"""The trials of a search as its record has them: whatever changes is written, and told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from allmend.compute import Event, Stepped
from allmend.nouns.search import Measured, Point, Search, Trial
from allmend.search.sampling import Sampler
from allmend.search.state import Keeper, add_loss
from allmend.search.trainer import rows_after

LIVE = {"waiting", "running", "paused"}
"""States of a trial that may go on."""


class Trials:
    """All trials by number, in the order in which they were drawn.

    Args:
        rows: training rows.
        changed: called with the record whenever it has changed.
    """

    def __init__(
        self, keeper: Keeper, sampler: Sampler, rows: int, changed: Callable[[Search, Event | None], None]
    ) -> None:
        self.keeper, self.sampler, self._rows, self._changed = keeper, sampler, rows, changed
        self._trials = {trial.number: trial for trial in keeper.search.trials}

    def __len__(self) -> int:
        return len(self._trials)

    def __iter__(self) -> Iterator[Trial]:
        return iter(list(self._trials.values()))

    def __getitem__(self, number: int) -> Trial:
        return self._trials[number]

    def live(self, bracket: int) -> list[Trial]:
        """Those of a bracket that may go on."""
        return [one for one in self if one.bracket == bracket and one.state in LIVE]

    def add(self, number: int, point: Point, bracket: int) -> None:
        """A trial that was drawn; written with the next change."""
        self._trials[number] = Trial(number=number, point=point, bracket=bracket)

    def tell(self, event: Event | None) -> None:
        """Tell whoever watches how the record stands."""
        self._changed(self.keeper.search, event)

    def stepped(self, event: Stepped) -> None:
        """A trial has made a step."""
        trial = self._trials[event.trial]
        rows = rows_after(event.step, trial.point.batch, self._rows)
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
            self.save()
        self._record()
        self.tell(event)

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
            self.save(winner=trial.number)
            if winner is not None and winner != trial.number and self._trials[winner].state not in LIVE:
                self.keeper.drop(winner)

    def set(self, trial: Trial, **changes: Any) -> Trial:
        """Change what is known of a trial; the trial as it is then."""
        self._trials[trial.number] = self._trials[trial.number].model_copy(update=changes)
        self.save()
        return self._trials[trial.number]

    def end(self, trial: Trial, state: str, why: str) -> None:
        """A trial is over; its adapter stays where it has one."""
        adapter = self.keeper.leave(trial.number, trial.point)
        self.set(trial, state=state, why=why, adapter=adapter, worker="")
        self.sampler.tell(self._trials[trial.number])
        self.tell(None)

    def _record(self) -> None:
        trials = tuple(self._trials[number] for number in sorted(self._trials))
        self.keeper.search = self.keeper.search.model_copy(update={"trials": trials})

    def save(self, **changes: Any) -> None:
        """Write the record, with these changes of its own."""
        self._record()
        self.keeper.save(seconds=sum(trial.seconds for trial in self._trials.values()), **changes)
