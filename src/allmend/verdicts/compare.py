"""Several runs on the same rows: all pairs, with the number of comparisons taken into account."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from allmend.nouns.verdict import Comparison, Pair, Verdict
from allmend.verdicts.intervals import holm, p_value, paired_interval
from allmend.verdicts.question import Answers, Question
from allmend.verdicts.words import too_few, words_for

UNTUNED = "untuned"


def comparison(question: Question, models: Sequence[tuple[str, Answers]], verdicts: Sequence[Verdict]) -> Comparison:
    """Every pair of models on the rows that all of them have a number for.

    A pair is called better or worse where its own interval leaves zero out and its p-value, adjusted by Holm for all
    pairs of the table, agrees.

    Args:
        models: name and answers, the untuned model first.
        verdicts: of each run against the untuned model; their first metric is compared.
    """
    metric = verdicts[0].main.name
    name = "accuracy" if metric == "macro_f1" else metric
    higher = verdicts[0].main.higher_is_better
    places = sorted(set.intersection(*(set(answers.numbers.get(name, {})) for _, answers in models)))
    numbers = {model: [answers.numbers[name][place] for place in places] for model, answers in models}
    couples = list(combinations(numbers, 2))
    p_values = [p_value(numbers[first], numbers[second]) for first, second in couples]
    pairs = []
    for (first, second), p, adjusted in zip(couples, p_values, holm(p_values), strict=True):
        low, high = paired_interval(
            numbers[first], numbers[second], question.confidence, question.seed, question.resamples
        )
        pairs.append(
            Pair(
                first=first,
                second=second,
                words=words_for(low, high, higher, adjusted, question.confidence),
                difference=(sum(numbers[second]) - sum(numbers[first])) / len(places),
                low=low,
                high=high,
                p_value=p,
                adjusted_p_value=adjusted,
            )
        )
    return Comparison(
        metric=name,
        higher_is_better=higher,
        rows=len(places),
        confidence=question.confidence,
        data=question.data,
        values={model: sum(values) / len(values) for model, values in numbers.items()},
        pairs=pairs,
        verdicts=list(verdicts),
        notes=[
            f"{len(pairs)} comparisons; p-values are adjusted by Holm's method, intervals are each one's own.",
            *too_few(question),
        ],
    )
