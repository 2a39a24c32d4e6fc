"""`/v1/responses` through the stock client: whole, as events, with tools and formats."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from allmend.engines.text import Piece, Usage
from allmend.serving.citations import Citations, FileCitation
from allmend.serving.searching import SearchedPassage
from allmend.serving.server import Server

TOOL: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    "strict": True,
}


class Flag(BaseModel):
    """What an answer is parsed into."""

    on: bool


def test_an_answer_is_that_of_chat(client: OpenAI, base: str) -> None:
    settings: Any = {"model": base, "temperature": 0}
    whole = client.responses.create(input="hi", instructions="be kind", max_output_tokens=8, **settings)
    messages: list[Any] = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]
    chat = client.chat.completions.create(messages=messages, max_tokens=8, **settings)
    assert whole.output_text == chat.choices[0].message.content
    assert whole.usage and chat.usage and whole.usage.input_tokens == chat.usage.prompt_tokens
    assert whole.status == "incomplete" and whole.incomplete_details
    assert whole.model_extra and whole.model_extra["allmend"]["base"] == base


def test_events_come_in_order_and_add_up(client: OpenAI, base: str) -> None:
    cut = client.responses.create(model=base, input="hi", max_output_tokens=8, temperature=0, stream=True)
    assert [event.type for event in cut][-1] == "response.incomplete"
    with client.responses.stream(model=base, input="hi", temperature=0, text_format=Flag) as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert [event.sequence_number for event in events] == sorted(event.sequence_number for event in events)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == final.output_text and text


def test_tools_are_called_and_their_answers_read(client: OpenAI) -> None:
    asked: Any = {"model": "yours", "tools": [TOOL], "tool_choice": "required", "max_output_tokens": 200}
    answer = client.responses.create(input="hi", **asked)
    (call,) = answer.output
    assert call.type == "function_call" and call.name == "weather" and json.loads(call.arguments) == {}
    history: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        call.model_dump(exclude_none=True),
        {"type": "function_call_output", "call_id": call.call_id, "output": "20"},
    ]
    again = client.responses.create(model="yours", input=history, tools=[TOOL], max_output_tokens=4)
    assert again.output[0].type == "message"
    events = list(client.responses.create(input="hi", stream=True, **asked))
    kinds = [event.type for event in events]
    assert "response.function_call_arguments.done" in kinds and "response.output_text.delta" not in kinds


CALLED = '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'


@pytest.mark.parametrize("cut", [1, 1000])
@pytest.mark.parametrize(
    ("answer", "said", "kinds"),
    [
        (f"\n\n{CALLED}\n", "", ["function_call"]),
        (f" I look. \n{CALLED}", " I look.", ["message", "function_call"]),
        (f"I look.{CALLED} I wait.", "I look. I wait.", ["message", "function_call"]),
        (" a <tool \n", " a <tool \n", ["message"]),
        ("\n", "\n", ["message"]),
        ("", "", ["message"]),
    ],
)
def test_events_announce_each_item_once_and_say_what_the_end_says(
    client: OpenAI, server: Server, monkeypatch: pytest.MonkeyPatch, cut: int, answer: str, said: str, kinds: list[str]
) -> None:
    def submit(self: Any, request: Any, sink: Any) -> Any:
        pieces = [answer[place : place + cut] for place in range(0, len(answer), cut)] or [""]
        for piece in pieces[:-1]:
            sink(Piece(piece))
        sink(Piece(pieces[-1], finish="stop", usage=Usage(1, len(pieces))))
        return SimpleNamespace(cancel=lambda: None)

    monkeypatch.setattr(type(server.registry.bases()[0].engine), "submit", submit)
    events: Any = list(client.responses.create(model="yours", input="hi", tools=[TOOL], stream=True))
    final = events[-1].response
    assert [item.type for item in final.output] == kinds
    for kind in ("added", "done"):
        told = [event for event in events if event.type == f"response.output_item.{kind}"]
        assert [(event.output_index, event.item.id) for event in told] == [
            (place, item.id) for place, item in enumerate(final.output)
        ]
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert deltas == final.output_text == said
    assert [event.text for event in events if event.type == "response.output_text.done"] == [said] * kinds.count(
        "message"
    )
    hello: Any = [{"role": "user", "content": "hi"}]
    tool: Any = {"type": "function", "function": {key: TOOL[key] for key in ("name", "parameters")}}
    chunks = client.chat.completions.create(model="yours", messages=hello, tools=[tool], stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == said


def test_formats_are_parsed(client: OpenAI, base: str) -> None:
    parsed = client.responses.parse(model=base, input="hi", text_format=Flag, temperature=0)
    assert isinstance(parsed.output_parsed, Flag)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"previous_response_id": "resp_1"}, "not supported"),
        ({"input": [{"type": "web_search_call"}]}, "not supported"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "not supported"),
        ({"extra_body": {"inptu": 1}}, "'input'"),
        ({"tool_choice": "required"}, "tools lists none"),
    ],
)
def test_what_is_not_offered_is_refused(client: OpenAI, base: str, change: dict[str, Any], words: str) -> None:
    with pytest.raises(openai.BadRequestError, match=words):
        client.responses.create(**{"model": base, "input": "hi", **change})


SHOWN = [
    SearchedPassage(file_id="file-a", filename="train.txt", score=1, text=text, attributes={})
    for text in ("The train to Bern leaves at nine from platform four.", "Tickets are sold in the hall.")
] + [SearchedPassage(file_id="file-b", filename="garden.md", score=0.5, text="Tomatoes need water.", attributes={})]


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("It leaves at nine [1].", [(18, "file-a")]),
        ("At nine.[1][3] Really [2, 3].", [(8, "file-a"), (11, "file-b"), (22, "file-a"), (22, "file-b")]),
        ("Nine【1】", [(4, "file-a")]),
        # One that names nothing is held against what it was shown; "Bern leaves" alone is too little.
        ("Hello! The train leaves at nine, platform four.\nBern leaves.\n", [(47, "file-a")]),
        ("Use `x[1]`, or\n```\nx[2]\n```\n[9] [0] [a] [", []),
        ("Something else, entirely made up by the model. Water them.", []),
        ("[1, 2, " * 40, []),
        ("", []),
    ],
)
def test_a_text_cites_what_it_names_or_what_its_sentences_stand_in(text: str, cited: list[Any]) -> None:
    for cut in (1, 3, 1000):
        citations, told = Citations(SHOWN), list[FileCitation]()
        for place in range(0, len(text), cut):
            told += citations.feed(text[place : place + cut])
        told += citations.finish()
        assert told == citations.given and [(each.index, each.file_id) for each in told] == cited


def test_citing_takes_no_longer_than_reading() -> None:
    for text in (
        "[1]" * 50_000,
        "." * 200_000,
        "`" * 200_000,
        "[" * 200_000,
        "[1,1" * 50_000,
        "nine leaves. " * 20_000,
    ):
        citations = Citations(SHOWN)
        citations.feed(text)
        citations.finish()
        assert len(citations.given) <= 1000
