"""Calls of LangChain's OpenAI client: URL MODEL. Prints one line for each that did what it should."""

from __future__ import annotations

import sys

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel

url, model, *keys = sys.argv[1:]
key = keys[0] if keys else "none"
chat = ChatOpenAI(model="yours", base_url=url, api_key=key, max_retries=0, max_tokens=200, temperature=0, timeout=120)
base = chat.model_copy(update={"model_name": model})
history = [SystemMessage("be kind"), HumanMessage("hi"), AIMessage("hello"), HumanMessage("again")]


class Mood(BaseModel):
    """What is asked for."""

    good: bool


@tool
def look(place: bool) -> str:
    """Look somewhere."""
    return str(place)


def check(name: str, value: object) -> None:
    """Fail loudly, or say that it worked."""
    if not value:
        raise SystemExit(f"{name}: {value!r}")
    print("ok", name)


check("invoke", isinstance(base.invoke("hi").content, str))
check("adapter", chat.invoke("hi").content != base.invoke("hi").content)
check("history", base.invoke(history).content)
check("usage", base.invoke("hi").usage_metadata["output_tokens"] > 0)
check("batch", len(base.batch(["a", "b", "c"])) == 3)
check("stream", "".join(part.content for part in base.stream("hi")) == base.invoke("hi").content)
parts = list(base.model_copy(update={"stream_usage": True}).stream("hi"))
check("stream usage", any(part.usage_metadata for part in parts))
check("stop", "e" not in base.bind(stop=["e"]).invoke("hi").content)
check(
    "seed",
    base.bind(temperature=1, seed=3).invoke("hi").content == base.bind(temperature=1, seed=3).invoke("hi").content,
)
check("max tokens", base.bind(max_tokens=3).invoke("hi").usage_metadata["output_tokens"] == 3)
logprobs = base.bind(logprobs=True, top_logprobs=2, max_tokens=3).invoke("hi").response_metadata["logprobs"]
check("logprobs", len(logprobs["content"]) == 3)
check("penalties", base.bind(presence_penalty=1.0, frequency_penalty=1.0).invoke("hi").content)
check("logit bias", set(base.bind(logit_bias={65: 100}, max_tokens=4).invoke("hi").content))
check("json schema", isinstance(base.with_structured_output(Mood, method="json_schema").invoke("hi"), Mood))
check("tools", chat.bind_tools([look], tool_choice="look").invoke("hi").tool_calls[0]["name"] == "look")
check("tools by schema", isinstance(chat.with_structured_output(Mood, method="function_calling").invoke("hi"), Mood))
streamed = list(chat.bind_tools([look], tool_choice="required").stream("hi"))
check("streamed tools", any(part.tool_call_chunks for part in streamed))
check("n", len(base.generate([[HumanMessage("hi")]], n=2).generations[0]) == 2)
responses = ChatOpenAI(model=model, base_url=url, api_key=key, max_retries=0, use_responses_api=True, max_tokens=20)
check("responses", responses.invoke("hi").content)
check("responses stream", list(responses.stream("hi")))
check(
    "completions",
    OpenAI(model=model, base_url=url, api_key=key, max_tokens=5, max_retries=0).invoke("abc") is not None,
)
