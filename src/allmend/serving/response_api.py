"""The body of `/v1/responses` and what it is answered with, as OpenAI's newer API has them.

Nothing is stored: a conversation is sent whole each time, as clients do with `store=False`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from allmend.serving.citations import FileCitation
from allmend.serving.lists import Metadata
from allmend.serving.requests import FunctionName, LoraUse, Probability
from allmend.serving.responses import Provenance
from allmend.serving.searching import FileSearchTool, SearchCall


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class InputPart(BaseModel):
    """A part of an item's content; only text is read."""

    model_config = ConfigDict(extra="allow")

    type: str
    text: str | None = None


class InputItem(BaseModel):
    """A message, a call that was asked for, or what the call gave."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    type: str = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | list[InputPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[InputPart] | None = None


class ResponseTool(_Body):
    """A function that the model may ask to be called."""

    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ResponseToolChoice(BaseModel):
    """The function that must be called."""

    type: Literal["function"]
    name: FunctionName


class SearchChoice(BaseModel):
    """Documents must be searched."""

    type: Literal["file_search"]


class TextFormat(BaseModel):
    """How the text must look."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    type: Literal["text", "json_object", "json_schema"] = "text"
    name: str | None = None
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class TextSettings(_Body):
    """Settings of the text."""

    format: TextFormat | None = None
    verbosity: str | None = None


class ResponseRequest(_Body):
    """The body of `/v1/responses`."""

    model: Annotated[str, Field(min_length=1, max_length=1024)]
    input: str | Annotated[list[InputItem], Field(min_length=1, max_length=10_000)]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    stream: bool | None = False
    stream_options: dict[str, Any] | None = None
    text: TextSettings | None = None
    tools: (
        Annotated[list[Annotated[ResponseTool | FileSearchTool, Field(discriminator="type")]], Field(max_length=128)]
        | None
    ) = None
    tool_choice: Literal["none", "auto", "required"] | ResponseToolChoice | SearchChoice | None = None
    parallel_tool_calls: bool | None = None
    lora: Annotated[list[LoraUse], Field(max_length=16)] | None = None
    """Adapters to apply to the model named."""
    store: bool | None = None
    """Accepted; nothing is stored."""
    metadata: Metadata | None = None
    """Given back."""
    truncation: Literal["auto", "disabled"] | None = None
    """Accepted; a prompt that does not fit is refused."""
    include: list[str] | None = None
    """`file_search_call.results` shows what was found; the rest is accepted, and there is nothing more to include."""
    user: str | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    background: bool | None = None
    prompt: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    max_tool_calls: int | None = None


class OutputText(BaseModel):
    """Text of an answer."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[FileCitation] = []
    logprobs: list[Any] = []


class OutputMessage(BaseModel):
    """A message that was generated."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]


class OutputCall(BaseModel):
    """A call that the model asks for."""

    id: str
    type: Literal["function_call"] = "function_call"
    call_id: str
    name: str
    arguments: str
    status: Literal["in_progress", "completed", "incomplete"]


class InputDetails(BaseModel):
    """Of the tokens read."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(BaseModel):
    """Of the tokens written."""

    reasoning_tokens: int = 0


class ResponseUsage(BaseModel):
    """Tokens counted."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class Incomplete(BaseModel):
    """Why an answer was cut."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class Response(BaseModel):
    """An answer, whole or on its way."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    error: dict[str, Any] | None = None
    incomplete_details: Incomplete | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    metadata: dict[str, str] = {}
    model: str
    output: list[OutputMessage | OutputCall | SearchCall]
    parallel_tool_calls: bool = True
    previous_response_id: None = None
    store: bool = False
    temperature: float | None = None
    text: dict[str, Any] = {"format": {"type": "text"}}
    tool_choice: Any = "auto"
    tools: list[dict[str, Any]] = []
    top_p: float | None = None
    truncation: str = "disabled"
    usage: ResponseUsage | None = None
    allmend: Provenance
