"""pass@k: programs that a model wrote, run with their tests in the box, and nowhere else.

pass@k is the unbiased estimate of Chen et al., Evaluating Large Language Models Trained on Code (2021): of n programs
for a row c pass; the chance that k drawn from them hold one that passes is 1 - C(n-c, k) / C(n, k).
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from itertools import islice

from allmend.data import Row
from allmend.verdicts.metrics.metric import Fault, Metric

_FENCE = re.compile(r"```([^\n`]*)\n(.*?)(?:```|\Z)", re.S)
_LONGEST_IMPORT = 50
"""Lines."""
_DEFINES = re.compile(r"^(?:async )?def (\w+)", re.M)
_NEXT_TOP_LEVEL = re.compile(r"\n(?:class |def |#|if |print|@|assert |User:|```)")
_NUL = "\0"


def pass_at(k: int, samples: int) -> Metric:
    """pass@k over `samples` programs a row; more than one are drawn at temperature 0.8, one is greedy."""
    samples = max(k, samples)
    drawn = "greedy" if samples == 1 else f"{samples} drawn at temperature 0.8"

    def score_all(answers: Sequence[str], rows: Sequence[Row]) -> list[float | Fault]:
        from allmend.verdicts.metrics.boxed_programs import run_programs

        programs = [program_of(answer, row) for answer, row in zip(answers, rows, strict=True)]
        return [float(passed) for passed in run_programs(programs)]

    return Metric(
        f"pass@{k}",
        f"programs that pass their tests, run in the box; {drawn}",
        score_all=score_all,
        samples=samples,
        temperature=0.0 if samples == 1 else 0.8,
        fits=lambda row: bool(row.tests),
    )


def k_of(metric: Metric) -> int | None:
    """The k of a pass@k metric; None for any other."""
    return int(metric.name.removeprefix("pass@")) if metric.name.startswith("pass@") else None


def pass_at_k(passed: int, of: int, k: int) -> float:
    """The unbiased estimate from `passed` of `of` programs."""
    if k > of:
        raise ValueError(f"pass@{k} needs at least {k} programs a row")
    return 1.0 - math.comb(of - passed, k) / math.comb(of, k)


def program_of(answer: str, row: Row) -> str:
    """The program to run: the answer's code, beneath the prompt where it goes on from there, and the tests.

    Code in a fence is taken from it. An answer that defines what the prompt begins to define stands alone but for the
    prompt's imports; any other goes on after the prompt and ends where something new begins at the margin.
    """
    answer = answer.replace(_NUL, "")
    code = _fenced(answer)
    begun = _DEFINES.findall(row.prompt)
    if not begun or set(_DEFINES.findall(code)) & set(begun):
        body = _imports(row.prompt) + code
    else:
        body = row.prompt + _NEXT_TOP_LEVEL.split(code, maxsplit=1)[0]
    return f"{body}\n\n{row.tests or ''}\n"


def _fenced(answer: str) -> str:
    """The code in the first fence marked as Python, else in the first of any kind; the answer where it has none."""
    fences: list[tuple[str, str]] = [(info.strip().lower(), code) for info, code in _FENCE.findall(answer)]
    if not fences:
        return answer
    return next((code for info, code in fences if info.startswith("py")), fences[0][1])


def _imports(prompt: str) -> str:
    """The import statements that stand at the margin of the prompt; its prose may begin with the same words."""
    lines = prompt.splitlines()
    found = []
    for place, line in enumerate(lines):
        if line.startswith(("import ", "from ")):
            most = _LONGEST_IMPORT if "(" in line or line.endswith("\\") else 1
            grown = ("\n".join(lines[place:end]) for end in range(place + 1, min(place + most, len(lines)) + 1))
            found += [text + "\n" for text in islice(filter(_is_import, grown), 1)]
    return "".join(found)


def _is_import(text: str) -> bool:
    try:
        return all(isinstance(part, ast.Import | ast.ImportFrom) for part in ast.parse(text).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
