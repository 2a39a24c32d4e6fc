"""What a scheduler and a worker say to each other. Each message is one line of JSON between processes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from allmend.nouns.noun import Part
from allmend.nouns.search import Point


class Segment(Part):
    """Train a trial from where its folder's checkpoint is up to `until`."""

    kind: Literal["segment"] = "segment"
    trial: int
    point: Point
    folder: Path
    """Holds the trial's checkpoints; made where it is missing. Workers must all see it."""
    until: int
    """Step to stop at."""
    steps: int
    """Steps of the whole trial, as far as it is known by now."""
    climb: int
    """Steps of warm-up."""
    decay_from: int
    """The learning rate is constant up to this step and falls to zero at `steps`."""
    evaluate_at: tuple[int, ...] = ()
    seconds: float | None = None
    """Seconds this segment may take; then it is made shorter. None for no limit."""


class Stop(Part):
    """Stop after the step under way, and answer with what was reached."""

    kind: Literal["stop"] = "stop"


class Ready(Part):
    """The worker can take a segment."""

    kind: Literal["ready"] = "ready"
    about: str = ""


class Stepped(Part):
    """A step is done."""

    kind: Literal["stepped"] = "stepped"
    trial: int
    step: int
    steps: int
    loss: float | None
    """None when it was not a finite number."""
    rate: float
    tokens: int
    seconds: float
    select_loss: float | None = None
    measured: bool = False
    """Whether `select_loss` was measured after this step."""


class Finished(Part):
    """A segment has ended: reached its end, or was stopped before (`step` says where)."""

    kind: Literal["finished"] = "finished"
    trial: int
    step: int
    steps: int
    rows: int
    tokens: int
    seconds: float
    """Of the whole trial, over all sittings and workers."""
    took: float
    """Of this segment, with everything around it."""
    state: Path | None
    """The checkpoint to go on from."""
    digest: str | None
    """SHA-256 of that file."""
    best_step: int | None = None
    best_loss: float | None = None
    peak_bytes: int = 0


class Failed(Part):
    """A segment ended in an error; the worker lives."""

    kind: Literal["failed"] = "failed"
    trial: int
    diverged: bool
    message: str
    hint: str = ""


class Lost(Part):
    """The worker died; what it was working on can be given to another."""

    kind: Literal["lost"] = "lost"
    worker: str
    trial: int | None
    message: str


Event = Annotated[Ready | Stepped | Finished | Failed | Lost, Field(discriminator="kind")]
Order = Annotated[Segment | Stop, Field(discriminator="kind")]

EVENTS: TypeAdapter[Event] = TypeAdapter(Event)
ORDERS: TypeAdapter[Order] = TypeAdapter(Order)
