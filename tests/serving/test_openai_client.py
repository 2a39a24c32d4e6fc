"""The stock `openai` client against a server on loopback: whole answers, streams, adapters, errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
import torch
from openai import AsyncOpenAI, OpenAI

import tiny
from allmend.data.templates import PLAIN
from allmend.data.tokens import encode_prompt
from allmend.serving.server import Server

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


def ask(client: OpenAI, model: str, **more: Any) -> Any:
    values = {"model": model, "messages": HELLO, "temperature": 0, "max_tokens": 12, **more}
    return client.chat.completions.create(**values)


def oracle(folders: Any, adapter: str | None, count: int) -> str:
    """The greedy answer by transformers and PEFT alone, in text, up to the plain template's next turn."""
    import transformers
    from peft import PeftModel

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folders.base, dtype=torch.float32)
    if adapter:
        model = PeftModel.from_pretrained(model, folders.adapters[adapter]).merge_and_unload()
    prompt = encode_prompt(HELLO, tiny.tokenizer(), PLAIN)
    tokens = tiny.generate(model.eval(), prompt, count)
    return str(tiny.tokenizer().decode(tokens, skip_special_tokens=True))


def test_models_are_listed_with_their_parents(client: OpenAI, base: str) -> None:
    cards = {card.id: card for card in client.models.list()}
    assert set(cards) == {base, "mine", "yours"}
    assert cards["mine"].model_dump()["parent"] == base
    assert client.models.retrieve("mine").id == "mine"
    assert client.models.retrieve(f"{base}:mine").id == "mine"


def test_the_greedy_answer_is_that_of_transformers_and_peft(client: OpenAI, base: str, folders: Any) -> None:
    assert ask(client, base).choices[0].message.content == oracle(folders, None, 12)
    assert ask(client, "mine").choices[0].message.content == oracle(folders, "mine", 12)


def test_four_spellings_of_an_adapter_are_one(client: OpenAI, base: str) -> None:
    answers = [
        ask(client, "mine"),
        ask(client, f"{base}:mine"),
        ask(client, f"{base}::mine"),
        ask(client, base, extra_body={"lora": [{"id": "mine", "scale": 1.0}]}),
        ask(client, base, extra_body={"lora": [{"id": 0, "scale": 1.0}]}),
    ]
    assert len({answer.choices[0].message.content for answer in answers}) == 1
    assert {answer.allmend["adapter"] for answer in answers} == {"mine"}


def test_a_scale_of_zero_is_the_base(client: OpenAI, base: str) -> None:
    scaled = ask(client, base, extra_body={"lora": [{"id": "mine", "scale": 0}]})
    assert scaled.choices[0].message.content == ask(client, base).choices[0].message.content


def test_every_answer_names_its_template(client: OpenAI, base: str) -> None:
    plain, own = ask(client, "mine").allmend, ask(client, "yours").allmend
    assert plain["template"] == "allmend-plain/1" and plain["template_digest"] == PLAIN.digest
    assert own["template"] == "adapter:yours"
    assert plain["base"] == base and len(plain["model_digest"]) == 64


