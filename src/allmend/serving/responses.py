"""What clients get, as OpenAI's API has it, with one field of our own: what really answered."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from allmend.serving.searching import SearchCall

FinishReason = Literal["stop", "length", "tool_calls"]


class _Answer(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Provenance(_Answer):
    """What really answered."""

    base: str
    """Name of the base model."""
    model_digest: str
    """SHA-256 of its file, or of the list of its files."""
    adapter: str | None = None
    """Adapters applied, with their scale where it is not 1."""
    adapter_digest: str | None = None
    """SHA-256 of their weights."""
    template: str | None = None
    """The chat template that was used; none for plain completions."""
    template_digest: str | None = None
    """SHA-256 of the template's text."""
    searched: SearchCall | None = None
    """What was looked up in documents, and the passages that the model was shown."""
    fallback_from: str | None = None
    """The model that was asked for, where another answers because that one was overloaded."""


class PromptDetails(_Answer):
    """Of the prompt's tokens."""

    cached_tokens: int = 0
    """Those that did not have to be computed again."""


class UsageCount(_Answer):
    """Tokens counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class TopLogprob(_Answer):
    """A token that could have been picked."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(TopLogprob):
    """A token that was picked, with the best ones at its place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(_Answer):
    """Log-probabilities of a chat answer."""

    content: list[TokenLogprob] | None
    refusal: None = None


class ToolCallFunction(_Answer):
    """A function with its arguments."""

    name: str
    arguments: str
    """JSON."""


class ToolCall(_Answer):
    """A call that the model asks for."""

    id: str
    type: Literal["function"] = "function"
    function: ToolCallFunction


class ToolCallDelta(ToolCall):
    """A call in a stream; it comes whole."""

    index: int


class ChatAnswer(_Answer):
    """The message that was generated."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[ToolCall] | None = None


class ChatChoice(_Answer):
    """One of `n` answers."""

    index: int
    message: ChatAnswer
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason


class ChatCompletion(_Answer):
    """A whole chat answer."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageCount
    system_fingerprint: str
    allmend: Provenance


class ChatDelta(_Answer):
    """What a chunk adds to a message."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChatChunkChoice(_Answer):
    """What a chunk adds to one of `n` answers."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None


class ChatChunk(_Answer):
    """An event of a chat stream."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: UsageCount | None = None
    system_fingerprint: str
    allmend: Provenance | None = None
    """In the first chunk."""


class CompletionLogprobs(_Answer):
    """Log-probabilities of a plain completion: lists of the same length, one entry a token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(_Answer):
    """One answer to one prompt."""

    text: str
    index: int
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None


class TextCompletion(_Answer):
    """A whole plain completion, or an event of its stream."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageCount | None = None
    system_fingerprint: str
    allmend: Provenance | None = None


class ModelCard(_Answer):
    """A model or an adapter that can be asked for."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    root: str
    """Where it comes from."""
    parent: str | None = None
    """The base model, for an adapter."""
    max_model_len: int
    """Tokens that fit, prompt and answer together."""
    digest: str
    template: str
    """The chat template's name; empty where there is none."""
    kind: Literal["text", "embed", "rank", "transcribe", "speak"] = "text"
    """What the model does."""


class ModelList(_Answer):
    """All models and adapters."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class EngineHealth(_Answer):
    """An engine that is a process of its own, or that ended by a fault."""

    model: str
    state: Literal["up", "starting", "failing"]
    """`failing`: it has ended again and again, and the next attempt is put off; requests are refused until then."""
    restarts: int
    """How often it was started again."""
    retry_after: float | None = None
    """Seconds until that attempt."""


class Health(_Answer):
    """Whether the server is up."""

    status: Literal["ok", "degraded"] = "ok"
    """`degraded` while the engine of a model is not there; requests for others are answered."""
    models: list[str]
    engines: list[EngineHealth] | None = None
    """Engines in processes of their own, and others that are not there."""


class Replaced(_Answer):
    """A model that answers under a name from now on."""

    model: str
    digest: str
    adapters_gone: list[str]
    """Adapters that do not fit it and are no longer served."""
