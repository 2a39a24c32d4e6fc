"""Secrets and personal data in rows: a model repeats what it was trained on. Row numbers only, never the finds.

Looks for what has a fixed form; a name or a street address has none, and not finding one says nothing about it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from allmend.data.findings import Found, finding
from allmend.data.rows import Row, content_text
from allmend.nouns.data_report import DataProblem
from allmend.redaction import secrets_in

_MAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w@])")
_PHONE = re.compile(r"(?<![\w+.])\+\d{1,3}[ ./-]?(?:\(\d{1,5}\)[ ./-]?)?\d(?:[ ./-]?\d){6,12}(?!\w)")
_CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){12,18}(?![\w-])")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_NOT_PERSONAL = ("example.com", "example.org", "example.net")
_DAMAGED = re.compile("\ufffd|Ã[\x80-\xbf©¨¤¶¼±]|â€[\x80-\xbf™œž“”¦]")


class Sensitive:
    """Rows go in one by one; `findings` tells of secrets, personal data and damaged characters."""

    def __init__(self) -> None:
        self._secrets, self._personal, self._damaged = Found(), Found(), Found()
        self._secret_kinds: Counter[str] = Counter()
        self._personal_kinds: Counter[str] = Counter()

    def look(self, row: Row) -> None:
        """See the next row."""
        text = whole_text(row)
        for kinds, counts, found in (
            (secrets_in(text), self._secret_kinds, self._secrets),
            (personal_in(text), self._personal_kinds, self._personal),
        ):
            if kinds:
                counts.update(kinds)
                found.add(row.place)
        if not text.isascii() and _DAMAGED.search(text):
            self._damaged.add(row.place)

    def findings(self) -> list[DataProblem]:
        """What was found."""
        fix = "Take them out and revoke them: whoever has the adapter can get at what it was trained on."
        found = finding("secrets", "warning", f"hold {_summed(self._secret_kinds)}", self._secrets, fix)
        fix = "Replace what the task does not need."
        found += finding("personal-data", "warning", f"hold {_summed(self._personal_kinds)}", self._personal, fix)
        why = "hold characters that a wrong encoding left behind"
        return found + finding("damaged-text", "note", why, self._damaged, "Export the data again as UTF-8.")


def personal_in(text: str) -> list[str]:
    """The kinds of personal data with a fixed form that stand in `text`."""
    kinds = []
    if "@" in text and any(not mail[0].lower().endswith(_NOT_PERSONAL) for mail in _MAIL.finditer(text)):
        kinds.append("mail addresses")
    if "+" in text and _PHONE.search(text):
        kinds.append("telephone numbers")
    if any(_luhn(match[0]) for match in _CARD.finditer(text)):
        kinds.append("card numbers")
    if any(_iban(match[0]) for match in _IBAN.finditer(text)):
        kinds.append("bank accounts")
    return kinds


def whole_text(row: Row) -> str:
    """All the text of a row."""
    if row.text is not None:
        return row.text
    if row.messages is not None:
        return "\n".join(content_text(message) for message in row.messages)
    return f"{row.prompt}\n{row.completion}"


def _summed(kinds: Counter[str]) -> str:
    return ", ".join(f"{kind} ({count})" for kind, count in sorted(kinds.items()))


def _digits(text: Iterable[str]) -> list[int]:
    return [int(letter) for letter in text if letter.isdigit()]


def _luhn(text: str) -> bool:
    """The check digit of card numbers (ISO/IEC 7812-1); a run of one digit is none."""
    digits = _digits(text)
    doubled = [digit if place % 2 else (digit * 2 - 9 if digit > 4 else digit * 2)
               for place, digit in enumerate(digits, start=len(digits) % 2)]  # fmt: skip
    return sum(doubled) % 10 == 0 and len(set(digits)) > 1 and digits[0] in (2, 3, 4, 5, 6)


def _iban(text: str) -> bool:
    """The check digits of bank accounts (ISO 13616): the number modulo 97 is 1."""
    letters = text.replace(" ", "")
    return 15 <= len(letters) <= 34 and int("".join(str(int(x, 36)) for x in letters[4:] + letters[:4])) % 97 == 1
