"""The Xet protocol over HTTP, as the stock client speaks it: tokens and routes."""

from __future__ import annotations

from allmend.hub.cas.routes import cas_router
from allmend.hub.cas.tokens import CasTokens, Grant

__all__ = ["CasTokens", "Grant", "cas_router"]
