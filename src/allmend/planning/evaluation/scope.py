"""Names and what they hold, with a journal so that both ways of a branch can be followed and joined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from allmend.planning.evaluation.values import LIMIT, Arms, Value, agree, either, options

_MISSING = object()


class Scope:
    """One namespace: a notebook's globals, a function's locals, a class body, the shell's variables."""

    __slots__ = ("declared_global", "names", "parent")

    def __init__(self, parent: Scope | None = None) -> None:
        self.names: dict[str, Value] = {}
        self.parent = parent
        self.declared_global: set[str] = set()


class Journal:
    """Records what assignments change, to take them back or join them after a branch."""

    __slots__ = ("_branches", "_frames")

    def __init__(self) -> None:
        self._frames: list[dict[tuple[int, str], tuple[dict[str, Value], Any]]] = []
        self._branches = 0

    def set(self, names: dict[str, Value], name: str, value: Value) -> None:
        """Assign, remembering what was there before."""
        if self._frames:
            key = (id(names), name)
            frame = self._frames[-1]
            if key not in frame:
                frame[key] = (names, names.get(name, _MISSING))
        names[name] = value

    def branch(self, arms: list[Callable[[], None]], *, may_skip: bool) -> None:
        """Run each arm from the same state and join what they leave; `may_skip` adds the way that runs none."""
        branch = self._branches
        self._branches += 1
        before: dict[tuple[int, str], tuple[dict[str, Value], Any]] = {}
        after: list[dict[tuple[int, str], Value]] = []
        for arm in arms:
            self._frames.append({})
            try:
                arm()
            finally:
                frame = self._frames.pop()
            left: dict[tuple[int, str], Value] = {}
            for key, (names, old) in frame.items():
                left[key] = names.get(key[1], _MISSING)
                before.setdefault(key, (names, old))
                if old is _MISSING:
                    names.pop(key[1], None)
                else:
                    names[key[1]] = old
            after.append(left)
        for key, (names, old) in before.items():
            found: list[tuple[Arms, Value]] = []
            for arm_number, left in enumerate(after):
                value = left.get(key, old)
                if value is not _MISSING:
                    self._add(found, branch, arm_number, value)
            if may_skip and old is not _MISSING and old not in (None, ""):
                self._add(found, branch, len(arms), old)
            if found:
                self.set(names, key[1], _settled(key[1], found, old))

    @staticmethod
    def _add(found: list[tuple[Arms, Value]], branch: int, arm: int, value: Value) -> None:
        if len(found) > 3 * LIMIT:
            return
        for arms, option in options(value):
            both = agree(arms, ((branch, arm),))
            if both is not None:
                found.append((both, option))


def _settled(name: str, found: list[tuple[Arms, Value]], old: Value) -> Value:
    """One value for a name after a branch. The working directory follows the first way that moved it."""
    if name == "<cwd>":
        return next((value for _, value in found if value != old), old)
    full = [(arms, value) for arms, value in found if value is not None and value != ""]
    return either(full or found)
