"""What is known of a file in the store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stored:
    """A file that is whole in the store.

    Args:
        xet: its Xet file hash, 64 hexadecimal digits: the name under which it is read.
        sha256: the SHA-256 of its bytes, computed here.
        size: its length in bytes.
    """

    xet: str
    sha256: str
    size: int
