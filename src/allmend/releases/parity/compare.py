"""An artefact's replies beside those of the tested model, held to the threshold of its format."""

from __future__ import annotations

from collections.abc import Sequence

from allmend.nouns.release import Agreement
from allmend.releases.parity.probes import Probes, Replies
from allmend.releases.parity.thresholds import Limit
from allmend.verdicts.intervals import paired_interval


def compare(artefact: str, limit: Limit, tested: Replies, made: Replies, probes: Probes, bos_text: str) -> Agreement:
    """How far `made` agrees with `tested`, held to `limit`."""
    differences = [abs(a - b) for a, b in zip(tested.losses, made.losses, strict=True)]
    texts = [
        _equal_text(a, b, bos_text) for a, b, row in zip(tested.texts, made.texts, probes.rows, strict=True) if row
    ]
    ids = [a == b for a, b in zip(tested.prompts, made.prompts, strict=True)]
    mean, worst = sum(differences) / len(differences), max(differences)
    value = reference = None
    if made.labels is not None and tested.labels is not None:
        right = [row.label for row in probes.rows]
        after = _right(made.labels, right)
        before = _right(tested.labels, right)
        value, reference = sum(after) / len(after), sum(before) / len(before)
        low, high = paired_interval(before, after)
    else:
        low, high = paired_interval(tested.losses, made.losses)
    finite = all(abs(loss) < 1e9 for loss in made.losses)
    return Agreement(
        artefact=artefact,
        consumer=made.consumer,
        rows=len(probes.rows),
        template_equal=sum(texts),
        ids_equal=sum(ids),
        loss=sum(made.losses) / len(made.losses) if finite else 1e9,
        loss_difference=mean if finite else 1e9,
        loss_worst=worst if finite else 1e9,
        texts_equal=sum(a.strip() == b.strip() for a, b in zip(tested.answers, made.answers, strict=False)),
        texts=min(len(tested.answers), len(made.answers)),
        metric="accuracy" if value is not None else None,
        value=value,
        reference=reference,
        low=low,
        high=high,
        allowed_mean=limit.mean,
        allowed_worst=limit.worst,
        passed=finite and all(texts) and all(ids) and mean <= limit.mean and worst <= limit.worst,
        seconds=round(made.seconds, 2),
    )


def _equal_text(a: str, b: str, bos_text: str) -> bool:
    """The same bytes, up to one begin mark that one side leaves to its tokenizer; ids are compared beside it."""
    return a == b or (bool(bos_text) and a.removeprefix(bos_text) == b.removeprefix(bos_text))


def _right(labels: Sequence[int], expected: Sequence[int | None]) -> list[float]:
    return [float(a == b) for a, b in zip(labels, expected, strict=True)]
