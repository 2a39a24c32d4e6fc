"""Examples in the prompt, norms, forgetting and metrics by written answers, on a two-layer model."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

import training
from allmend.adapters import LoraConfig, attach
from allmend.data import PLAIN, Row, Template, encode, encode_prompt, load, overlap
from allmend.errors import InputError, NotFound, UsageError
from allmend.nouns.verdict import Verdict
from allmend.verdicts import norms
from allmend.verdicts.compare import comparison
from allmend.verdicts.few_shot import choose_shots, with_shots
from allmend.verdicts.forgetting import General, Probe, probes, right
from allmend.verdicts.judge import Question, answers_of, judge, verdict_from
from allmend.verdicts.lengths import limit_of, rooms
from allmend.verdicts.measure import prompt_ids, row_losses, shot_losses
from allmend.verdicts.metrics import named
from allmend.verdicts.metrics.judge_model import JudgeModel
from allmend.verdicts.page import page

LABELS = ["cat", "dog"]


def rows(count: int, places: str = "rows.csv") -> list[Row]:
    return [Row(f"{LABELS[n % 2]} {n}?", LABELS[n % 2], place=f"{places}:{n + 2}") for n in range(count)]


def question(**more: Any) -> Question:
    values: dict[str, Any] = {"rows": rows(40), "labels": LABELS, "template": PLAIN, "adapter": "a", "data": "rows.csv"}
    return Question(**(values | {"free_text_rows": 4, "longest_answer": 8} | more))


def shaken(loaded: Any, size: float) -> Any:
    lora = attach(loaded.model, LoraConfig(rank=2), seed=1)
    numbers = torch.Generator().manual_seed(0)
    for layer in lora.layers.values():
        layer.lora_b.data.copy_(torch.randn(layer.lora_b.shape, generator=numbers) * size)
    return lora


def test_shots_show_every_label_and_come_from_training_rows() -> None:
    train = rows(100, "train.csv")
    shots = choose_shots(train, 4, seed=3)
    assert sorted(shot.completion for shot in shots) == ["cat", "cat", "dog", "dog"]
    assert shots == choose_shots(train, 4, seed=3) and shots != choose_shots(train, 4, seed=4)
    assert choose_shots(train, 0) == [] and choose_shots([], 4) == []
    assert len(choose_shots(train[:3], 8)) == 3


def test_shots_are_earlier_turns_after_the_system_message() -> None:
    talk = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    shot = Row(messages=({"role": "system", "content": "other"}, {"role": "user", "content": "a"},
                         {"role": "assistant", "content": "b"}))  # fmt: skip
    assert [m["content"] for m in with_shots(talk, [shot])] == ["s", "a", "b", "q"]
    loaded = training.loaded()
    row, shown = rows(1)[0], rows(3)[1:]
    ids = prompt_ids(loaded, row, PLAIN, room=8, shots=shown)
    text = loaded.tokenizer.decode(ids)
    assert text.index(shown[0].prompt) < text.index(shown[1].prompt) < text.index(row.prompt)
    assert ids[-5:] == encode_prompt(row.as_messages()[:-1], loaded.tokenizer, PLAIN)[-5:]


def test_the_loss_with_no_shots_is_the_plain_loss() -> None:
    loaded = training.loaded()
    assert shot_losses(loaded, rows(4), PLAIN, ()) == pytest.approx(row_losses(loaded, rows(4), PLAIN), rel=1e-4)


def test_the_untuned_model_with_examples_is_a_third_contestant() -> None:
    loaded = training.loaded()
    verdict = judge(loaded, shaken(loaded, 0.3), question(shots=tuple(rows(4, "train.csv"))))
    assert verdict.few_shot == 4 and verdict.few_shot_words is not None
    for measure in verdict.measures:
        assert measure.few_shot is not None and measure.few_shot_rows, measure.name
        assert measure.over_few_shot is not None
    main = verdict.main
    assert main.over_few_shot == pytest.approx(main.tuned - (main.few_shot or 0), abs=1e-9)
    assert Verdict.from_json(verdict.to_json()) == verdict


def test_examples_that_do_not_fit_are_left_out_and_that_is_said() -> None:
    loaded = training.loaded()
    loaded.context = 48
    verdict = judge(loaded, shaken(loaded, 0.3), question(shots=tuple(rows(8, "train.csv"))))
    assert verdict.few_shot == 0 and any("do not fit" in note for note in verdict.notes)


def test_a_written_metric_carries_the_words_when_it_is_asked_for_first(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(
        "def longer(answer, prompt):\n    if '7?' in prompt: raise ValueError('seven')\n    return len(answer)\n"
    )
    loaded = training.loaded()
    metric = named(f"{tmp_path / 'm.py'}:longer")
    verdict = judge(loaded, shaken(loaded, 0.5), question(metrics=(metric, "accuracy"), free_text_rows=14))
    assert verdict.metric == "longer" and verdict.main.rows + verdict.main.failed == 40
    assert verdict.main.failed == 4 and "rows.csv:" in verdict.main.faults[0] and "seven" in verdict.main.faults[0]
    assert [measure.name for measure in verdict.measures] == ["longer", "accuracy", "loss"]


def test_a_metric_without_a_single_number_is_told(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("def bad(answer): raise ValueError('always')\n")
    loaded = training.loaded()
    with pytest.raises(InputError, match="always"):
        judge(loaded, shaken(loaded, 0.5), question(metrics=(named(f"{tmp_path / 'm.py'}:bad"),)))
    with pytest.raises(InputError, match="gave no number"):
        judge(loaded, shaken(loaded, 0.5), question(labels=None, metrics=("accuracy",)))


def test_too_few_rows_for_any_conclusion_say_how_many_would_do() -> None:
    loaded = training.loaded()
    verdict = judge(loaded, shaken(loaded, 0.5), question(rows=rows(4)))
    (note,) = [note for note in verdict.notes if "too few" in note]
    assert "4 held-out rows" in note and "6 is the least" in note
    assert verdict.words == "not shown to be better"


def test_labels_that_are_never_answered_are_named() -> None:
    loaded = training.loaded()
    asked = question()
    tuned, base = answers_of(loaded, asked), answers_of(loaded, asked)
    tuned.labels = ["cat"] * 40
    verdict = verdict_from("tiny", asked, base, tuned)
    assert verdict.never_said["tuned"] == ["dog"]
    assert any("never answers 'dog'" in note for note in verdict.notes)


def test_f1_of_a_rare_label_hands_over_to_accuracy_and_that_is_said() -> None:
    loaded = training.loaded()
    some = [*(Row(f"cat {n}?", "cat", place=f"r:{n}") for n in range(38)), *rows(4)[1::2]]
    asked = question(rows=some, metrics=("macro_f1", "loss"))
    base, tuned = answers_of(loaded, asked), answers_of(loaded, asked)
    tuned.numbers["loss"] = {place: loss - 1 - place / 90 for place, loss in base.numbers["loss"].items()}
    verdict = verdict_from("tiny", asked, base, tuned)
    assert [measure.name for measure in verdict.measures] == ["accuracy", "macro_f1", "loss"]
    assert verdict.metric == "accuracy" and verdict.words == "not shown to be better"
    assert any("macro_f1 has no interval" in note and "rest on accuracy" in note for note in verdict.notes)
    enough = verdict_from("tiny", question(metrics=("macro_f1",)), *[answers_of(loaded, question())] * 2)
    assert enough.metric == "macro_f1" and not any("no interval" in note for note in enough.notes)


def test_answers_at_a_temperature_depend_on_the_seed_alone() -> None:
    loaded = training.loaded()
    asked = question(temperature=1.0, labels=None, metrics=(named("exact_match"), "loss"))
    first, second = answers_of(loaded, asked), answers_of(loaded, asked)
    assert first.texts == second.texts
    assert (
        answers_of(loaded, question(temperature=1.0, labels=None, metrics=asked.metrics, seed=9)).texts != first.texts
    )


NORMS = """
[[must]]
name = "says something"
prompts = ["Hello?", "Who are you?"]
pattern = "."

