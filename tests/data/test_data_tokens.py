from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmend.data import PLAIN, Row, Template, encode, encode_prompt, encode_rows, of_tokenizer
from allmend.errors import DoesNotFit, InputError


def learned(tokens, tokenizer):
    return tokenizer.decode([number for number, mark in zip(tokens.ids, tokens.mask, strict=True) if mark])


def test_only_the_completion_and_its_end_are_learned(with_bos):
    tokens = encode(Row("What?", "So.", place="f:1"), with_bos, PLAIN)
    assert with_bos.decode(tokens.ids) == "<bos>User: What?\nAssistant: So.<eos>"
    assert learned(tokens, with_bos) == " So.<eos>"
    assert tokens.labels_from == len(tokens) - 5
    assert tokens.learned == 5
    assert (tokens.place, tokens.cut) == ("f:1", 0)


def test_every_answer_of_a_conversation_is_learned(chatting):
    talk = [("system", "S"), ("user", "Q1"), ("assistant", "A1"), ("user", "Q2"), ("assistant", "A2")]
    row = Row(completion="A2", messages=tuple({"role": role, "content": text} for role, text in talk))
    own = of_tokenizer(chatting)
    tokens = encode(row, chatting, own)
    assert learned(tokens, chatting) == "A1<|end|>A2<|end|>"
    rendered = own.render(row.messages, eos_token="<|end|>")
    assert chatting.decode(tokens.ids) == rendered.rstrip()


def test_tools_stand_in_what_is_trained_on_as_in_what_is_asked(chatting):
    tool = {"type": "function", "function": {"name": "weather"}}
    own = Template("tools", "{% if tools %}{{ tools[0].function.name }}{% endif %}" + PLAIN.text)
    talk = ({"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "yes"})
    tokens = encode(Row("user: Rain?", "yes", talk, tools=(tool,)), chatting, own)
    assert chatting.decode(tokens.ids).startswith("weather")
    asked = encode_prompt(talk[:1], chatting, own, tools=(tool,))
    assert tokens.ids[: len(asked)] == asked and tokens.labels_from == len(asked)


def test_an_answer_that_the_template_rewrites_later_is_not_learned(chatting):
    text = (
        "{% for m in messages %}<|begin|>{{ m.role }}\n"
        "{% if m.role == 'assistant' and not loop.last %}(gone){% else %}{{ m.content }}{% endif %}"
        "<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|begin|>assistant\n{% endif %}"
    )
    talk = [("user", "Q1"), ("assistant", "A1"), ("user", "Q2"), ("assistant", "A2")]
    row = Row(completion="A2", messages=tuple({"role": role, "content": said} for role, said in talk))
    assert learned(encode(row, chatting, Template("t", text)), chatting) == "A2<|end|>"


def test_the_beginning_mark_stands_once_even_if_the_template_writes_it(with_bos):
    text = "{{ bos_token }}" + PLAIN.text
    ids = encode(Row("a", "b"), with_bos, Template("t", text)).ids
    assert ids == encode(Row("a", "b"), with_bos, PLAIN).ids
    assert ids.count(with_bos.bos_token_id) == 1


def test_a_template_that_ends_turns_itself_gets_no_second_end(chatting, with_bos):
    ids = encode(Row("a", "b"), chatting, of_tokenizer(chatting)).ids
    assert ids.count(chatting.eos_token_id) == 2, "one after the question, one after the answer"
    assert ids[-1] == chatting.eos_token_id
    bare = Template("t", "{% for m in messages %}{{ m.content }}|{% endfor %}")
    assert encode(Row("a", "b"), with_bos, bare).ids[-1] == with_bos.eos_token_id


said = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="<"), min_size=1, max_size=30)


@settings(max_examples=80, deadline=None)
@given(said, said.filter(lambda text: text.strip()))
def test_the_given_part_is_exactly_the_prompt_at_answering_time(with_bos, chatting, prompt, completion):
    row = Row(prompt, completion)
    for tokenizer in (with_bos, chatting):
        own = of_tokenizer(tokenizer)
        tokens = encode(row, tokenizer, own)
        assert tokens.ids[: tokens.labels_from] == encode_prompt(row.as_messages()[:-1], tokenizer, own)
        assert tokens.mask == bytes(tokens.labels_from) + b"\1" * tokens.learned


def test_a_long_row_loses_the_start_of_its_prompt_and_says_so(with_bos):
    row = Row("x" * 100 + "THE END", "answer", place="f:9")
    whole = encode(row, with_bos, PLAIN)
    tokens = encode(row, with_bos, PLAIN, context=40)
    assert len(tokens) == 40
    assert tokens.cut == len(whole) - 40
    assert tokens.ids[0] == with_bos.bos_token_id
    assert with_bos.decode(tokens.ids).endswith("THE END\nAssistant: answer<eos>")
    assert tokens.learned == whole.learned


def test_an_answer_is_never_cut(with_bos):
    row = Row("short", "y" * 50, place="f.csv:4")
    with pytest.raises(DoesNotFit) as caught:
        encode(row, with_bos, PLAIN, context=40)
    assert caught.value.where == "f.csv:4"
    assert encode(row, with_bos, PLAIN, context=53).learned == 52


def test_a_row_with_nothing_to_learn_is_named(with_bos):
    with pytest.raises(InputError) as caught:
        encode(Row("a", " ", place="f.csv:2"), with_bos, PLAIN)
    assert caught.value.where == "f.csv:2"


def test_a_template_without_answers_is_named_as_the_cause(with_bos):
    questions = Template(
        "mine", "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
    )
    with pytest.raises(InputError, match="leaves the row's answer out") as caught:
        encode(Row("question", "answer", place="rows:7"), with_bos, questions)
    assert caught.value.where == "rows:7" and "--template" in caught.value.hint


def test_a_long_text_becomes_windows_that_lose_nothing(with_bos):
    text = "".join(f"{number} " for number in range(200))
    windows = list(encode_rows([Row(text=text)], with_bos, PLAIN, context=64))
    assert all(len(window) <= 64 and window.ids[0] == with_bos.bos_token_id for window in windows)
    assert all(window.learned == len(window) - 1 for window in windows)
    joined = [number for window in windows for number in window.ids[1:]]
    assert with_bos.decode(joined) == text + "<eos>"


def test_many_rows_keep_their_order(with_bos):
    rows = [Row(f"question {number}", f"{number}", place=f"f:{number}") for number in range(1200)]
    tokens = list(encode_rows(rows, with_bos, PLAIN))
    assert [one.place for one in tokens] == [row.place for row in rows]
    assert learned(tokens[777], with_bos) == " 777<eos>"


def test_a_tokenizer_without_an_end_is_refused(with_bos):
    class Endless:
        eos_token_id = None

    with pytest.raises(InputError, match="end-of-text"):
        encode(Row("a", "b"), Endless(), PLAIN)
