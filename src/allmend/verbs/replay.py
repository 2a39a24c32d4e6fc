"""`allmend runs replay`: a tuning run once more, with its recorded choices and stops, and whether the bits agree."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from allmend.nouns.noun import Part
from allmend.verbs.watching import SILENT, Watch

if TYPE_CHECKING:
    from allmend.nouns.run import Run
    from allmend.verbs.recorded_plan import Recorded


class Replayed(Part):
    """A run beside its replay."""

    run: str
    replay: str
    equal: bool
    """Whether both adapters (or models, where all weights were learned), best and last, are the same bytes."""
    different: list[str]
    """Which outputs differ."""
    note: str = ""
    """What could make them differ here, where something could."""


def replay(reference: str, *, watch: Watch = SILENT) -> Replayed:
    """Train again what a finished run trained, from its own settings and choices; nothing is measured anew.

    On a CPU of the same kind and with the same versions the adapters are the same bytes.

    Raises:
        UsageError: it is no finished run of tune.
        InputError: data or model have changed since, or the run's plan is gone.
    """
    from allmend import runs
    from allmend.errors import UsageError
    from allmend.verbs.tune import TuneSettings
    from allmend.verbs.tuning_work import work

    earlier = runs.show(reference)
    if earlier.verb != "tune" or earlier.state != "done":
        raise UsageError(
            f"{earlier.id} is a run of {earlier.verb} in the state {earlier.state}; only finished runs of tune replay",
            hint="`allmend runs --verb tune` lists them.",
        )
    source, recorded = _recorded(earlier)
    dtype = earlier.choice("dtype")
    # A search replays as what its winner was: one training, of the setting that was found.
    chosen = {name: earlier.choice(name) or earlier.settings.get(name) for name in ("rank", "batch", "epochs")}
    settings = TuneSettings.of(
        {
            **earlier.settings,
            **chosen,
            "dtype": dtype,
            "fresh": True,
            "trials": 1,
            "workers": 1,
            "shard": None,
            "more_data": False,
        }
    )
    _check_model(earlier, settings.model)
    threads = earlier.choice("threads")
    with _threads(threads):
        again = work(source, settings, watch, recorded)
    kind = "model" if settings.full else "adapter"
    different = [name for name in (kind, f"{kind}-last") if _digest(earlier, name) != _digest(again, name)]
    note = why_different(earlier, again) if different else ""
    return Replayed(run=earlier.id, replay=again.id, equal=not different, different=different, note=note)


_NO_CAUSE = {"machine", "memory_bytes", "system"}
"""Parts of the environment that do not change a sum."""


def why_different(earlier: Run, again: Run) -> str:
    """What could make two runs of the same plan differ, as far as their records know."""
    causes = [
        f"{name} was {value!r} and is {again.environment.get(name)!r}"
        for name, value in sorted(earlier.environment.items())
        if name not in _NO_CAUSE and again.environment.get(name) != value
    ]
    # How long a thing took is no cause; how it was computed is.
    for name in ("dtype", "device", "threads", "layers", "processes"):
        before, after = earlier.choice(name), again.choice(name)
        if before != after:
            causes.append(f"{name} was {before!r} and is {after!r}")
    if causes:
        return "Bits agree only on the same kind of processor with the same versions: " + "; ".join(causes) + "."
    return (
        "Processor, versions, threads, data and model are recorded as the same, so the bits should agree: "
        "a library chose another way to compute, or there is a fault."
    )


def _check_model(earlier: Run, model: str) -> None:
    """Raise `InputError` when the model behind the name is no longer the one that was tuned."""
    from allmend.errors import InputError
    from allmend.models import resolve

    recorded = next((file.sha256 for file in earlier.inputs if file.name == "model"), None)
    found = resolve(model)
    if recorded is not None and found.digest != recorded:
        raise InputError(
            f"the model has changed since the run (SHA-256 {found.digest[:12]}… instead of {recorded[:12]}…), "
            "so the adapter cannot come out the same",
            where=model,
            hint="Put the old one back, or name its revision when tuning.",
        )


def _recorded(earlier: Run) -> tuple[str, Recorded]:
    """The data's path, and the recorded plan with the stops that happened."""
    from dataclasses import replace

    from allmend.errors import InputError
    from allmend.tuning import checkpoint
    from allmend.tuning.loop import LAST
    from allmend.verbs.recorded_plan import Recorded, read_plan
    from allmend.verbs.recorded_rows import division, held_out_digest

    data = next((file for file in earlier.inputs if file.name == "data"), None)
    if data is None or not Path(data.path).exists():
        raise InputError("the run's data is no file that is still there", where=data.path if data else None)
    folder = Path(earlier.folder)
    _, _, progress = checkpoint.load(folder / LAST)
    plan = replace(read_plan(folder), deadline=None, replanned=tuple(progress.replanned))
    return data.path, Recorded(plan, data.sha256, held_out_digest(earlier), division(earlier))


def _digest(run: Run, name: str) -> str | None:
    from allmend import adapters
    from allmend.digests import file_digest

    folder = run.output(name)
    if not folder or not Path(folder).is_dir():
        return None
    if name.startswith("model"):
        return " ".join(file_digest(path) for path in sorted(Path(folder).glob("*.safetensors")))
    return adapters.read(folder).digest


class _threads:  # noqa: N801  (read as a word in `with`)
    """So many threads inside the block."""

    def __init__(self, count: int | None) -> None:
        self.count = count

    def __enter__(self) -> None:
        import torch

        self.before = torch.get_num_threads()
        if self.count:
            torch.set_num_threads(int(self.count))

    def __exit__(self, *_: object) -> None:
        import torch

        torch.set_num_threads(self.before)
