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
    settings = TuneSettings.of({**earlier.settings, "dtype": dtype, "fresh": True})
    threads = earlier.choice("threads")
    with _threads(threads):
        again = work(source, settings, watch, recorded)
    kind = "model" if settings.full else "adapter"
    different = [name for name in (kind, f"{kind}-last") if _digest(earlier, name) != _digest(again, name)]
    unlike = [name for name, value in earlier.environment.items() if again.environment.get(name) != value]
    note = f"The environment differs: {', '.join(sorted(unlike))}." if unlike and different else ""
    return Replayed(run=earlier.id, replay=again.id, equal=not different, different=different, note=note)


def _recorded(earlier: Run) -> tuple[str, Recorded]:
    """The data's path, and the recorded plan with the stops that happened."""
    from dataclasses import replace

    from allmend.errors import InputError
    from allmend.tuning import checkpoint
    from allmend.tuning.loop import LAST
    from allmend.verbs.recorded_plan import Recorded, read_plan

    data = next((file for file in earlier.inputs if file.name == "data"), None)
    if data is None or not Path(data.path).exists():
        raise InputError("the run's data is no file that is still there", where=data.path if data else None)
    folder = Path(earlier.folder)
    _, _, progress = checkpoint.load(folder / LAST)
    plan = replace(read_plan(folder), deadline=None, replanned=tuple(progress.replanned))
    return data.path, Recorded(plan, data.sha256)


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
