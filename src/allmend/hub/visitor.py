"""Who asks, and what that person may do with a repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allmend.access.principal import Principal


@dataclass(frozen=True)
class Visitor:
    """Whoever sent a request: the holder of a key, or nobody in particular."""

    principal: Principal | None = None

    @property
    def name(self) -> str | None:
        """The account's name; None for somebody without a key."""
        return self.principal.account if self.principal else None

    @property
    def signed(self) -> str:
        """The name that stands under what the visitor does."""
        return self.name or "nobody"

    @property
    def administrator(self) -> bool:
        """Whether every repository is open to the visitor and to the key."""
        return self.principal is not None and self.principal.administrator and self.principal.allows("hub:read")

    @property
    def owners(self) -> list[str]:
        """Whose private repositories the visitor may see some of, in lower case."""
        if self.principal is None or not self.principal.anywhere("hub:read"):
            return []
        return [each.lower() for each in (self.principal.account, *self.principal.organisations)]

    def reads(self, owner: str, name: str) -> bool:
        """Whether the visitor sees OWNER/NAME while it is private or gated."""
        return self._permits("hub:read", owner, name)

    def writes(self, owner: str, name: str) -> bool:
        """Whether the visitor may commit to OWNER/NAME, or make it."""
        return self._permits("hub:write", owner, name)

    def administers(self, owner: str, name: str) -> bool:
        """Whether the visitor may delete and move OWNER/NAME and say who sees it."""
        return self._permits("hub:admin", owner, name)

    def proposes(self, owner: str, name: str) -> bool:
        """Whether the visitor may open pull requests at OWNER/NAME and speak there: the key is for writing there."""
        return self.principal is not None and self.principal.allows("hub:write", f"{owner}/{name}")

    def _permits(self, scope: str, owner: str, name: str) -> bool:
        return self.principal is not None and self.principal.permits(scope, f"{owner}/{name}")


NOBODY = Visitor()
