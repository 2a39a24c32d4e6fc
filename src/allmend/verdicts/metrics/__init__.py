"""Metrics: a number a row from answers. Which of them fit the rows is read off the rows, and can be said.

metric        what a metric is
text          exact match, number, ROUGE-L, chrF
structured    JSON and tool calls
labels        macro F1
code          pass@k, in the box
own           a function of one's own
judge_model   a model that grades
choose        by name, or by what the rows look like
"""

from allmend.verdicts.metrics.choose import BY_SCORE, detect, named
from allmend.verdicts.metrics.labels import macro_f1, never_said
from allmend.verdicts.metrics.metric import Fault, Metric
from allmend.verdicts.metrics.text import exact_match, normal

__all__ = ["BY_SCORE", "Fault", "Metric", "detect", "exact_match", "macro_f1", "named", "never_said", "normal"]
