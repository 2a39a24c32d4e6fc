"""One training of a tuning run: from passes to a plan, through the steps, to what is written down."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import torch

from allmend.adapters import write
from allmend.errors import TrainingDiverged
from allmend.models.saving import write_model
from allmend.nouns.choice import Choice
from allmend.search.upper import FILE as BELOW
from allmend.search.upper import Below, above, cache_file
from allmend.tuning import checkpoint, memory
from allmend.tuning import probe as probing
from allmend.tuning.divided import DividedModel
from allmend.tuning.loop import BEST, LAST, Plan, Step, train
from allmend.tuning.passes import Learned, Passes
from allmend.tuning.tricks import Tricks
from allmend.tuning.whole import WholeModel
from allmend.verbs.recorded_plan import PLAN
from allmend.verbs.stopping import stop_between_steps
from allmend.verbs.tuning_plan import PACK_TOKENS, Probed, make_plan
from allmend.verbs.tuning_resume import forget, interrupted, taken_over, write_key

if TYPE_CHECKING:
    from allmend.data import Tokens
    from allmend.tuning.divided import Divided
    from allmend.verbs.tuning_work import Tuning


class Training:
    """Trains what is learned on a run's rows.

    Args:
        probed: what was measured already, while a search was considered.
        divided: the frozen model, where processes divide its weights.
    """

    def __init__(
        self,
        tuning: Tuning,
        rows: list[Tokens],
        select: list[Tokens],
        probed: Probed | None = None,
        divided: Divided | None = None,
    ) -> None:
        self.tuning, self.rows, self.select = tuning, rows, select
        self._probed, self._divided = probed, divided

    def of(self, learned: Learned) -> None:
        """Train it; best and last are written into the run's folder, also when training was stopped."""
        tuning, settings = self.tuning, self.tuning.settings
        folder = tuning.run.folder
        write_key(tuning)
        probing.check_disk(folder, learned)
        before = torch.get_num_threads()
        passes = Passes.of(tuning.loaded, learned, Tricks.without(*settings.without), PACK_TOKENS, self._divided)
        if settings.upper_layers is not None:
            every = [*self.rows, *self.select]
            passes = above(passes, Below.of(passes, every, cache_file(folder, tuning.loaded, every)))
        for choice in passes.choices:
            tuning.choose(choice.name, choice.value, choice.reason)
        told = len(passes.choices)
        try:
            plan = self._settled(passes)
            for choice in passes.choices[told:]:
                tuning.choose(choice.name, choice.value, choice.reason)
            hidden = folder / f".{PLAN}.new"
            hidden.write_text(json.dumps(asdict(plan)))
            hidden.replace(folder / PLAN)
            self._steps(passes, plan)
        except TrainingDiverged:
            forget(tuning)
            raise
        finally:
            passes.close()
            (folder / BELOW).unlink(missing_ok=True)
            torch.set_num_threads(before)
            self._keep(learned)

    def _settled(self, passes: Passes) -> Plan:
        """The plan: that of the run that is replayed or continued, or a new one."""
        tuning = self.tuning
        earlier = None if tuning.settings.fresh or tuning.replayed else interrupted(tuning, LAST, PLAN)
        if tuning.replayed is not None:
            plan = tuning.replayed.plan
            tuning.choose("steps", plan.steps, "as in the run that is replayed")
        elif earlier is not None:
            tuning.choose(
                "continues", earlier.name, "it was interrupted, and its settings, data and model are the same"
            )
            plan = taken_over(tuning, earlier)
        else:
            left = tuning.seconds_to_train
            plan = make_plan(
                passes, self.rows, self.select, tuning.settings, left, self._probed, tuning.choose, tuning.watch
            )
            return replace(plan, share_moments=tuning.shard.divides_moments)
        passes.pack_tokens = plan.pack_tokens
        if plan.recompute:
            passes.recompute("as recorded")
        return plan

    def _steps(self, passes: Passes, plan: Plan) -> None:
        tuning = self.tuning
        tuning.watch.stage(f"Training for {plan.steps} steps")

        def report(step: Step) -> None:
            tuning.run.metric(step.step, loss=step.loss, learning_rate=step.rate, tokens=step.tokens)
            if step.select_loss is not None:
                tuning.run.metric(step.step, select_loss=step.select_loss)
            tuning.watch.step(step)

        loaded, folder = tuning.loaded, tuning.run.folder
        memory.forget_peak(loaded.device)
        with stop_between_steps() as stop:
            outcome = train(loaded, passes.lora, self.rows, self.select, plan, folder, report, stop, passes)
        progress = outcome.progress
        planned = plan.steps
        moved = ""
        for at, steps in progress.replanned:
            how = "slower" if steps < planned else "faster"
            moved = f"after step {at}: the machine is {how} than it was measured"
            tuning.run.choice("steps", steps, moved)
            planned = steps
        if moved:
            times = len(progress.replanned)
            reason = moved if times == 1 else f"{moved}; the last of {times} changes"
            tuning.watch.choice(Choice(name="steps", value=planned, reason=reason))
        # What the probe said stands beside what happened, so that the probe itself can be judged.
        peak = memory.peak_memory(loaded.device) >> 20
        tuning.run.metric(progress.step, training_seconds=progress.seconds, peak_mib=float(peak))
        tuning.watch.note(f"Training took {progress.seconds / 60:.1f} min and at its peak {peak} MiB.")

    def _keep(self, learned: Learned) -> None:
        """Write the best and the last of what was learned."""
        tuning = self.tuning
        loaded, template = tuning.loaded, tuning.template
        kind = "model" if isinstance(learned, WholeModel) else "adapter"
        best = None
        for name, file in ((f"{kind}-last", LAST), (kind, BEST)):
            path = tuning.run.folder / file
            if not path.is_file():
                continue
            tensors, _, progress = checkpoint.load(path)
            learned.load_state(tensors)
            best = progress.best_step if file == BEST else best
            target = tuning.run.folder / name
            if isinstance(learned, DividedModel):
                write_model(target, replace(loaded, model=learned.gathered()), template.text, template.name)
            elif isinstance(learned, WholeModel):
                write_model(target, loaded, template.text, template.name)
            else:
                write(target, learned, loaded.about, template.text, template.name, loaded.bits)
            tuning.run.output(name, target)
        if best is not None:
            tuning.choose("best_step", best, "lowest loss on the selection rows")
