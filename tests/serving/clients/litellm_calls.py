"""Calls of LiteLLM: URL MODEL. Prints one line for each that did what it should."""

from __future__ import annotations

import asyncio
import json
import sys

import litellm
from pydantic import BaseModel

url, model, *keys = sys.argv[1:]
key = keys[0] if keys else "none"
hello = [{"role": "user", "content": "hi"}]
tool = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"far": {"type": "boolean"}}, "required": ["far"]},
    },
}


class Mood(BaseModel):
    """What is asked for."""

    good: bool


def ask(**more: object) -> object:
    """A chat completion."""
    settings = {"model": model, "messages": hello, "max_tokens": 40, "temperature": 0, **more}
    return litellm.completion(custom_llm_provider="openai", base_url=url, api_key=key, num_retries=0, **settings)


def check(name: str, value: object) -> None:
    """Fail loudly, or say that it worked."""
    if not value:
        raise SystemExit(f"{name}: {value!r}")
    print("ok", name)


def fails(kind: type[Exception], **more: object) -> bool:
    """Whether a call is refused with this error."""
    try:
        ask(**more)
    except kind:
        return True
    return False


plain = ask().choices[0].message.content
check("plain", isinstance(plain, str))
check("adapter", ask(model="yours").choices[0].message.content != plain)
check("adapter by base", ask(model=f"{model}:yours").choices[0].message.content != plain)
check("usage", ask().usage.completion_tokens > 0)
check("system", ask(messages=[{"role": "system", "content": "x"}, *hello]).choices)
check("stream", "".join(part.choices[0].delta.content or "" for part in ask(stream=True)) == plain)
parts = list(ask(stream=True, stream_options={"include_usage": True}))
check("stream usage", getattr(parts[-1], "usage", None))
check("n", len(ask(n=3, temperature=1).choices) == 3)
check("stop", "e" not in (ask(stop=["e"]).choices[0].message.content or ""))
check(
    "seed",
    ask(seed=4, temperature=1).choices[0].message.content == ask(seed=4, temperature=1).choices[0].message.content,
)
check("logprobs", ask(logprobs=True, top_logprobs=2).choices[0].logprobs.content[0].top_logprobs)
check("penalties", ask(presence_penalty=1, frequency_penalty=1).choices)
check("logit bias", ask(logit_bias={"65": 100}, max_tokens=3).choices)
check("max tokens", ask(max_tokens=2).choices[0].finish_reason == "length")
check("json schema", Mood.model_validate_json(ask(response_format=Mood).choices[0].message.content))
call = ask(model="yours", tools=[tool], tool_choice="required", max_tokens=200).choices[0].message.tool_calls[0]
check("tools", "far" in json.loads(call.function.arguments))
streamed = list(ask(model="yours", tools=[tool], tool_choice="required", max_tokens=200, stream=True))
check("streamed tools", any(part.choices[0].delta.tool_calls for part in streamed if part.choices))
check("unknown model", fails(litellm.NotFoundError, model="nobody"))
check("bad value", fails(litellm.BadRequestError, temperature=9))
settings = {"custom_llm_provider": "openai", "base_url": url, "api_key": key, "max_tokens": 5}
check("async", asyncio.run(litellm.acompletion(model=model, messages=hello, **settings)).choices)
check("text completion", litellm.text_completion(model=model, prompt="abc", **settings).choices)
