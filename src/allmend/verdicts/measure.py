"""What a model answers on held-out rows: labels by score, loss a token, and free text.

Labels are judged by scoring the whole label set after the prompt, for base and tuned alike: an untuned model that
knows the answer and not the format would otherwise fail on format alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from allmend.data import Row, Template, encode, encode_prompt, encode_rows
from allmend.data.tokens import marks
from allmend.models.loading import Loaded
from allmend.models.scoring import Scored, label_logprobs, logprobs
from allmend.verdicts.few_shot import with_shots


@dataclass(frozen=True)
class LabelAnswers:
    """The best label of each row, and how sure the model was."""

    labels: list[str]
    scores: list[list[float]]
    """`[row][label]`, log-probabilities in the order of the label set."""


def answer_labels(
    loaded: Loaded, rows: Sequence[Row], labels: Sequence[str], template: Template, shots: Sequence[Row] = ()
) -> LabelAnswers:
    """The label with the highest log-probability after each row's prompt.

    Where one label begins another, the end of the text is scored with each, so that the shorter can lose.
    """
    tokenizer = loaded.tokenizer
    whole = [_label_ids(loaded, label, template) for label in labels]
    special = marks(tokenizer).special_ids
    bare = [list(ids[:-1]) if len(ids) > 1 and ids[-1] in special else list(ids) for ids in whole]
    ids = whole if _some_begin_others(bare) else bare
    longest = max(map(len, ids))
    prompts = [prompt_ids(loaded, row, template, room=longest, shots=shots) for row in rows]
    scores = label_logprobs(loaded.model, prompts, ids)
    best = [max(range(len(labels)), key=row.__getitem__) for row in scores]
    return LabelAnswers([labels[place] for place in best], scores)


def prompt_ids(loaded: Loaded, row: Row, template: Template, room: int, shots: Sequence[Row] = ()) -> list[int]:
    """The prompt of a row, without its start where it would leave fewer than `room` tokens of the context."""
    ids = encode_prompt(with_shots(row.as_messages()[:-1], shots), loaded.tokenizer, template, tools=row.tools)
    limit = max(2, loaded.context - room)
    if len(ids) <= limit:
        return ids
    # As in training, the mark that texts begin with stays.
    kept = ids[:1] if ids[0] == marks(loaded.tokenizer).bos else []
    return kept + ids[len(ids) - limit + len(kept) :]


def cut_rows(loaded: Loaded, rows: Sequence[Row], template: Template) -> int:
    """How many rows are longer than the context, so that the start of their prompt is not read."""
    encoded = encode_rows(rows, loaded.tokenizer, template, context=loaded.context)
    return len({tokens.place for tokens in encoded if tokens.cut})


def _label_ids(loaded: Loaded, label: str, template: Template) -> list[int]:
    """The ids that training on this label as an answer learns, its end mark included."""
    tokens = encode(Row(prompt="?", completion=label), loaded.tokenizer, template)
    return [token for token, learned in zip(tokens.ids, tokens.mask, strict=True) if learned]


def _some_begin_others(ids: Sequence[Sequence[int]]) -> bool:
    return any(a is not b and len(a) <= len(b) and list(b[: len(a)]) == list(a) for a in ids for b in ids)


def row_losses(loaded: Loaded, rows: Sequence[Row], template: Template) -> list[float]:
    """Loss per learned token of each row, natural logarithm."""
    scored: list[Scored] = []
    owners: list[int] = []
    for number, row in enumerate(rows):
        for tokens in encode_rows([row], loaded.tokenizer, template, context=loaded.context):
            runs = [Scored(tokens.ids[:end], max(1, start)) for start, end in runs_of(tokens.mask) if end > 1]
            scored += runs
            owners += [number] * len(runs)
    totals, counts = [0.0] * len(rows), [0] * len(rows)
    for number, part, value in zip(owners, scored, logprobs(loaded.model, scored), strict=True):
        totals[number] -= value
        counts[number] += len(part.ids) - part.start
    return [total / max(1, count) for total, count in zip(totals, counts, strict=True)]


def shot_losses(loaded: Loaded, rows: Sequence[Row], template: Template, shots: Sequence[Row]) -> list[float]:
    """Loss per learned token of each row's last answer, with the shots in front; rows of a prompt and a completion."""
    scored = []
    for row in rows:
        answer = _label_ids(loaded, row.completion, template)
        prompt = prompt_ids(loaded, row, template, room=len(answer), shots=shots)
        scored.append(Scored([*prompt, *answer], len(prompt)))
    sums = logprobs(loaded.model, scored)
    return [-value / (len(part.ids) - part.start) for value, part in zip(sums, scored, strict=True)]


def runs_of(mask: bytes) -> list[tuple[int, int]]:
    """(start, end) of each stretch of learned ids."""
    runs, start = [], None
    for place, learned in enumerate([*mask, 0]):
        if learned and start is None:
            start = place
        elif not learned and start is not None:
            runs.append((start, place))
            start = None
    return runs
