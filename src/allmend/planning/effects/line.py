"""A simple command with the questions that every family of programs asks of its words."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from allmend.planning.evaluation.values import DERIVED

if TYPE_CHECKING:
    from allmend.nouns.plan import EffectKind
    from allmend.planning.session import Session
    from allmend.planning.shell import Shell
    from allmend.planning.shell_words import Command


class Line:
    """One command's words; `raw` keeps the marks of derivation that `words` is free of."""

    __slots__ = ("command", "install_detail", "raw", "session", "shell", "words")

    def __init__(self, session: Session, command: Command, shell: Shell) -> None:
        self.session = session
        self.command = command
        self.shell = shell
        self.raw = command.words
        self.words = [word.replace(DERIVED, "") for word in command.words]
        self.install_detail: dict[str, Any] = {}
        """What every install of this command shares: its options."""

    @property
    def name(self) -> str:
        """The program without its folder."""
        return posixpath.basename(self.words[0]) if self.words else ""

    @property
    def cwd(self) -> str:
        """The working directory of the command."""
        return self.command.cwd

    def exact(self, at: int) -> bool:
        """Whether word `at` was written as it is."""
        literal = self.command.literal
        return at < len(self.raw) and DERIVED not in self.raw[at] and (at >= len(literal) or literal[at])

    def add(
        self, kind: EffectKind, at: int, text: str | None = None, *, prefix: str = "", **detail: Any
    ) -> list[dict[str, Any]]:
        """Add an effect whose target is word `at`, or `text` taken from it."""
        value = self.raw[at] if text is None else text
        if kind == "install":
            detail = {**self.install_detail, **detail}
        return self.session.add(
            kind, value, literal=self.exact(at), prefix=prefix, detail=detail, line=self.command.line
        )

    def fixed(self, kind: EffectKind, target: str, **detail: Any) -> list[dict[str, Any]]:
        """Add an effect with a target that the program itself stands for."""
        return self.session.add(kind, target, literal=True, detail=detail, line=self.command.line)

    def flag(self, *names: str) -> bool:
        """Whether one of the flags was given."""
        return any(word in names or word.partition("=")[0] in names for word in self.words[1:])

    def option(self, *names: str) -> tuple[int, str] | None:
        """Where an option's value stands and what it is: `--name value` or `--name=value`."""
        for at, word in enumerate(self.words[1:], start=1):
            if word in names and at + 1 < len(self.words):
                return at + 1, self.words[at + 1]
            head, sign, value = word.partition("=")
            if sign and head in names:
                return at, value
        return None

    def positional(self, valued: Iterable[str] = (), start: int = 1, letters: str = "") -> list[int]:
        """The places of words that are neither flags nor values of the options in `valued`.

        `letters` names short options that take a value, also at the end of a bundle (`-qO FILE`, `-qOFILE`).
        """
        takes = set(valued)
        found: list[int] = []
        at = start
        while at < len(self.words):
            word = self.words[at]
            if word == "--":
                found.extend(range(at + 1, len(self.words)))
                break
            if word.startswith("--") and len(word) > 2:
                at += 2 if word in takes else 1
                continue
            if word.startswith("-") and len(word) > 1:
                if word in takes:
                    at += 2
                    continue
                place = next((n for n, letter in enumerate(word[1:], start=1) if letter in letters), 0)
                at += 2 if place and place == len(word) - 1 else 1
                continue
            if word:
                found.append(at)
            at += 1
        return found

    def short(self, letter: str, *names: str) -> tuple[int, str] | None:
        """The value of a short option, alone, bundled or glued, or of one of the long `names`."""
        long = self.option(*names) if names else None
        if long:
            return long
        for at, word in enumerate(self.words[1:], start=1):
            if word.startswith("-") and not word.startswith("--") and letter in word[1:]:
                place = word.index(letter, 1)
                if not word[1:place].isalpha() and place > 1:
                    continue
                if place == len(word) - 1:
                    return (at + 1, self.words[at + 1]) if at + 1 < len(self.words) else None
                return at, word[place + 1 :]
        return None
