"""From model, rows and settings to the plan of a tuning run: what fits, how fast it is, how many steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from allmend.search.space import EPOCHS
from allmend.tuning import memory, together
from allmend.tuning import probe as probing
from allmend.tuning.loop import Plan
from allmend.tuning.packs import batches
from allmend.tuning.probe import Fit
from allmend.tuning.rates import first_rate

if TYPE_CHECKING:
    from allmend.data import Tokens
    from allmend.tuning.passes import Passes
    from allmend.verbs.tune import TuneSettings
    from allmend.verbs.watching import Watch

PACK_TOKENS = 2048
_EVALUATIONS, _EVALUATION_SHARE = 5, 0.15
_BATCH, _STEPS_AN_EPOCH = 16, 8
_TRIED_TOKENS = 640

Choose = Callable[[str, object, str], None]


def make_plan(
    passes: Passes,
    rows: Sequence[Tokens],
    select: Sequence[Tokens],
    settings: TuneSettings,
    left: Callable[[], float],
    probed: Probed | None,
    choose: Choose,
    watch: Watch,
) -> Plan:
    """Measure and choose; every choice is told to `choose` with its reason.

    Args:
        left: seconds for training; asked once all that is measured here is paid.
        probed: what was measured already, while a search was considered.

    Raises:
        DoesNotFit: memory or budget are too small; the hint says what would do.
    """
    loaded = passes.loaded
    watch.stage("Trying a few steps to see what fits and how fast this machine is")
    limit = settings.memory or memory.usable(loaded.device)
    found, _ = memory.settle(passes, rows, limit)
    for choice in found:
        choose(choice.name, together.agreed(choice.value), choice.reason)
    passes.pack_tokens = together.agreed(passes.pack_tokens)
    batch = settings.batch or batch_for(len(rows), choose)
    epochs = settings.epochs or EPOCHS
    first = [[rows[place] for place in some] for some in islice(batches(len(rows), batch, settings.seed), 12)]
    faster = probing.choose_layers(passes, first[0]) if loaded.device.type != "cpu" else None
    if faster is not None:
        choose(faster.name, faster.value, faster.reason)
    threads, fit = probed or probe(passes, rows, select, batch, settings.seed, choose)
    tokens = sum(map(len, rows)) / len(rows) * min(batch, len(rows))
    once, budget = fit.evaluation(sum(map(len, select))), left()
    evaluations = max(1, min(_EVALUATIONS, int(_EVALUATION_SHARE * budget / once))) if select else 1
    choose("evaluations", evaluations, f"{once:.1f} s each, {_EVALUATION_SHARE:.0%} of the budget at most")
    possible = probing.steps_in(budget, fit, tokens, evaluations * once)
    wanted = max(1, round(epochs * len(rows) / batch))
    steps = min(possible, wanted)
    bought = possible < wanted
    rest = f"the {budget / 60:.1f} min that the rest leaves of the budget buy them"
    reason = rest if bought else f"{epochs:g} epochs"
    choose("steps", steps, f"{fit.tokens_per_second:.0f} tokens/s measured; {reason}")
    minutes = (steps * fit.seconds(tokens) + evaluations * once) / 60
    choose("predicted_minutes", round(minutes, 3), "from the same measurement")
    choose("predicted_peak_mib", fit.peak_bytes >> 20, "peak while trying the largest batch")
    return Plan(
        steps=steps,
        most_steps=wanted,
        rate=settings.learning_rate or _rate(passes, settings, choose),
        batch_rows=batch,
        seed=settings.seed,
        pack_tokens=passes.pack_tokens,
        evaluations=evaluations,
        deadline=budget,
        threads=threads,
        tricks=passes.tricks,
        recompute=passes.recomputes,
    )


class Probed(NamedTuple):
    """What the fit probe measured."""

    threads: int
    fit: Fit


def probe(
    passes: Passes, rows: Sequence[Tokens], select: Sequence[Tokens], batch: int, seed: int, choose: Choose
) -> Probed:
    """Measure threads and speed on real rows."""
    first = [[rows[place] for place in some] for some in islice(batches(len(rows), batch, seed), 12)]
    # A few hundred tokens tell as much, and a large model takes seconds for each hundred.
    threads = probing.choose_threads(passes, memory.some_of(first[0], _TRIED_TOKENS))
    choose(threads.name, threads.value, threads.reason)
    fit = probing.probe(passes.loaded, passes.lora, first, passes.pack_tokens, passes, select)
    return Probed(int(threads.value), together.agreed(fit))


def batch_for(rows: int, choose: Choose) -> int:
    """Rows a step: fewer than usual where an epoch would have too few steps to learn anything."""
    batch = max(1, min(_BATCH, rows // _STEPS_AN_EPOCH))
    few = f"{rows} rows are few: so an epoch still has {-(-rows // batch)} steps"
    choose("batch", batch, few if batch < _BATCH else "LoRAs learn best from small batches; packs divide it by memory")
    return batch


def _rate(passes: Passes, settings: TuneSettings, choose: Choose) -> float:
    config = passes.loaded.model.config.get_text_config()
    rate, why = first_rate(int(config.hidden_size), str(config.model_type), settings.full)
    choose("learning_rate", rate, why)
    return rate
