"""Which metrics: those a person names, or those that fit what the rows' answers look like."""

from __future__ import annotations

import re
from collections.abc import Sequence

from allmend.data import Row
from allmend.errors import UsageError, nearest
from allmend.verdicts.metrics.code import pass_at
from allmend.verdicts.metrics.judge_model import JudgeModel
from allmend.verdicts.metrics.metric import Metric
from allmend.verdicts.metrics.own import is_own, own_metric
from allmend.verdicts.metrics.structured import JSON_FIELDS, JSON_VALID, TOOL_CALLS, is_json_object, is_tool_call
from allmend.verdicts.metrics.text import CHRF, EXACT, NUMERIC, ROUGE_L

BY_SCORE = ("accuracy", "macro_f1", "loss")
"""Metrics that need no written answer: the model's own probabilities give them."""

_BY_NAME = {metric.name: metric for metric in (EXACT, NUMERIC, ROUGE_L, CHRF, JSON_VALID, JSON_FIELDS, TOOL_CALLS)}
_PASS = re.compile(r"pass@(\d{1,3})(?:/(\d{1,3}))?")
_NUMBER_ONLY = re.compile(r"\s*[-+−$€£]?(?:[\d,]+(?:\.\d+)?|\.\d+)\s*%?\s*")
_LOOKED_AT = 200


def named(name: str, judge: JudgeModel | None = None) -> Metric | str:
    """The metric of a name, or the name itself where it is one of `BY_SCORE`."""
    if name == "f1":
        name = "macro_f1"
    if name in BY_SCORE:
        return name
    if name in _BY_NAME:
        return _BY_NAME[name]
    if found := _PASS.fullmatch(name):
        k = int(found[1])
        return pass_at(k, int(found[2]) if found[2] else k)
    if name == "judge":
        if judge is None:
            raise UsageError("a judge needs an address and a model", hint="--judge http://…/v1 --judge-model NAME")
        return judge.metric()
    if is_own(name):
        return own_metric(name)
    known = (*BY_SCORE, *_BY_NAME, "pass@1", "pass@10", "judge", "file.py:function")
    raise UsageError(f"there is no metric {name!r}", where="--metric", hint=nearest(name, known) or ", ".join(known))


def detect(rows: Sequence[Row], labels: Sequence[str] | None) -> list[Metric | str]:
    """Metrics for rows like these, the one that the verdict rests on first."""
    answered = [row for row in rows if row.text is None][:_LOOKED_AT]
    if labels and len(labels) > 1:
        return ["accuracy", "macro_f1", "loss", EXACT]
    if not answered:
        return ["loss"]
    if all(row.tests for row in answered):
        return [pass_at(1, 1), "loss"]
    if all(map(is_tool_call, answered)):
        return [TOOL_CALLS, "loss"]
    if all(map(is_json_object, answered)):
        return [JSON_FIELDS, JSON_VALID, "loss"]
    if all("####" in row.completion or _NUMBER_ONLY.fullmatch(row.completion) for row in answered):
        return [NUMERIC, EXACT, "loss"]
    lengths = sorted(len(row.completion.split()) for row in answered)
    if lengths[len(lengths) // 2] > 5:
        return ["loss", ROUGE_L, CHRF]
    return ["loss", EXACT]