[[must_not]]
name = "never says anything"
prompt = "Hello?"
pattern = "."

[[must_not]]
name = "no long answers"
on = "held-out"
classifier = "mine.py:is_long"
"""


def test_norms_are_asked_of_both_models_and_broken_answers_are_shown(tmp_path: Path) -> None:
    (tmp_path / "norms.toml").write_text(NORMS)
    (tmp_path / "mine.py").write_text("def is_long(answer): return len(answer) > 10_000\n")
    read = norms.read(tmp_path / "norms.toml")
    loaded = training.loaded()
    verdict = judge(loaded, shaken(loaded, 0.5), question(norms=read))
    assert verdict.norms is not None
    says, silent, short = verdict.norms.results
    assert (says.kind, says.asked, says.tuned_held, says.holds) == ("must", 2, 2, True)
    assert (silent.kind, silent.asked, silent.tuned_held, silent.holds) == ("must_not", 1, 0, False)
    assert silent.broken[0].prompt == "Hello?" and silent.broken[0].tuned
    assert (short.asked, short.holds) == (4, True)
    assert [result.name for result in verdict.norms.broken] == ["never says anything"]
    assert verdict.norms.sha256 == read.sha256 and len(read.sha256) == 64


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[must", "not TOML"),
        ("", "no norms"),
        ("[[must]]\nname = 'x'\nprompt = 'y'\n", "exactly one of"),
        ("[[must]]\nname = 'x'\npattern = 'y'\n", "asks nothing"),
        ("[[must]]\nname = 'x'\nprompt = 'y'\npattern = '('\n", "no regular expression"),
        ("[[must]]\nname = 'x'\nprompt = 'y'\npatern = 'z'\n", "pattern"),
        ("[[must]]\nname = 'x'\nprompt = 'y'\nclassifier = 'words'\n", "file.py:function"),
    ],
)
def test_what_is_wrong_with_a_file_of_norms_is_said_at_its_case(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "n.toml").write_text(text)
    with pytest.raises(InputError, match=words):
        norms.read(tmp_path / "n.toml")


def test_norms_that_need_a_judge_or_a_file_say_so_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "n.toml").write_text("[[must]]\nname = 'kind'\nprompt = 'Hi'\njudge = 'It is kind.'\n")
    with pytest.raises(UsageError, match="needs a judge"):
        norms.read(tmp_path / "n.toml")
    assert norms.read(tmp_path / "n.toml", JudgeModel("http://127.0.0.1:1/v1", "m")).cases
    with pytest.raises(NotFound):
        norms.read(tmp_path / "none.toml")


def test_a_judge_that_is_not_there_leaves_norms_undecided_not_held(tmp_path: Path) -> None:
    (tmp_path / "n.toml").write_text("[[must]]\nname = 'kind'\nprompt = 'Hi'\njudge = 'It is kind.'\n")
    read = norms.read(tmp_path / "n.toml", JudgeModel("http://127.0.0.1:1/v1", "m"))
    loaded = training.loaded()
    verdict = judge(loaded, shaken(loaded, 0.1), question(norms=read))
    assert verdict.norms is not None
    (result,) = verdict.norms.results
    assert (result.undecided, result.tuned_held, result.holds) == (1, 0, False)


GENERAL = General(tuple(f"some general text number {n} of many" for n in range(20)), probes()[:6], ("made up",))


def test_a_model_that_was_not_changed_has_lost_nothing() -> None:
    loaded = training.loaded()
    verdict = judge(loaded, attach(loaded.model, LoraConfig(rank=2)), question(general=GENERAL))
    assert verdict.forgetting is not None and verdict.forgetting.words == "nothing shown to be lost"
    assert {measure.name: measure.difference for measure in verdict.forgetting.measures} == {
        "general_loss": 0,
        "probes": 0,
    }
    assert not any("Forgetting" in note for note in verdict.notes)


def test_a_model_that_was_broken_has_lost_something() -> None:
    loaded = training.loaded()
    lora = shaken(loaded, 3.0)
    asked = question(general=GENERAL)
    with lora.disabled():
        base = answers_of(loaded, asked)
    tuned = answers_of(loaded, asked)
    tuned.general_losses = [value + 1 + n / 50 for n, value in enumerate(base.general_losses)]
    base.probe_texts = [probe.accept[0] for probe in GENERAL.probes]
    found = verdict_from("tiny", asked, base, tuned).forgetting
    assert found is not None and found.words == "some was lost"
    assert found.lost[0].expected == GENERAL.probes[0].accept[0]


def test_probes_are_right_when_an_accepted_word_stands_in_the_answer() -> None:
    asked = [Probe("Capital?", ("Paris",)), Probe("Legs?", ("8", "eight")), Probe("Where?", ("South America",))]
    assert right(asked, ["It is paris.", "Eight!", "in south   america"]) == [1.0, 1.0, 1.0]
    assert right(asked, ["Parisian", "18", "America"]) == [0.0, 0.0, 0.0]
    assert len({probe.ask for probe in probes()}) == len(probes()) >= 40


def test_many_runs_are_compared_with_their_number_in_mind() -> None:
    loaded = training.loaded()
    asked = question(rows=rows(60))
    base = answers_of(loaded, asked)
    models = [("untuned", base)]
    for number in range(3):
        answers = answers_of(loaded, asked)
        for place in range(60):
            # Run 0 is right everywhere, the others by a coin that fell the same way.
            answers.numbers["accuracy"][place] = float(number == 0 or place % 2)
        models.append((f"run-{number}", answers))
    base.numbers["accuracy"] = {place: float(place % 2) for place in range(60)}
    verdicts = [verdict_from("tiny", asked, base, answers) for _, answers in models[1:]]
    found = comparison(asked, models, verdicts)
    words = {(pair.first, pair.second): pair.words for pair in found.pairs}
    assert words[("untuned", "run-0")] == "better" and words[("run-0", "run-1")] == "worse"
    assert words[("run-1", "run-2")] == "not shown to be better"
    assert all(pair.adjusted_p_value >= pair.p_value for pair in found.pairs) and len(found.pairs) == 6
    assert "run-0" in page(found)


def test_a_page_holds_no_script_and_escapes_what_models_write() -> None:
    loaded = training.loaded()
    asked = question(data="<script>alert(1)</script>.csv")
    base, tuned = answers_of(loaded, asked), answers_of(loaded, asked)
    tuned.label_at = dict.fromkeys(tuned.label_at, "<img src=x onerror=alert(1)>")
    tuned.numbers["accuracy"] = {place: 1 - value for place, value in base.numbers["accuracy"].items()}
    html = page(verdict_from("tiny", asked, base, tuned))
    assert "<script" not in html and "<img" not in html and "&lt;img" in html
    assert "default-src 'none'" in html


def test_held_out_rows_repeat_nothing_of_training_or_selection_not_even_nearly(tmp_path: Path) -> None:
    numbers, lines = random.Random(0), []
    for number in range(120):
        if number % 3 == 0:  # a story in three versions that differ in a word
            words = ["".join(numbers.choices("abcdefghij", k=5)) for _ in range(30)]
        told = [f"story{number // 3}", *words[:-1], words[-1] if number % 3 else "other"]
        lines.append(f'"{" ".join(told)}",{LABELS[number % 2]}')
    (tmp_path / "r.csv").write_text("prompt,completion\n" + "\n".join(lines))
    data = load(tmp_path / "r.csv")
    assert data.held_out and data.select
    assert overlap(data.train, data.held_out) == [] and overlap(data.select, data.held_out) == []
    stories = [{row.prompt.split()[0] for row in side} for side in (data.train, data.select, data.held_out)]
    assert not stories[0] & stories[2] and not stories[1] & stories[2]


@pytest.mark.parametrize(
    ("returned", "says"),
    [("None", None), ("'yes'", None), ("float('nan')", None), ("[1]", None), ("True", True), ("0.2", False)],
)
def test_what_a_classifier_returns_that_is_no_number_leaves_its_norm_undecided(
    tmp_path: Path, returned: str, says: bool | None
) -> None:
    (tmp_path / "mine.py").write_text(f"def f(answer): return {returned}\n")
    (tmp_path / "n.toml").write_text("[[must]]\nname = 'x'\nprompt = 'Hi'\nclassifier = 'mine.py:f'\n")
    read = norms.read(tmp_path / "n.toml")
    assert norms.decided(read, read.cases[0][1], ["Hi"], ["Hello."]) == [says]


CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Bern", "days": 2}}}
CALLS_TOOLS = Template(
    "calls",
    "{% for m in messages %}{{ m.role }}: {% if m.tool_calls %}<tool_call>{{ m.tool_calls[0].function | tojson }}"
    "</tool_call>{% else %}{{ m.content }}{% endif %}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}",
)


def test_an_answer_may_be_as_long_as_the_expected_one_calls_of_tools_included() -> None:
    loaded = training.loaded()
    talk = ({"role": "user", "content": "Rain?"}, {"role": "assistant", "content": None, "tool_calls": [CALL]})
    row = Row(prompt="user: Rain?", messages=talk, place="t:1")
    asked = question(rows=[row] * 8, labels=None, template=CALLS_TOOLS, longest_answer=None)
    assert [getattr(metric, "name", metric) for metric in asked.metrics] == ["tool_call_match", "loss"]
    rendered = CALLS_TOOLS.parts(row, eos_token=loaded.tokenizer.eos_token)[1]
    taken = len(loaded.tokenizer(rendered, add_special_tokens=False)["input_ids"])
    assert taken <= limit_of(loaded, asked) <= taken + taken // 8 + 4


def test_long_answers_are_written_to_their_end_and_leave_long_prompts_whole() -> None:
    loaded = training.loaded()
    long, asks = Row("a?", "b " * 150, place="r:1"), Row("c " * 190, "d", place="r:2")
    asked = question(rows=[long, asks], labels=None, metrics=(named("exact_match"),), longest_answer=None)
    limit = limit_of(loaded, asked)
    assert len(encode(long, loaded.tokenizer, PLAIN)) < limit < loaded.context
    free = rooms(loaded, asked.rows, asked, limit)
    whole = encode_prompt(asks.as_messages()[:-1], loaded.tokenizer, PLAIN)
    assert len(whole) + limit > loaded.context
    assert prompt_ids(loaded, asks, PLAIN, room=free[1]) == whole
    tests = [Row("f", "return 1", tests="assert f()")] * 8
    assert limit_of(loaded, question(rows=tests, labels=None, longest_answer=None)) == loaded.context - 1
    loaded.context = 4096
    assert limit_of(loaded, question(rows=tests, labels=None, longest_answer=None)) == 512


def test_answers_that_were_cut_at_the_limit_are_counted_and_that_is_said() -> None:
    loaded = training.loaded()
    verdict = judge(loaded, shaken(loaded, 0.5), question(longest_answer=1))
    (note,) = [note for note in verdict.notes if "limit of 1 tokens" in note]
    assert "of 4 untuned" in note and "of 4 tuned" in note and "--longest-answer" in note
