"""Metrics by hand, against other implementations, and on answers nobody asked for."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmend.data import Row
from allmend.errors import InputError, NotFound, UsageError
from allmend.verdicts.metrics import Fault, Metric, detect, named
from allmend.verdicts.metrics.code import pass_at_k, program_of
from allmend.verdicts.metrics.structured import calls_in, json_fields, json_valid, tool_call_match
from allmend.verdicts.metrics.text import chrf, number_in, numeric_match, rouge_l

WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "7"]), max_size=12).map(" ".join)


@given(WORDS, WORDS)
@settings(max_examples=60, deadline=None)
def test_rouge_l_is_that_of_the_reference_package(answer: str, expected: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reference package's own dependencies warn on import
        from rouge_score.rouge_scorer import RougeScorer
    wanted = RougeScorer(["rougeL"]).score(expected, answer)["rougeL"].fmeasure
    assert rouge_l(answer, expected) == pytest.approx(wanted)


def test_rouge_l_by_hand_and_of_letters_outside_ascii() -> None:
    assert rouge_l("the cat sat", "the cat lay down") == pytest.approx(2 * 2 / 7)
    assert rouge_l("", "x") == 0.0
    assert rouge_l("die katze schläft", "die katze schläft") == 1.0
    assert rouge_l("猫 座る", "猫 座る") == 1.0


def test_chrf_is_sacrebleu_s_from_0_to_1() -> None:
    assert chrf("the cat", "the cat") == pytest.approx(1.0)
    assert 0 < chrf("the cap", "the cat") < 1
    assert chrf("", "the cat") == 0.0


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("so 3 + 4 = 7\n#### 1,234", 1234),
        ("The answer is: -2.5 metres, of 9", -2.5),
        ("first 3 then 4", 4),
        ("$1,000,000", 1e6),
        ("it is −3", -3),
        ("none", None),
        ("v2beta", None),
        ("1e3", 1000),
        ("\\boxed{12}", 12),
        (".5", 0.5),
        ("it costs -.25 or so", -0.25),
        ("wait...5", None),
    ],
)
def test_the_number_a_text_answers_with(text: str, number: float | None) -> None:
    assert number_in(text) == number


def test_numbers_match_by_value() -> None:
    assert numeric_match("I think it is 18.0", "work #### 18") == 1.0
    assert numeric_match("19", "18") == 0.0
    assert numeric_match("no idea", "18") == 0.0


def test_json_by_its_fields() -> None:
    right = '{"name": "Ada", "tags": ["x", "y"], "age": 36}'
    assert json_valid('```json\n{"a": 1}\n```') == 1.0 and json_valid("{a: 1}") == 0.0
    assert json_fields(right, right) == 1.0
    assert json_fields('{"name": " ada", "tags": ["x"], "age": 36.0, "more": 1}', right) == pytest.approx(3 / 5)
    assert json_fields("not json", right) == 0.0
    assert json_fields('{"ok": 1}', '{"ok": true}') == 0.0
    assert json_valid("[" * 100_000) == 0.0


def test_tool_calls_in_every_spelling() -> None:
    wanted = [("weather", {"city": "Bern", "days": 2})]
    for text in (
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern", "days": 2}}\n</tool_call>',
        '[{"function": {"name": "weather", "arguments": "{\\"city\\": \\"Bern\\", \\"days\\": 2}"}}]',
        '```json\n{"name": "weather", "parameters": {"city": "Bern", "days": 2}}\n```',
    ):
        assert calls_in(text) == wanted
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bern"}}}
    row = Row(prompt="?", messages=({"role": "user", "content": "?"}, {"role": "assistant", "content": "",
                                                                      "tool_calls": [call]}))  # fmt: skip
    assert tool_call_match('{"name": "weather", "arguments": {"city": "bern"}}', row) == 1.0
    assert tool_call_match('{"name": "weather", "arguments": {"city": "Bern", "days": 1}}', row) == 0.0
    assert tool_call_match("Sunny, I guess", row) == 0.0
    twice = '[{"name": "weather", "arguments": {"city": "Bern"}}, {"name": "weather", "arguments": {"city": "Bern"}}]'
    assert tool_call_match(twice, row) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "P3", "age": 3}',
        '{"name": "P3"}',
        '[{"name": "P3", "parameters": {"a": 1}, "unit": "s"}]',
        '{"type": "function", "function": {"name": "f", "description": "A tool.", "parameters": {}}}',
    ],
)
def test_objects_with_a_name_are_json_and_no_calls(text: str) -> None:
    assert names([Row("?", text)] * 3)[0] == "json_fields"
    tagged = f"<tool_call>{text}</tool_call>"
    assert names([Row("?", tagged)] * 3)[0] == "tool_call_match" and calls_in(tagged)[0][0] in ("P3", "f")


@given(st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_no_answer_makes_a_metric_raise(answer: str) -> None:
    rows = {
        "exact_match": Row("?", "x"), "numeric_match": Row("?", "5"), "rouge_l": Row("?", "x y"),
        "chrf": Row("?", "x y"), "json_valid": Row("?", "{}"), "json_fields": Row("?", '{"a": 1}'),
        "tool_call_match": Row("?", '{"name": "f", "arguments": {}}'),
    }  # fmt: skip
    for name, row in rows.items():
        metric = named(name)
        assert isinstance(metric, Metric)
        (score,) = metric.scores([answer], [row])
        assert not isinstance(score, Fault) and 0 <= score <= 1, (name, score)


def own(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(text)
    return path


def test_a_function_of_one_s_own_that_raises_on_a_row_names_it_and_the_rest_counts(tmp_path: Path) -> None:
    path = own(
        tmp_path,
        "def near(answer, expected):\n    '''How near the number is.'''\n"
        "    return 1 / (1 + abs(float(answer) - float(expected)))\n",
    )
    metric = named(f"{path}:near")
    assert isinstance(metric, Metric) and metric.how == "How near the number is."
    rows = [Row("?", "1", place=f"rows.csv:{n}") for n in (2, 3, 4)]
    first, second, third = metric.scores(["1", "one", "2"], rows)
    assert (first, third) == (1.0, 0.5)
    assert isinstance(second, Fault) and second.place == "rows.csv:3" and "ValueError" in second.reason


@pytest.mark.parametrize(
    ("text", "name", "error"),
    [
        ("def f(answer, gold): return 1", "f", UsageError),
        ("def g(answer): return 1", "f", NotFound),
        ("import nothing_of_that_name", "f", InputError),
    ],
)
def test_a_function_that_cannot_be_used_is_told_before_anything_runs(
    tmp_path: Path, text: str, name: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        named(f"{own(tmp_path, text)}:{name}")


def test_numbers_that_are_none_are_faults(tmp_path: Path) -> None:
    metric = named(f"{own(tmp_path, 'def f(answer): return float(answer)')}:f")
    assert isinstance(metric, Metric)
    assert all(isinstance(score, Fault) for score in metric.scores(["nan", "inf"], [Row("?", "1")] * 2))


def test_unknown_names_are_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="exact_match"):
        named("exact_mach")
    with pytest.raises(UsageError, match="--judge"):
        named("judge")


def names(rows: list[Row], labels: list[str] | None = None) -> list[str]:
    return [metric if isinstance(metric, str) else metric.name for metric in detect(rows, labels)]


def test_the_metrics_follow_from_the_rows() -> None:
    call = json.dumps({"name": "f", "arguments": {"a": 1}})
    assert names([Row("?", "a"), Row("?", "b")], ["a", "b"])[:2] == ["accuracy", "macro_f1"]
    assert names([Row("?", "12"), Row("?", "so #### 4")])[0] == "numeric_match"
    assert names([Row("?", ".5"), Row("?", "0.25")])[0] == "numeric_match"
    assert names([Row("?", '{"a": 1}')] * 3)[:2] == ["json_fields", "json_valid"]
    assert names([Row("?", call)] * 3)[0] == "tool_call_match"
    assert names([Row("?", "return 1", tests="assert f() == 1")])[0] == "pass@1"
    assert names([Row("?", "a long answer of many words indeed")])[0] == "loss"
    assert "rouge_l" in names([Row("?", "a long answer of many words indeed")])
    assert names([Row(text="just text")]) == ["loss"]


@given(st.integers(1, 30), st.data())
@settings(deadline=None)
def test_pass_at_k_is_the_share_of_draws_that_hold_a_passing_program(of: int, data: Any) -> None:
    passed, k = data.draw(st.integers(0, of)), data.draw(st.integers(1, of))
    value = pass_at_k(passed, of, k)
    assert 0 <= value <= 1
    miss = 1.0
    for drawn in range(k):  # one after another, without putting back
        miss *= max(0, of - passed - drawn) / (of - drawn)
    assert value == pytest.approx(1 - miss)


def test_a_program_goes_on_from_its_prompt_or_stands_alone() -> None:
    row = Row("import math\n\ndef area(r):\n    '''Of a circle.'''\n", "", tests="assert area(1) > 3")
    going_on = program_of("    return math.pi * r * r\n\ndef other(): boom", row)
    assert going_on.startswith(row.prompt) and "boom" not in going_on
    alone = program_of("Sure:\n```python\ndef area(r):\n    return 3.2\n```\nDone.", row)
    assert alone.startswith("import math\ndef area") and "Sure" not in alone and "Done" not in alone
    assert alone.rstrip().endswith("assert area(1) > 3")


def test_json_that_holds_a_fence_in_a_text_is_json() -> None:
    assert json_valid('{"a": "use ```x``` here"}') == 1.0
    assert json_valid('Here:\n```json\n{"a": 1}\n```') == 1.0 and json_valid("```json\n{a: 1}\n```") == 0.0


def test_a_function_of_one_s_own_is_given_what_it_names_also_where_it_has_a_default(tmp_path: Path) -> None:
    path = own(tmp_path, "def close(answer, expected='', digits=2):\n    return answer == expected and digits == 2\n")
    metric = named(f"{path}:close")
    assert isinstance(metric, Metric) and metric.scores(["a"], [Row("?", "a")]) == [1.0]


@pytest.mark.parametrize("info", ["Python", "python3", "py title=a.py", ""])
def test_code_is_taken_from_a_fence_of_any_spelling(info: str) -> None:
    row = Row("def area(r):\n", "", tests="assert area(1) > 3")
    answer = f"Run this:\n```bash\npip list\n```\nand\n```{info}\ndef area(r):\n    return 3.2\n```\nDone."
    if not info:
        answer = answer.partition("and\n")[2]
    assert program_of(answer, row).startswith("def area(r):\n    return 3.2\n\n")


def test_of_a_prompt_that_tells_only_its_imports_are_taken() -> None:
    prose = "Write f, which takes the largest\nfrom a list of numbers.\nimport nothing else, please\n"
    code = "import math\nfrom typing import (\n    List,\n)\n"
    row = Row(prose + code, "", tests="assert f([1]) == 1")
    assert program_of("def f(x): return max(x)", row).startswith(code + "def f(x)")