def test_a_stream_adds_up_to_the_whole_answer(client: OpenAI, base: str) -> None:
    whole = ask(client, "mine")
    chunks = list(ask(client, "mine", stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == whole.choices[0].finish_reason
    assert chunks[0].model_dump()["allmend"]["adapter"] == "mine"


def test_n_answers_differ_and_a_seed_repeats_them(client: OpenAI, base: str) -> None:
    first, second = (
        [choice.message.content for choice in ask(client, base, n=4, temperature=1.5, seed=7).choices] for _ in range(2)
    )
    assert first == second and len(set(first)) > 1


def test_logprobs_are_the_models_own(client: OpenAI, base: str) -> None:
    answer = ask(client, base, logprobs=True, top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    for token in content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        # Greedy: the picked token is the best of those listed.
        assert token.top_logprobs[0].logprob == pytest.approx(token.logprob)
    joined = b"".join(bytes(token.bytes) for token in content)
    assert joined.decode("utf-8", errors="replace") == answer.choices[0].message.content


def test_stop_ends_the_answer_before_the_stop(client: OpenAI, base: str) -> None:
    full = ask(client, base).choices[0].message.content
    stop = full[3:6]
    answer = ask(client, base, stop=[stop, "never there"])
    assert answer.choices[0].message.content == full[: full.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    streamed = ask(client, base, stop=stop, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == full[: full.index(stop)]


def test_completions_take_text_lists_and_tokens(client: OpenAI, base: str) -> None:
    def complete(prompt: Any, **more: Any) -> Any:
        return client.completions.create(model=base, prompt=prompt, max_tokens=6, temperature=0, **more)

    text = complete("abc").choices[0].text
    ids = tiny.tokenizer()("abc")["input_ids"]
    assert complete(ids).choices[0].text == text
    assert [choice.text for choice in complete(["abc", "abc"]).choices] == [text, text]
    assert [choice.index for choice in complete([ids, ids, ids]).choices] == [0, 1, 2]
    assert complete("abc", echo=True).choices[0].text == "abc" + text
    streamed = complete("abc", stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == text


def test_an_echo_scores_the_prompt(client: OpenAI, base: str) -> None:
    answer = client.completions.create(model=base, prompt="abcdef", max_tokens=0, echo=True, logprobs=2)
    scored = answer.choices[0].logprobs
    assert answer.choices[0].text == "abcdef"
    assert scored.tokens == list("abcdef") and scored.text_offset == [0, 1, 2, 3, 4, 5]
    assert scored.token_logprobs[0] is None and all(value <= 0 for value in scored.token_logprobs[1:])
    model = tiny.model("llama")
    ids = torch.tensor([tiny.tokenizer()("abcdef")["input_ids"]])
    with torch.inference_mode():
        wanted = model(ids).logits[0].log_softmax(-1)
    for place in range(1, 6):
        assert scored.token_logprobs[place] == pytest.approx(float(wanted[place - 1, ids[0, place]]), abs=1e-3)


def test_logit_bias_rules_tokens_out_and_in(client: OpenAI, base: str) -> None:
    forced = ask(client, base, logit_bias={"65": 100}, max_tokens=4)
    assert forced.choices[0].message.content == tiny.tokenizer().decode([65]) * 4


def test_many_at_once_each_get_their_own_answer(server: Server, client: OpenAI, base: str) -> None:
    alone = {model: ask(client, model).choices[0].message.content for model in (base, "mine", "yours")}

    def one(place: int) -> bool:
        model = (base, "mine", "yours")[place % 3]
        return bool(ask(client, model).choices[0].message.content == alone[model])

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(one, range(36)))


def test_the_async_client_works(server: Server, base: str) -> None:
    async def run() -> tuple[str, str]:
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            whole = await client.chat.completions.create(model=base, messages=HELLO, max_tokens=8, temperature=0)
            stream = await client.chat.completions.create(
                model=base, messages=HELLO, max_tokens=8, temperature=0, stream=True
            )
            parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
            return whole.choices[0].message.content or "", "".join(parts)

    whole, streamed = asyncio.run(run())
    assert whole == streamed and whole


def failures() -> Iterator[tuple[dict[str, Any], int, str]]:
    yield {"model": "mien"}, 404, "'mine'"
    yield {"messages": [{"role": "user", "content": "x" * 2000}]}, 400, "maximum context length is 512"
    yield {"messages": []}, 400, "messages"
    yield {"temperature": 9}, 400, "temperature"
    yield {"extra_body": {"temprature": 1}}, 400, "'temperature'"
    yield {"extra_body": {"lora": [{"id": "nobody"}]}, "model": None}, 404, "nobody"
    yield {"logit_bias": {"999999": 1}}, 400, "token id"
    yield {"modalities": ["text", "audio"]}, 400, "not supported"
    yield {"top_logprobs": 3}, 400, "logprobs must be true"
    yield {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, 400, "image"
    yield {"n": 1000}, 400, "n"


@pytest.mark.parametrize(("change", "status", "words"), list(failures()))
def test_errors_have_the_right_status_and_say_why(
    client: OpenAI, base: str, change: dict[str, Any], status: int, words: str
) -> None:
    model = change.get("model", base) or base
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, **{**change, "model": model})
    assert caught.value.status_code == status
    assert words in caught.value.message
    assert caught.value.body is not None and set(caught.value.body) == {"message", "type", "param", "code"}
