"""Points from Optuna's samplers by ask and tell, in a storage that any Optuna opens.

    optuna.load_study(study_name="allmend", storage="sqlite:///RUN/optuna.db")

The first points are ours (`space.first_points`), enqueued; what comes after them is drawn by the sampler, which by
then has heard how the first ones ended. A trial that was stopped at a rung is told as pruned, with its values at
every rung.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allmend.errors import InputError
from allmend.nouns.search import Point, Trial
from allmend.search.space import Space

if TYPE_CHECKING:
    import optuna

STUDY = "allmend"
FILE = "optuna.db"


class Sampler:
    """A study on disk; numbers of trials are Optuna's own."""

    def __init__(self, file: Path, space: Space, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.file, self.space = file, space
        try:
            self._study: optuna.Study = optuna.create_study(
                study_name=STUDY,
                storage=f"sqlite:///{file.absolute()}",
                sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=9),
                direction="minimize",
                load_if_exists=True,
            )
        except Exception as error:  # SQLAlchemy's and Optuna's errors share no base
            raise InputError(
                f"the search's storage cannot be opened: {type(error).__name__}",
                where=str(file),
                hint="Tune again with --fresh.",
            ) from error
        self._study.set_user_attr("about", "selection loss per learned token; values by training rows seen")
        self._distributions = _distributions(space)

    def ask(self, points: Sequence[Point]) -> list[tuple[int, Point]]:
        """Trials for these points, then as many as wanted from the sampler by `draw`."""
        found = []
        for point in points:
            self._study.enqueue_trial(_values(point))
            found.append(self._asked())
        return found

    def draw(self, count: int) -> list[tuple[int, Point]]:
        """Trials that the sampler chooses."""
        return [self._asked() for _ in range(count)]

    def _asked(self) -> tuple[int, Point]:
        trial = self._study.ask(self._distributions)
        return trial.number, Point(**{**_values(self.space.default), **trial.params})

    def report(self, number: int, rows: int, loss: float) -> None:
        """A value at a rung."""
        import optuna

        frozen = self._study.trials[number]
        # After a kill the storage may be ahead of the search's own record.
        if not frozen.state.is_finished():
            optuna.trial.Trial(self._study, frozen._trial_id).report(loss, rows)

    def tell(self, trial: Trial) -> None:
        """How a trial ended; once."""
        import optuna

        frozen = self._study.trials[trial.number]
        if frozen.state.is_finished():
            return
        states = optuna.trial.TrialState
        optuna.trial.Trial(self._study, frozen._trial_id).set_user_attr("why", trial.why)
        if trial.state == "finished" and trial.best is not None:
            self._study.tell(trial.number, trial.best)
        elif trial.state == "stopped" and trial.score is not None:
            self._study.tell(trial.number, state=states.PRUNED)
        else:
            self._study.tell(trial.number, state=states.FAIL)

    def close(self) -> None:
        """Let go of the file."""
        storage: Any = self._study._storage
        getattr(storage, "_backend", storage).remove_session()
        getattr(storage, "_backend", storage).engine.dispose()


def _distributions(space: Space) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    found: dict[str, Any] = {}
    if len(space.rates) > 1:
        found["learning_rate"] = FloatDistribution(min(space.rates) / 1.5, max(space.rates) * 1.5, log=True)
    for name, values in (("rank", space.ranks), ("batch", space.batches), ("epochs", space.epochs)):
        if len(values) > 1:
            found[name] = CategoricalDistribution(tuple(sorted(values)))
    return found


def _values(point: Point) -> dict[str, Any]:
    return point.model_dump()
