"""What every noun shares: an immutable value with one JSON form."""

from __future__ import annotations

import json
from typing import Any, Self

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A typed, immutable piece of a noun."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, populate_by_name=True)


class Noun(Part):
    """A value that rooms hand to each other. Each noun adds a field `schema_` aliased to `schema`."""

    def to_json(self, indent: int | None = 2) -> str:
        """The noun as JSON text: the same bytes for the same value."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def to_dict(self) -> dict[str, Any]:
        """The noun as plain JSON values, `schema` first."""
        return self.model_dump(mode="json", by_alias=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a noun back; raises `pydantic.ValidationError` when it is not one."""
        return cls.model_validate_json(text)
