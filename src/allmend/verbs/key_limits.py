"""Limits of a key as flags, for the verbs that set them."""

from __future__ import annotations

from pydantic import Field

from allmend.verbs.settings import Settings


class LimitSettings(Settings):
    """How much a key, or one user behind it, may do; what is not given stays as it is."""

    requests_per_minute: int | None = Field(None, ge=0)
    """Requests that may begin within any 60 seconds; 0 is no limit."""

    tokens_per_minute: int | None = Field(None, ge=0)
    """Tokens read and written within any 60 seconds; 0 is no limit."""

    tokens_per_day: int | None = Field(None, ge=0)
    """Tokens read and written within a day (UTC); 0 is no limit."""

    concurrent: int | None = Field(None, ge=0)
    """Requests at once, those that wait included; 0 is no limit."""

    adapters: int | None = Field(None, ge=0)
    """Different adapters that may be asked for within a day; 0 is none at all."""

    priority: int | None = Field(None, ge=-10, le=10)
    """Higher comes first in the queue."""

    forwarded_users: bool | None = None
    """Believe the user named in X-OpenWebUI-User-Id and the like; only for keys of servers that can be trusted."""


def without_zeros(given: dict[str, object]) -> dict[str, object]:
    """Flags as limits: 0 is no limit, but for adapters (none) and priority."""
    return {name: value for name, value in given.items() if value or name in ("adapters", "priority")}
