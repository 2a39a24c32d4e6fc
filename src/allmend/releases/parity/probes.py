"""What every artefact is asked: held-out prompts with their answers, as the tested model read them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from allmend.data import Row, Template, encode, encode_prompt
from allmend.data.rows import Message
from allmend.data.tokens import marks

LONGEST_ANSWER = 48
"""Tokens that are generated to compare greedy texts, at most."""


@dataclass(frozen=True)
class Probe:
    """One question."""

    messages: tuple[Message, ...]
    """Without the answer; empty for plain text, which no template is applied to."""
    text: str
    """The prompt as the tested model's template writes it."""
    prompt: list[int]
    answer: list[int]
    """The expected answer with its end mark."""
    label: int | None = None
    """Place of the expected answer in the label set."""
    tools: tuple[Mapping[str, Any], ...] | None = None
    """Descriptions of tools, for the template."""


@dataclass(frozen=True)
class Probes:
    """All questions."""

    rows: list[Probe]
    labels: list[str] | None
    label_ids: list[list[int]] = field(default_factory=list)
    written: int = 0
    """How many of the rows, from the first, are also answered in free text."""
    answer_tokens: int = 8
    end: int = 0
    """The id that ends an answer."""


@dataclass
class Replies:
    """What one artefact made of the questions, in their order."""

    texts: list[str]
    """The prompt as its consumer writes it; empty where no template applies."""
    prompts: list[list[int]]
    losses: list[float]
    """Per token of the expected answer, natural logarithm."""
    labels: list[int] | None
    """The best label of each row."""
    answers: list[str]
    """Greedy answers to the first rows."""
    consumer: str = ""
    seconds: float = 0.0


def make(
    rows: Sequence[Row],
    labels: Sequence[str] | None,
    tokenizer: Any,
    template: Template,
    *,
    context: int,
    count: int = 32,
    written: int = 12,
    seed: int = 0,
) -> Probes:
    """A random sample of held-out rows; rows that do not fit the context are passed over."""
    chosen = list(rows)
    random.Random(seed).shuffle(chosen)
    if labels is not None and len(labels) < 2:
        labels = None
    made: list[Probe] = []
    for row in chosen:
        if len(made) == count:
            break
        tokens = encode(row, tokenizer, template, context=context)
        if tokens.cut or len(tokens) + LONGEST_ANSWER > context:
            continue
        made.append(_probe(row, tokens.ids, tokens.mask, labels, tokenizer, template))
    longest = max((len(probe.answer) for probe in made), default=1)
    ids = [label_ids(label, tokenizer, template) for label in labels] if labels else []
    return Probes(
        made,
        list(labels) if labels else None,
        _bare(ids, marks(tokenizer).special_ids),
        written=min(written, sum(1 for probe in made if probe.messages)),
        answer_tokens=min(LONGEST_ANSWER, longest + 4),
        end=made[0].answer[-1] if made else marks(tokenizer).eos,
    )


def _probe(
    row: Row, ids: list[int], mask: bytes, labels: Sequence[str] | None, tokenizer: Any, template: Template
) -> Probe:
    if row.text is not None:
        start = max(1, mask.index(1))
        return Probe((), "", ids[:start], ids[start:])
    ends = marks(tokenizer)
    messages = tuple(row.as_messages()[:-1])
    text = template.render(
        messages, add_generation_prompt=True, tools=row.tools, bos_token=ends.bos_text, eos_token=ends.eos_text
    )
    prompt = encode_prompt(messages, tokenizer, template, tools=row.tools)
    label = list(labels).index(row.completion) if labels and row.completion in labels else None
    return Probe(messages, text, prompt, ids[len(prompt) :], label, row.tools)


def label_ids(label: str, tokenizer: Any, template: Template) -> list[int]:
    """The ids that an answer of just this label has, end mark included."""
    tokens = encode(Row(prompt="?", completion=label), tokenizer, template)
    return [token for token, learned in zip(tokens.ids, tokens.mask, strict=True) if learned]


def _bare(ids: list[list[int]], special: frozenset[int]) -> list[list[int]]:
    """Without the end mark, unless one label begins another, so that the shorter could never lose."""
    bare = [label[:-1] if len(label) > 1 and label[-1] in special else label for label in ids]
    begins = any(a is not b and b[: len(a)] == a for a in bare for b in bare)
    return ids if begins else bare


def released(template: Template, probes: Probes, bos: int | None, bos_text: str) -> Template:
    """The template as it is shipped.

    What was tested began with exactly one begin mark. Consumers differ: transformers adds none to a template's text,
    llama.cpp adds one unless the text has it. A template that writes the mark itself gives one mark everywhere.
    """
    asked = next((probe for probe in probes.rows if probe.messages), None)
    if asked is None or bos is None or asked.prompt[:1] != [bos] or asked.text.startswith(bos_text):
        return template
    return Template(template.name, "{{- bos_token -}}" + template.text)
