"""How much a key may do. What is `None` is not limited."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from allmend.errors import UsageError


class Limits(BaseModel):
    """Limits of a key, or of one user behind it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    requests_per_minute: int | None = Field(None, ge=1)
    """Requests that may begin within any 60 seconds."""

    tokens_per_minute: int | None = Field(None, ge=1)
    """Tokens read and written within any 60 seconds."""

    tokens_per_day: int | None = Field(None, ge=1)
    """Tokens read and written within a day (UTC)."""

    concurrent: int | None = Field(None, ge=1)
    """Requests at once, those that wait included."""

    adapters: int | None = Field(None, ge=0)
    """Different adapters that may be asked for within a day."""

    priority: int = Field(0, ge=-10, le=10)
    """Higher comes first in the queue; equal ones share it."""

    forwarded_users: bool = False
    """Believe the user that a request names in X-OpenWebUI-User-Id and the like, with limits for each."""

    each_user: Limits | None = None
    """What each forwarded user may do, within what the key may do."""

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """Check `values`; raises `UsageError`."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            name = ".".join(str(part) for part in problem["loc"])
            raise UsageError(problem["msg"], where=f"--{name.replace('_', '-')}") from None

    def stored(self) -> dict[str, Any]:
        """Only what was set, for JSON."""
        return self.model_dump(exclude_defaults=True)

    def words(self) -> str:
        """For people: `60 requests/min, 4 at once`."""
        units = (
            ("requests_per_minute", "requests/min"),
            ("tokens_per_minute", "tokens/min"),
            ("tokens_per_day", "tokens/day"),
            ("concurrent", "at once"),
            ("adapters", "adapters/day"),
        )
        said = [f"{getattr(self, name):,} {unit}" for name, unit in units if getattr(self, name) is not None]
        if self.priority:
            said.append(f"priority {self.priority:+d}")
        if self.forwarded_users:
            each = self.each_user.words() if self.each_user else ""
            said.append(f"each of its users: {each}" if each else "names its users")
        return ", ".join(said)
