"""What a verdict is about, and what one model answered."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from allmend.data import Row, Template
from allmend.verdicts.metrics import Fault, Metric, detect

if TYPE_CHECKING:
    from allmend.verdicts.forgetting import General
    from allmend.verdicts.norms import NormsFile

LOSS_ROWS = 250
FEW_SHOT_ROWS = 200

Report = Callable[[str], None]


@dataclass(frozen=True)
class Question:
    """What the verdict is about, and how much is measured."""

    rows: Sequence[Row]
    labels: Sequence[str] | None
    template: Template
    adapter: str
    data: str
    run: str | None = None
    confidence: float = 0.95
    seed: int = 0
    resamples: int = 0
    """Of a paired bootstrap for the intervals; 0 takes the formulas."""
    free_text_rows: int = 64
    """Rows that both models also answer in free text; a random sample, since writing is slow."""
    metrics: Sequence[Metric | str] = ()
    """The first carries the words. Read off the rows when empty."""
    shots: Sequence[Row] = ()
    """Training rows for the prompt of the untuned model; it is then measured with them as well."""
    few_shot_rows: int = FEW_SHOT_ROWS
    """Rows that it is measured on with them, at most: long prompts take long."""
    temperature: float = 0.0
    """Of free text."""
    longest_answer: int | None = None
    """Tokens; None is as many as the longest expected answer takes, and 512 at least for programs."""
    norms: NormsFile | None = None
    general: General | None = None
    """What forgetting is measured on."""

    def __post_init__(self) -> None:
        if not self.metrics:
            object.__setattr__(self, "metrics", tuple(detect(self.rows, self.labels)))

    @property
    def by_label(self) -> bool:
        """Whether labels are scored."""
        return bool(self.labels) and len(self.labels or ()) > 1

    @property
    def written(self) -> list[Metric]:
        """The metrics that need written answers."""
        return [metric for metric in self.metrics if isinstance(metric, Metric)]

    @property
    def runs_programs(self) -> bool:
        """Whether written answers are programs to run."""
        return any(metric.name.startswith("pass@") for metric in self.written)

    @property
    def loss_places(self) -> list[int]:
        """Rows whose loss is measured: all, or a random part of them where labels carry the verdict."""
        places = list(range(len(self.rows)))
        if not self.by_label or len(places) <= LOSS_ROWS:
            return places
        return random.Random(self.seed).sample(places, LOSS_ROWS)

    @property
    def text_places(self) -> list[int]:
        """Random rows for free text: the file's order may be sorted by label or date."""
        fitting = [
            place
            for place, row in enumerate(self.rows)
            if row.text is None and (not self.written or any(metric.fits(row) for metric in self.written))
        ]
        if not self.written and not self.norms:
            return []
        return random.Random(self.seed).sample(fitting, min(self.free_text_rows * self.texts_a_row, len(fitting)))

    @property
    def texts_a_row(self) -> int:
        """How many times `free_text_rows` are written: more are needed where written answers carry the verdict."""
        return 1 if isinstance(self.metrics[0], str) else 3

    @property
    def few_shot_places(self) -> list[int]:
        """Rows that the untuned model is also asked with examples: those with written answers first."""
        if not self.shots:
            return []
        places = list(dict.fromkeys([*self.text_places, *self.loss_places, *range(len(self.rows))]))
        return sorted(place for place in places[: self.few_shot_rows] if self.rows[place].text is None)


@dataclass
class Writing:
    """How a model's free text was written."""

    limit: int = 0
    """Most tokens of an answer."""
    answers: int = 0
    cut_off: int = 0
    """Answers that were still going on at the limit, or at the end of the context."""
    tokens: int = 0
    seconds: float = 0.0


@dataclass
class Answers:
    """What one model gave on the held-out rows."""

    losses: list[float]
    """Of `Question.loss_places`."""
    labels: list[str] | None = None
    """Of every row asked, in the order of the rows."""
    texts: list[str] = field(default_factory=list)
    """Of `sample`."""
    sample: list[Row] = field(default_factory=list)
    cut: int = 0
    """Rows longer than the context."""
    numbers: dict[str, dict[int, float]] = field(default_factory=dict)
    """Metric: row's place: number."""
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    label_at: dict[int, str] = field(default_factory=dict)
    text_at: dict[int, str] = field(default_factory=dict)
    norms: list[list[bool | None]] = field(default_factory=list)
    """`[norm][answer]`: held, broken, or undecided."""
    norm_texts: list[list[str]] = field(default_factory=list)
    writing: Writing = field(default_factory=Writing)
    general_losses: list[float] = field(default_factory=list)
    probe_texts: list[str] = field(default_factory=list)


__all__ = ["FEW_SHOT_ROWS", "LOSS_ROWS", "Answers", "Question", "Report", "Writing"]
