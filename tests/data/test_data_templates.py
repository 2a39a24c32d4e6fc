from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmend.data import PLAIN, Row, Template, of_tokenizer, read_template, template
from allmend.errors import InputError, UsageError

TURNS = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set first = messages[0]['content'] | trim + '\\n\\n' %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set first = '' %}
    {%- set rest = messages %}
{%- endif %}
{%- for message in rest %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('user and assistant must take turns') }}
    {%- endif %}
    {{- '<turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}
    {{- (first if loop.first else '') + message['content'] | trim }}
    {{- '</turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<turn>model\\n' }}
{%- endif %}
"""

TOOLS = """\
{% set found = namespace(last=-1) %}
{% if tools %}
tools:
{% for tool in tools %}
{{ tool | tojson(indent=2) }}
{% endfor %}
{% endif %}
{% for message in messages %}
    {% if message.role == 'user' %}{% set found.last = loop.index0 %}{% endif %}
{% endfor %}
{% for message in messages %}
  {% if message.role == 'system' and loop.index0 > 0 %}{% continue %}{% endif %}
[{{ message.role }}]{% if message.tool_calls is defined and message.tool_calls %}
{% for call in message.tool_calls %}
<call>{{ call.function | tojson }}</call>
{% endfor %}
{% elif message.role == 'assistant' %}
{% generation %}{{ message.content }}{{ eos_token }}
{% endgeneration %}
{% elif message.content is string %}
{{ message.content }}
{% else %}
{% for part in message.content %}{{ part.text }}{% endfor %}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
[assistant]{{ ' after ' ~ found.last }}
{% endif %}
"""

THINKING = """\
{% for message in messages %}
{% if message.reasoning_content is defined %}<think>{{ message.reasoning_content }}</think>{% endif %}
{{ message.role | upper }}: {{ message.content }}
{% if loop.index0 == 3 %}{% break %}{% endif %}
{% endfor %}
{{ dict(a=1, b='x') | tojson }} {{ {'z': 'é<&', 'a': [1, 2.5, none, true]} | tojson(sort_keys=true) }}
{{ extra if extra is defined else 'none' }}
"""

CALL = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]}
TALKS = [
    [{"role": "user", "content": " Hello <there> & é "}],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?\n"}],
    [{"role": "system", "content": "Be short. "}, {"role": "user", "content": "Hi"}],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "a", "reasoning": "why"}],
    [
        {"role": "user", "content": "1 + 1"},
        CALL,
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "2"},
    ],
]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


def both(tokenizer, text, messages, **options):
    """(ours, transformers'), each a text or the name of a failure."""
    names = {"bos_token": tokenizer.bos_token or "", "eos_token": tokenizer.eos_token}
    try:
        ours = Template("t", text).render(messages, **names, **options)
    except InputError:
        ours = InputError
    import jinja2

    try:
        theirs = tokenizer.apply_chat_template(messages, chat_template=text, tokenize=False, **options)
    except (jinja2.TemplateError, TypeError):
        theirs = InputError
    return ours, theirs


@pytest.mark.parametrize("text", [TURNS, TOOLS, THINKING, PLAIN.text], ids=["turns", "tools", "thinking", "plain"])
@pytest.mark.parametrize("messages", TALKS, ids=range(len(TALKS)))
@pytest.mark.parametrize("options", [{}, {"add_generation_prompt": True}, {"tools": [TOOL]}, {"extra": "more"}])
def test_renders_as_transformers_does(with_bos, text, messages, options):
    ours, theirs = both(with_bos, text, messages, **options)
    assert ours == theirs


said = st.text(st.characters(blacklist_categories=["Cs"]), max_size=30)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([TURNS, TOOLS, THINKING, PLAIN.text]),
    st.lists(
        st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": said}),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)  # fmt: skip
def test_renders_any_conversation_as_transformers_does(with_bos, text, messages, prompt):
    ours, theirs = both(with_bos, text, messages, add_generation_prompt=prompt)
    assert ours == theirs


def test_the_plain_template_is_what_the_docs_say():
    row = Row("Is it good?", "Yes.")
    given_part, learned = PLAIN.parts(row, eos_token="<eos>")
    assert given_part == "User: Is it good?\nAssistant:"
    assert learned == " Yes.<eos>\n"
    tool = PLAIN.render([{"role": "system", "content": "S"}, CALL, {"role": "tool", "content": "2"}])
    assert tool.startswith("System: S\nAssistant: [{")
    assert tool.endswith("\nResult: 2\n")


def test_templates_are_known_by_name_digest_and_file(tmp_path, with_bos, chatting):
    assert template("allmend-plain/1") is PLAIN
    assert of_tokenizer(with_bos) is PLAIN
    own = of_tokenizer(chatting)
    assert own.name == "model"
    assert not own.is_plain
    path = own.write(tmp_path)
    assert path.name == "chat_template.jinja"
    assert read_template(tmp_path).digest == own.digest == template(str(path)).digest
    PLAIN.write(tmp_path)
    assert read_template(tmp_path) is PLAIN
    assert [entry.name for entry in tmp_path.iterdir()] == ["chat_template.jinja"]


def test_an_unknown_template_names_the_known_ones():
    with pytest.raises(UsageError) as caught:
        template("allmend-plane/1")
    assert "'allmend-plain/1'" in caught.value.hint


def test_what_is_no_template_is_told_by_line(tmp_path):
    path = tmp_path / "chat_template.jinja"
    path.write_text("fine\n{% for %}")
    with pytest.raises(InputError) as caught:
        read_template(path)
    assert caught.value.where.endswith("chat_template.jinja:2")


@pytest.mark.parametrize(
    "text",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__ }}{{ cycler.__init__.__globals__ }}",
        "{{ messages.append(1) }}",
        "{% for i in range(1000000000) %}{% endfor %}",
        "{{ 'a' * 10000000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{{ 'aaaaaaaaaaaaaaaa' * 1000 }}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(100) }}",
        "{{ messages[0].nothing.at.all }}",
        "{{ raise_exception('no system role') }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    ],
)
def test_a_hostile_template_gets_nowhere(text, monkeypatch):
    monkeypatch.setattr("allmend.data.jinja.LONGEST_SECONDS", 0.3)
    try:
        rendered = Template("t", text).render([{"role": "user", "content": "x"}])
    except InputError:
        return
    assert "class" not in rendered
    assert "module" not in rendered


def test_a_row_whose_template_does_not_continue_its_prompt_is_named():
    odd = Template(
        "odd", "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}?{% endif %}"
    )
    with pytest.raises(InputError) as caught:
        odd.parts(Row("a", "b", place="f.csv:3"))
    assert caught.value.where == "f.csv:3"


def test_a_template_sees_plain_values_only():
    class Sneaky(dict):
        def steal(self):
            return "stolen"

    with pytest.raises(InputError):
        Template("t", "{{ messages[0].steal() }}").render([Sneaky(role="user", content="x")])
    assert json.loads(Template("t", "{{ messages | tojson }}").render([Sneaky(role="user")])) == [{"role": "user"}]
