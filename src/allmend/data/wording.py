"""What a text says, apart from how it is written: its words in one spelling, and a digest of them."""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata

_SYMBOLS = "+-*/=<>%$#@&^|~\\_`"
_TO_SPACE = str.maketrans(
    dict.fromkeys(string.punctuation + string.whitespace, " ") | {mark: f" {mark} " for mark in _SYMBOLS} | {"'": None}
)
_WORD = re.compile(r"[^\W_]+|[^\w\s]|_")
_UNSPACED = re.compile(r"([\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0eff\U00020000-\U0003ffff])")


def normal(text: str) -> str:
    """The words and symbols of `text` in lower case with single spaces; sentence punctuation is dropped.

    Symbols stay (`2 + 3` is not `2 - 3`, and an emoji can be all that differs); scripts written without spaces
    count each letter as a word."""
    if text.isascii():
        return " ".join(text.lower().translate(_TO_SPACE).split()) or text.strip()
    folded = unicodedata.normalize("NFKC", text).casefold().replace("'", "").replace("\u2019", "")
    parts = _WORD.findall(_UNSPACED.sub(r" \1 ", folded))
    words = [part for part in parts if part in _SYMBOLS or unicodedata.category(part[0])[0] != "P"]
    return " ".join(words) or text.strip()


def key(normalised: str) -> int:
    """64 bits of BLAKE2b of a normalised text."""
    return int.from_bytes(hashlib.blake2b(normalised.encode(), digest_size=8).digest(), "little")
