"""`allmend verdict`: the verdict on a tuned adapter again, on the same rows or on others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from allmend.verbs.settings import Settings
from allmend.verbs.watching import SILENT, Watch

if TYPE_CHECKING:
    from allmend.nouns.verdict import Verdict


class VerdictSettings(Settings):
    """Settings of `allmend verdict`."""

    data: Path | None = None
    """Judge on all rows of this file instead of the run's own held-out rows."""

    adapter: str = "adapter"
    """Which adapter of the run: adapter (the best) or adapter-last."""

    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of the intervals."""

    free_text_rows: Annotated[int, Field(ge=0)] = 64
    """Rows that both models also answer in free text."""


def verdict(
    run: str,
    *,
    data: str | Path | None = None,
    adapter: str = "adapter",
    confidence: float = 0.95,
    free_text_rows: int = 64,
    watch: Watch = SILENT,
) -> Verdict:
    """Judge a tune run's adapter; see `VerdictSettings` for the keywords.

    Args:
        run: a run's id, its beginning, or `last`.

    Raises:
        NotFound: no such run, or it has no adapter.
        InputError: the run's data file is not the one it was tuned on any more.
    """
    values = {name: value for name, value in locals().items() if name not in {"run", "watch"}}
    from allmend.verbs.verdict_work import work

    return work(run, VerdictSettings.of(values), watch)
