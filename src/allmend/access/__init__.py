"""Who may reach what: listening on this machine's addresses, and later keys, scopes, quotas and the ledger."""

from __future__ import annotations

from allmend.access.listening import Listener, bind, is_loopback

__all__ = ["Listener", "bind", "is_loopback"]
