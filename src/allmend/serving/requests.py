"""What clients send, as OpenAI's API has it, and a few fields that other servers have taught clients to send.

A field that is not known is refused and the nearest known one named, as OpenAI does: a misspelt `temperature` must
not pass silently. Fields that ask for something this server does not do are known, and refused unless they hold
the value that asks for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from allmend.serving.lists import Metadata
from allmend.serving.searching import FileSearchTool, SearchCall, SearchedPassage, call_of

Probability = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
Stop = Annotated[str, Field(min_length=1, max_length=1024)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class StreamOptions(_Body):
    """Options of a stream."""

    include_usage: bool = False
    """Send one more chunk at the end, with the tokens counted."""
    include_obfuscation: bool = False
    """Accepted; there is none."""


class LoraUse(_Body):
    """An adapter to apply, as llama.cpp's server has it."""

    id: int | str
    """Its name, or its place in the list of adapters."""
    scale: Annotated[float, Field(ge=-100, le=100)] = 1.0
    """How strongly it acts."""


class Common(_Body):
    """Fields of chat and plain completions alike."""

    model: Annotated[str, Field(min_length=1, max_length=1024)]
    """A model's name, an adapter's name, `model:adapter` or `model::adapter`."""
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """Most tokens to generate; more than the context has room for means as many as it has."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Field(ge=-1, lt=2**31)] | None = None
    """Keep this many best tokens; 0 or -1 keeps all."""
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=4096)] | None = None
    """Token ids, as text, with what is added to their logits."""
    lora: Annotated[list[LoraUse], Field(max_length=16)] | None = None
    """Adapters to apply to the model named."""
    ignore_eos: bool = False
    """Go on through the model's end of text."""
    stop_token_ids: Annotated[list[TokenId], Field(max_length=256)] | None = None
    """Tokens that end the answer, beside the model's own."""
    user: str | None = None
    """Accepted; not used."""

    @field_validator("logit_bias")
    @classmethod
    def _bias_of_tokens(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        for key in value or {}:
            if not (key.isascii() and key.isdigit() and len(key) <= 10):
                raise ValueError(f"logit_bias takes token ids; {key!r} is none")
        return value

    @model_validator(mode="after")
    def _options_of_a_stream(self) -> Common:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed when stream is true")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop strings as a tuple."""
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class TextPart(BaseModel):
    """A part of a message; only text is read."""

    model_config = ConfigDict(extra="allow")

    type: str
    text: str | None = None


class ChatMessage(BaseModel):
    """A message of the conversation. Fields beyond these are given to the chat template."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    """Calls that the assistant asked for before."""


class JsonSchema(BaseModel):
    """A named JSON schema."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    name: Annotated[str, Field(max_length=256)] = "answer"
    schema_: Annotated[dict[str, Any], Field(alias="schema")] = {}
    """The schema; it is always followed, with `strict` or without."""


class ResponseFormat(BaseModel):
    """How the answer must look; `text` is any text."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    type: Literal["text", "json_object", "json_schema", "grammar", "regex"]
    json_schema: JsonSchema | None = None
    grammar: str | None = None
    """Lark, as llguidance reads it."""
    regex: str | None = None

    @model_validator(mode="after")
    def _has_what_it_names(self) -> ResponseFormat:
        if self.type in ("json_schema", "grammar", "regex") and getattr(self, self.type) is None:
            raise ValueError(f"a response_format of type {self.type!r} needs {self.type!r}")
        return self


FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


class FunctionSpec(BaseModel):
    """A function that a model may ask to be called."""

    model_config = ConfigDict(extra="forbid")

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(BaseModel):
    """A tool; only functions are known."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["function"]
    function: FunctionSpec


class NamedFunction(BaseModel):
    """A function by its name."""

    name: FunctionName


class NamedTool(BaseModel):
    """The tool that must be used."""

    type: Literal["function"]
    function: NamedFunction


class ChatRequest(Common):
    """The body of `/v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=10_000)]
    max_completion_tokens: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """The newer name of `max_tokens`; it wins."""
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: (
        Annotated[list[Annotated[Tool | FileSearchTool, Field(discriminator="type")]], Field(max_length=128)] | None
    ) = None
    """Functions that the model may ask for, and `file_search`, which the server does itself."""
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    functions: list[dict[str, Any]] | None = None
    function_call: str | dict[str, Any] | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    prediction: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    metadata: Metadata | None = None
    """Accepted; not used."""
    store: bool | None = None
    """Accepted; nothing is stored."""
    service_tier: str | None = None
    """Accepted; there is one."""
    safety_identifier: str | None = None
    """Accepted; not used."""
    prompt_cache_key: str | None = None
    """Accepted; not used."""
    prompt_cache_retention: str | None = None
    """Accepted; not used."""

    _searched: SearchCall | None = PrivateAttr(None)

    @property
    def functions_offered(self) -> list[Tool]:
        """The tools that the model is told of."""
        return [tool for tool in self.tools or () if isinstance(tool, Tool)]

    @property
    def searched(self) -> SearchCall | None:
        """What was searched for it."""
        return self._searched

    def found(self, question: str, passages: Sequence[SearchedPassage]) -> None:
        """Note what was searched and found."""
        self._searched = call_of(question, passages)

    @model_validator(mode="after")
    def _top_of_what(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("logprobs must be true when top_logprobs is given")
        return self


class LoadAdapter(BaseModel):
    """The body of `/v1/load_lora_adapter`, as vLLM has it."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    lora_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/@-]{0,199}$")]
    lora_path: Annotated[str, Field(min_length=1, max_length=4096)]
    """Its folder on the server's machine, a run, or OWNER/NAME@REV."""
    base_model_name: str | None = None
    load_inplace: bool = False
    """Replace an adapter of that name."""


class UnloadAdapter(BaseModel):
    """The body of `/v1/unload_lora_adapter`, as vLLM has it."""

    model_config = ConfigDict(extra="forbid")

    lora_name: Annotated[str, Field(min_length=1, max_length=1024)]
    lora_int_id: int | None = None


class ReplaceModel(BaseModel):
    """The body of `/v1/replace_model`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    model: Annotated[str, Field(min_length=1, max_length=1024)]
    """The name that requests use."""
    path: Annotated[str, Field(min_length=1, max_length=4096)]
    """What answers under it from now on: a folder or file on the server's machine, or a name as of `allmend serve`."""


class CompletionRequest(Common):
    """The body of `/v1/completions`."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=256)]
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=256)]
    )
    """Text, texts, token ids, or lists of token ids."""
    echo: bool | None = False
    """Give the prompt back before the answer; with `logprobs`, of its tokens too."""
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    best_of: int | None = None
    suffix: str | None = None
