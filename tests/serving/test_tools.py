"""Tools and formats, through the stock client."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from allmend.data.templates import Template
from allmend.serving import tools
from allmend.serving.requests import ChatRequest

HELLO: list[Any] = [{"role": "user", "content": "hi"}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"unit": {"enum": ["C", "F"]}},
            "required": ["unit"],
            "additionalProperties": False,
        },
    },
}
OTHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "other", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}},
}


class Mood(BaseModel):
    """What an answer is parsed into."""

    mood: bool
    level: int


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_tool_that_must_be_called_is_called(client: OpenAI, choice: Any) -> None:
    answer = client.chat.completions.create(
        model="yours", messages=HELLO, tools=[WEATHER], tool_choice=choice, temperature=0, max_tokens=200
    )
    (call,) = answer.choices[0].message.tool_calls or ()
    assert answer.choices[0].finish_reason == "tool_calls" and answer.choices[0].message.content is None
    assert call.type == "function" and call.function.name == "weather"
    assert json.loads(call.function.arguments)["unit"] in ("C", "F")


def test_a_stream_brings_the_call_whole_and_no_text(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="yours", messages=HELLO, tools=[WEATHER], tool_choice="required", max_tokens=200, stream=True
    )
    chunks = [chunk for chunk in stream if chunk.choices]
    assert not "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert [call.function and call.function.name for call in calls] == ["weather"]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_the_answer_to_a_call_is_read(client: OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"unit": "C"}'}}
    messages: list[Any] = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "20"},
    ]
    answer = client.chat.completions.create(model="yours", messages=messages, tools=[WEATHER], max_tokens=4)
    assert answer.choices[0].message.role == "assistant"


def test_a_model_without_a_place_for_tools_says_so(client: OpenAI, base: str) -> None:
    with pytest.raises(openai.BadRequestError, match="no place for tools"):
        client.chat.completions.create(model=base, messages=HELLO, tools=[WEATHER])
    with pytest.raises(openai.BadRequestError, match="not among tools"):
        choice: Any = {"type": "function", "function": {"name": "gone"}}
        client.chat.completions.create(model="yours", messages=HELLO, tools=[WEATHER], tool_choice=choice)


def test_formats_are_kept_and_parsed(client: OpenAI, base: str) -> None:
    parsed = client.chat.completions.parse(
        model=base, messages=HELLO, response_format=Mood, temperature=0, logit_bias={"44": 5, "125": 20}
    )
    assert isinstance(parsed.choices[0].message.parsed, Mood)
    regex: Any = {"type": "regex", "regex": "[xyz]{3}"}
    answer = client.chat.completions.create(model=base, messages=HELLO, response_format=regex)
    assert set(answer.choices[0].message.content or "") <= set("xyz")
    impossible: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nonsense"}}}
    with pytest.raises(openai.BadRequestError, match="cannot be followed"):
        client.chat.completions.create(model=base, messages=HELLO, response_format=impossible)


def toolbox(**more: Any) -> tools.Toolbox:
    body = ChatRequest.model_validate({"model": "m", "messages": HELLO, "tools": [WEATHER, OTHER], **more})
    made = tools.of_request(body, Template("t", "{{ tools }} <tool_call>"))
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("text", "said", "names"),
    [
        ('<tool_call>\n{"name": "weather", "arguments": {"unit": "C"}}\n</tool_call>', "", ["weather"]),
        ('I look.\n<tool_call>{"name": "weather", "arguments": {}}</tool_call>', "I look.", ["weather"]),
        (
            '<tool_call>{"name": "weather", "arguments": {}}</tool_call><tool_call>{"name": "other"}</tool_call>',
            "",
            ["weather", "other"],
        ),
        ('{"name": "other", "parameters": {"a": 1}}', "", ["other"]),
        ('\n\n <tool_call>{"name": "other"}</tool_call>\n', "", ["other"]),
        (' I \n<tool_call>{"name": "other"}</tool_call> and \n', " I \n and", ["other"]),
        (" I say \n", " I say \n", []),
        ('<tool_call>{"name": "weather", "arguments": {}}', "", ["weather"]),
        ('<tool_call>{"name": "nobody"}</tool_call>', '<tool_call>{"name": "nobody"}</tool_call>', []),
        ("<tool_call>{broken</tool_call>", "<tool_call>{broken</tool_call>", []),
        ('{"name": {"first": "A"}}', '{"name": {"first": "A"}}', []),
        ('{"name": ["other"]}', '{"name": ["other"]}', []),
        ('{"name": "other", "arguments": null}', "", ["other"]),
        ('{"name": "other", "arguments": 5}', '{"name": "other", "arguments": 5}', []),
        ('{"name": "other", "arguments": "[1]"}', '{"name": "other", "arguments": "[1]"}', []),
        ('{"name": "other", "arguments": "{\\"a\\": 1}"}', "", ["other"]),
        ('{"name": "other", "arguments": {"a": "\\ud83d"}}', "", ["other"]),
        ('{"just": "json"}', '{"just": "json"}', []),
        ("plain < text", "plain < text", []),
    ],
)
def test_calls_are_told_from_text(text: str, said: str, names: list[str]) -> None:
    found, calls = toolbox().read(text)
    assert (found, [call.function.name for call in calls]) == (said, names)
    for call in calls:
        assert isinstance(json.loads(call.function.arguments), dict) and call.function.arguments.encode()
    # In a stream, whatever the pieces, the text that is shown is the text that is said.
    for size in (1, 3, 100):
        watch = tools.CallWatch()
        shown = "".join(watch.feed(text[place : place + size]) for place in range(0, len(text), size))
        assert shown == said[: len(shown)] and shown == shown.rstrip()
        assert shown + watch.rest(found) == said


def test_one_call_where_only_one_is_wanted() -> None:
    two = '<tool_call>{"name": "weather"}</tool_call><tool_call>{"name": "other"}</tool_call>'
    assert len(toolbox(parallel_tool_calls=False).read(two)[1]) == 1


@pytest.mark.parametrize("route", ["chat", "responses"])
def test_a_bug_within_a_stream_is_told_and_the_stream_ends(
    client: OpenAI, route: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Any, text: str) -> str:
        raise TypeError("a secret of the server")

    monkeypatch.setattr(tools.CallWatch, "feed", broken)
    with pytest.raises(openai.APIError, match="Something went wrong inside the server") as raised:
        if route == "chat":
            list(client.chat.completions.create(model="yours", messages=HELLO, tools=[WEATHER], stream=True))
        else:
            tool: Any = {"type": "function", **OTHER["function"]}
            for event in client.responses.create(model="yours", input="hi", tools=[tool], stream=True):
                if event.type == "error":
                    raise openai.APIError(event.message, request=None, body=None)  # type: ignore[arg-type]
    assert "secret" not in str(raised.value) and "a secret of the server" in caplog.text
