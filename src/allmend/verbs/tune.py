"""`allmend tune`: from a file of your own rows to a LoRA and a verdict on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from allmend.verbs.settings import Duration, Settings, Size
from allmend.verbs.watching import SILENT, Watch

if TYPE_CHECKING:
    from allmend.nouns.run import Run


class TuneSettings(Settings):
    """Settings of `allmend tune`."""

    model: str = "gemma-3-270m"
    """The model to start from: a name from `allmend models`, OWNER/NAME[@REV], a folder, a .gguf file."""

    budget: Duration = 180.0
    """Time for all of it, like 90s, 15m, 2h: data check, probe, trials, verdict. Only downloads come on top."""

    trials: Annotated[int, Field(ge=1, le=81)] | None = None
    """Settings to try; as many as the budget can tell apart when not given, 1 for no search. Naming a learning rate
    turns the search off, unless a number of trials is given."""

    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that train trials beside each other, each with a model of its own; 1 is this process."""

    more_data: bool = False
    """Also train the winner on parts of the rows, to say whether more data would help (a learning curve)."""

    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Peak learning rate; searched when not given."""

    rank: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Rank of the LoRA; searched when not given, or 16 without a search."""

    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 32.0
    """The LoRA's update is scaled by alpha / rank."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the LoRA's inputs dropped in training."""

    targets: tuple[str, ...] = ()
    """Linear layers to adapt, by name (q_proj, …); all of them when not given."""

    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead (rsLoRA)."""

    dora: bool = False
    """Learn the length of each adapted row by itself (DoRA)."""

    full: bool = False
    """Learn all weights of the model instead of a LoRA; what comes out is a model folder."""

    shard: Literal["none", "optimiser", "all"] | None = None
    """What processes started by torchrun divide among them: nothing; the optimiser's moments (--full only); or weights
    and gradients too, which is FSDP. As little as fits when not given."""

    base_bits: Literal[8, 4] | None = None
    """Keep the frozen weights in 8 or 4 bits: less memory, a little less precise. Not with --full."""

    memory: Size | None = None
    """Memory that training may use in all, like 12G; what is free when not given."""

    upper_layers: Annotated[int, Field(ge=1)] | None = None
    """Adapt only so many of the uppermost layers. What lies below is worked out once for all passes and trials, which
    is faster and costs some quality; all layers when not given."""

    batch: Annotated[int, Field(ge=1)] | None = None
    """Rows that one optimiser step learns from; searched when not given, or 16 without a search."""

    epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """At most this many passes over the rows, however large the budget; searched when not given, or 3 without."""

    context: Annotated[int, Field(ge=8)] | None = None
    """Longest row in tokens; longer ones lose the start of their prompt. The model's own when not given."""

    prompt_column: str | None = None
    """Column or field that is the prompt, where it cannot be told."""

    completion_column: str | None = None
    """Column or field that is the completion."""

    held_out: Path | None = None
    """Rows to judge on, in a file of their own; otherwise a tenth of the data is held out."""

    few_shot: Annotated[int, Field(ge=0, le=32)] = 4
    """Training rows to show the untuned model in its prompt, as a third contestant of the verdict, where the budget
    has time for it; 0 leaves it out."""

    forgetting: bool = True
    """Measure what the model could do before, where the budget has time for it."""

    norms: Path | None = None
    """File of must and must-not cases (TOML), checked for the untuned and the tuned model."""

    template: str | None = None
    """Chat template: allmend-plain/1 or a .jinja file; the model's own when not given."""

    skip_bad: bool = False
    """Leave out rows that cannot be read, and count them, instead of stopping."""

    seed: int = 0
    """Seed of everything: the split, the order, the LoRA."""

    dtype: str | None = None
    """float32, bfloat16 or float16; chosen from what the machine has when not given."""

    without: tuple[str, ...] = ()
    """Tricks of training to do without, by name (lean_layers, share_prefix, …); for comparing. None changes results."""

    fresh: bool = False
    """Start over even where an interrupted run of the same work could be continued."""


def tune(
    data: str | Path,
    *,
    model: str = "gemma-3-270m",
    budget: float | str = 180.0,
    trials: int | None = None,
    workers: int = 1,
    more_data: bool = False,
    learning_rate: float | None = None,
    rank: int | None = None,
    alpha: float = 32.0,
    dropout: float = 0.0,
    targets: tuple[str, ...] = (),
    rslora: bool = False,
    dora: bool = False,
    full: bool = False,
    shard: Literal["none", "optimiser", "all"] | None = None,
    base_bits: Literal[8, 4] | None = None,
    memory: int | str | None = None,
    upper_layers: int | None = None,
    batch: int | None = None,
    epochs: float | None = None,
    context: int | None = None,
    prompt_column: str | None = None,
    completion_column: str | None = None,
    held_out: str | Path | None = None,
    few_shot: int = 4,
    forgetting: bool = True,
    norms: str | Path | None = None,
    template: str | None = None,
    skip_bad: bool = False,
    seed: int = 0,
    dtype: str | None = None,
    without: tuple[str, ...] = (),
    fresh: bool = False,
    watch: Watch = SILENT,
) -> Run:
    """Tune a LoRA on `data` and judge it on rows it never saw; see `TuneSettings` for the keywords.

    Args:
        data: a .jsonl, .csv, .tsv or .parquet file, a folder of texts, `-`, or a data set of the catalogue.

    Returns:
        The finished Run; its outputs are `adapter` (the best), `adapter-last`, `verdict`, and after a search
        `search` (its record), `search-page` and `study` (Optuna's storage); of full fine-tuning `model` and
        `model-last` instead of the adapters.

    Raises:
        AllmendError: anything that is wrong with data, model, settings or machine, before training where it can be
            known; `TrainingDiverged` during it.
    """
    values = {name: value for name, value in locals().items() if name not in {"data", "watch"}}
    settings = TuneSettings.of(values)
    from allmend.models import parse

    # Here, since a misspelt name should be told before torch is imported.
    parse(settings.model)
    from allmend.verbs.tuning_work import work

    return work(str(data), settings, watch)
