"""The text of a key: `allm_`, its public name, `_`, and 43 random letters and digits that only its owner has.

At rest there is the SHA-256 of the whole text. A slow, salted hash (argon2, bcrypt) protects secrets that people
think up, which can be guessed; of 256 random bits no guess is worth making, at any speed, so a slow hash would cost
every request its time and protect nothing. Each text is used once, so a salt has nothing to tell apart.

The name is found in the database by equality, which tells an attacker only whether a public name exists; what is
secret is compared in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import dataclass, field

_LETTERS = string.ascii_letters + string.digits
_NAME, _SECRET = 12, 43
_FORM = re.compile(rf"allm_([A-Za-z0-9]{{{_NAME}}})_[A-Za-z0-9]{{{_SECRET}}}")
_NOBODY = hashlib.sha256(secrets.token_bytes(32)).hexdigest()


@dataclass(frozen=True)
class Secret:
    """A key's text. Its `repr` hides it."""

    id: str
    """Public: shown in lists, in the audit log, in the ledger."""
    text: str = field(repr=False)

    @property
    def hash(self) -> str:
        """What is stored."""
        return hash_of(self.text)


def new(name: str | None = None) -> Secret:
    """A key that nobody has: 43 letters and digits hold 256 bits.

    Args:
        name: the public name of a key that gets another secret.
    """
    fresh, secret = ("".join(secrets.choice(_LETTERS) for _ in range(count)) for count in (_NAME, _SECRET))
    name = name or fresh
    return Secret(name, f"allm_{name}_{secret}")


def parse(text: str) -> Secret | None:
    """A key as somebody sent it; None for what has not the form of one."""
    found = _FORM.fullmatch(text)
    return Secret(found[1], text) if found else None


def hash_of(text: str) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def matches(given: Secret, stored: str | None) -> bool:
    """Whether `given` is the key whose hash is stored, in the same time for every answer."""
    return hmac.compare_digest(given.hash, stored or _NOBODY) and stored is not None


def shown(identity: str) -> str:
    """How a key is named where people read: its public part."""
    return f"allm_{identity}_…"
