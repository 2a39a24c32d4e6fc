"""Forgetting: what the model could do before the tuning, and what of it is left.

Two cheap measures (the idea of a loss on general text before and after is peft's, issue 2925 there): the loss per token
on a small sample of general text, and short answers to a fixed set of questions. Both are for evaluation only; the
text comes from packages and is never trained on here.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from allmend.data import Row, Template
from allmend.models.benchmark_rows import benchmark_file, source_words
from allmend.models.fetch import Progress
from allmend.models.loading import Loaded
from allmend.nouns.verdict import ChangedRow, Forgetting, Measure
from allmend.verdicts.changes import short
from allmend.verdicts.free_text import reply
from allmend.verdicts.intervals import p_value, paired_interval
from allmend.verdicts.measure import row_losses
from allmend.verdicts.metrics import normal
from allmend.verdicts.question import Answers

_PROBE_TOKENS = 24
_TEXTS = 25
"""Texts of each source."""
_LONGEST_TEXT = 400
"""Characters of each text: every token of it is scored, which costs more than reading it."""
CHARACTERS = 2 * _TEXTS * _LONGEST_TEXT
"""Of the general texts, at most: what measuring them costs is foreseen by it."""
_SHOWN = 5


@dataclass(frozen=True)
class Probe:
    """A question with the words of which one must occur in the answer."""

    ask: str
    accept: tuple[str, ...]


@dataclass(frozen=True)
class General:
    """What forgetting is measured on."""

    texts: tuple[str, ...]
    probes: tuple[Probe, ...]
    sources: tuple[str, ...]


@cache
def probes() -> tuple[Probe, ...]:
    """The fixed questions; written for this and part of this package."""
    text = resources.files("allmend.verdicts").joinpath("probes.toml").read_text("utf-8")
    return tuple(Probe(one["ask"], tuple(one["accept"])) for one in tomllib.loads(text)["probe"])


def general(progress: Progress | None = None) -> General:
    """General text from the catalogue's benchmarks (fetched once) and the fixed questions.

    Raises `FetchError` or `NotFound` where the texts are not here and cannot be fetched.
    """
    stories = _rows(benchmark_file("hellaswag", progress))
    sums = _rows(benchmark_file("gsm8k", progress))
    texts = [f"{row['ctx']} {row['endings'][row['expected_index']]}" for row in stories[:_TEXTS]]
    texts += [f"{row['prompt']}\n{row['upstream_answer']}" for row in sums[:_TEXTS]]
    names = ("hellaswag", "gsm8k")
    return General(
        tuple(text[:_LONGEST_TEXT] for text in texts), probes(), (*map(source_words, names), "allmend's own probes")
    )


def only_probes() -> General:
    """The fixed questions alone, where the texts cannot be had."""
    return General((), probes(), ("allmend's own probes",))


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def measure(loaded: Loaded, asked: General, template: Template, answers: Answers) -> None:
    """Losses on the texts and answers to the probes, into `answers`."""
    answers.general_losses = row_losses(loaded, [Row(text=text) for text in asked.texts], template)
    talks = [[{"role": "user", "content": probe.ask}] for probe in asked.probes]
    answers.probe_texts = reply(loaded, talks, template, _PROBE_TOKENS)


def right(asked: Sequence[Probe], texts: Sequence[str]) -> list[float]:
    """1 for each probe whose answer holds one of the accepted words, up to case."""
    return [
        float(any(f" {normal(word)} " in f" {_spaced(text)} " for word in probe.accept))
        for probe, text in zip(asked, texts, strict=True)
    ]


def _spaced(text: str) -> str:
    return "".join(sign if sign.isalnum() else " " for sign in normal(text)).replace("  ", " ")


def compared(asked: General, base: Answers, tuned: Answers, confidence: float) -> Forgetting:
    """Before against after, in words."""
    measures = []
    if asked.texts:
        how = f"per token on {len(asked.texts)} general texts"
        measures.append(_measure("general_loss", base.general_losses, tuned.general_losses, False, how, confidence))
    before, after = right(asked.probes, base.probe_texts), right(asked.probes, tuned.probe_texts)
    how = f"{len(asked.probes)} fixed questions, greedy, one of the accepted words in the answer"
    measures.append(_measure("probes", before, after, True, how, confidence))
    lost = [place for place, was in enumerate(before) if was and not after[place]]
    return Forgetting(
        measures=measures,
        words="some was lost" if any(map(_lost, measures)) else "nothing shown to be lost",
        sources=list(asked.sources),
        lost=[
            ChangedRow(
                place=f"probe {place + 1}",
                prompt=asked.probes[place].ask,
                expected=asked.probes[place].accept[0],
                base=short(base.probe_texts[place], 120),
                tuned=short(tuned.probe_texts[place], 120),
            )
            for place in lost[:_SHOWN]
        ],
    )


def _measure(
    name: str, base: Sequence[float], tuned: Sequence[float], higher: bool, how: str, confidence: float
) -> Measure:
    low, high = paired_interval(base, tuned, confidence)
    means = sum(base) / len(base), sum(tuned) / len(tuned)
    return Measure(name=name, base=means[0], tuned=means[1], difference=means[1] - means[0], low=low, high=high,
                   rows=len(base), higher_is_better=higher, how=how, p_value=p_value(base, tuned))  # fmt: skip


def _lost(measure: Measure) -> bool:
    assert measure.low is not None and measure.high is not None
    return measure.high < 0 if measure.higher_is_better else measure.low > 0
