"""Keeping secrets out of what is written down: run records, errors, logs. And finding them in data.

Patterns are of credentials with a fixed form; a secret without one is recognised only by the name it is kept
under."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "[hidden]"

SECRETS: dict[str, re.Pattern[str]] = {
    "private key": re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----"),
    "hub token": re.compile(r"\bhf_[A-Za-z0-9]{20,}\b"),
    "API key": re.compile(r"\bsk-(?:[a-z]+-)*[A-Za-z0-9_-]{20,}"),
    "allmend key": re.compile(r"\ballm_[A-Za-z0-9]{12}_[A-Za-z0-9]{43}"),
    "code host token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[\w-]{18,})"),
    "cloud key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{35}"),
    "chat token": re.compile(r"\bxox[abeprs]-[\w-]{10,}"),
    "package index token": re.compile(r"\bpypi-[A-Za-z0-9_-]{40,}|\bnpm_[A-Za-z0-9]{30,}"),
    "web token": re.compile(r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
    "password in an address": re.compile(r"(?<=://)[^\s/:@]{1,200}:[^\s/@]{1,200}(?=@)"),
    "bearer header": re.compile(r"(?i)(?<=\bbearer )[\w.~+/-]{16,}=*"),
}
"""Name of a kind of secret: its form. Every pattern is linear in the text."""

_MARKS = ("-----BEGIN", "hf_", "sk-", "allm_", "gh", "glpat-", "AKIA", "ASIA", "AIza", "xox", "pypi-", "npm_", "eyJ", "://",
          "earer ", "EARER ")  # fmt: skip
_WORDS = frozenset({"token", "password", "passwd", "passphrase", "secret", "secrets", "credential", "credentials",
                    "key",                    "keys", "apikey", "authorization", "cookie"})  # fmt: skip
_PART = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


def secrets_in(text: str) -> list[str]:
    """The kinds of secret that stand in `text`."""
    if not any(mark in text for mark in _MARKS):
        return []
    return [kind for kind, pattern in SECRETS.items() if pattern.search(text)]


def redact(text: str) -> str:
    """`text` with every secret of a known form hidden."""
    if any(mark in text for mark in _MARKS):
        for pattern in SECRETS.values():
            text = pattern.sub(HIDDEN, text)
    return text


def is_secret_name(name: str) -> bool:
    """Whether a value kept under `name` is a secret: `token`, `api_key`, `dbPassword`; not `max_tokens`."""
    return any(part.lower() in _WORDS for part in _PART.findall(name))


def redact_values(value: Any, name: str = "") -> Any:
    """JSON-like `value` with secrets hidden, by the name a text is kept under and by its form.

    Numbers and true/false are kept under any name.
    """
    if isinstance(value, Mapping):
        return {redact(str(key)): redact_values(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_values(item, name) for item in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    if name and is_secret_name(name):
        return HIDDEN
    return redact(str(value))
