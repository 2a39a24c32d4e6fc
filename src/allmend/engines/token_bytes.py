"""The exact bytes of a token, which its text alone does not tell when it is part of a character."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenBytes:
    """Looks up token bytes for one tokeniser, by the kind of its decoder."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special = set(tokenizer.all_special_ids)
        self._byte_level = _is_byte_level(tokenizer)
        self._known: dict[int, bytes] = {}

    def __call__(self, token: int) -> bytes:
        """The bytes that `token` adds to a text; of a special token, its name."""
        known = self._known.get(token)
        if known is None:
            known = self._known[token] = self._look_up(token)
        return known

    def is_special(self, token: int) -> bool:
        """Whether it stands for no text."""
        return token in self._special

    def text(self, token: int) -> str:
        """The token as text; bytes that are no whole character show as the replacement character."""
        return self(token).decode("utf-8", errors="replace")

    def _look_up(self, token: int) -> bytes:
        piece = self._tokenizer.convert_ids_to_tokens(token)
        if piece is None:
            return b""
        if token in self._special:
            return str(piece).encode()
        if self._byte_level:
            table = _byte_level_table()
            if all(character in table for character in piece):
                return bytes(table[character] for character in piece)
            return str(piece).encode()
        if match := _BYTE_TOKEN.fullmatch(piece):
            return bytes([int(match[1], 16)])
        return str(piece).replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()


def _is_byte_level(tokenizer: Any) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend is not None and "ByteLevel" in repr(backend.decoder)


@cache
def _byte_level_table() -> dict[str, int]:
    """GPT-2's printable stand-ins for bytes: printable Latin-1 stands for itself, the rest from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    rest = [byte for byte in range(256) if byte not in set(printable)]
    table.update({chr(0x100 + place): byte for place, byte in enumerate(rest)})
    return table
