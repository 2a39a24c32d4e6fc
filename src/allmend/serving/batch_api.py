"""Bodies of `/v1/batches`, in and out, and the lines of its files."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from allmend.serving.files import Expiry
from allmend.serving.lists import Metadata

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/moderations")
"""Routes whose requests a batch may hold."""
Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/moderations"]
Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
OPEN: tuple[Status, ...] = ("validating", "in_progress", "finalizing", "cancelling")


class BatchRequest(BaseModel):
    """The body of `/v1/batches`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    input_file_id: Annotated[str, Field(min_length=1, max_length=200)]
    endpoint: Endpoint
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: Expiry | None = None
    """When the files of answers are deleted; when not given, as the server has it for all."""


class BatchError(BaseModel):
    """What is wrong with the file."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class BatchErrors(BaseModel):
    """All that is wrong with it."""

    object: Literal["list"] = "list"
    data: list[BatchError]


class Counts(BaseModel):
    """Requests."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class BatchInputDetails(BaseModel):
    """Of the tokens read."""

    cached_tokens: int = 0


class BatchOutputDetails(BaseModel):
    """Of the tokens written."""

    reasoning_tokens: int = 0


class BatchUsage(BaseModel):
    """Tokens of all its answers."""

    input_tokens: int = 0
    input_tokens_details: BatchInputDetails = Field(default_factory=BatchInputDetails)
    output_tokens: int = 0
    output_tokens_details: BatchOutputDetails = Field(default_factory=BatchOutputDetails)
    total_tokens: int = 0


class Batch(BaseModel):
    """A batch, as OpenAI has it."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: BatchErrors | None = None
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: Counts = Field(default_factory=Counts)
    metadata: dict[str, str] | None = None
    usage: BatchUsage | None = None


class Line(BaseModel):
    """A line of a batch's file."""

    model_config = ConfigDict(extra="forbid")

    custom_id: Annotated[str, Field(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: str
    body: dict[str, Any]


def ended_at(batch: Batch) -> int:
    """When a batch that is over came to its end."""
    ends = (batch.completed_at, batch.failed_at, batch.expired_at, batch.cancelled_at, batch.created_at)
    return next(each for each in ends if each is not None)


def used(answers: Any) -> BatchUsage:
    """What answers say that they used, whichever route gave them.

    Args:
        answers: bodies of answers, as plain JSON values.
    """
    found = BatchUsage()
    for body in answers:
        said = body.get("usage") if isinstance(body, dict) else None
        if not isinstance(said, dict):
            continue
        read = said.get("prompt_tokens", said.get("input_tokens", 0)) or 0
        details = said.get("prompt_tokens_details") or said.get("input_tokens_details") or {}
        found.input_tokens += read
        found.output_tokens += said.get("completion_tokens", said.get("output_tokens", 0)) or 0
        found.input_tokens_details.cached_tokens += details.get("cached_tokens", 0) or 0
    found.total_tokens = found.input_tokens + found.output_tokens
    return found
