"""Which requests of a batch were being answered when the engine, or the whole server, ended: they may be why.

Written down before a request is asked, beside the batch, so that it is known after the server's own end too. What the
system keeps of a file outlives the process that wrote it, so nothing is waited for.
"""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MOST = 3
"""Ends in a row, the last of them while nothing else was asked, after which a request is given up."""
MOST_BESIDE_OTHERS = 6
"""Where others were asked each time."""


@dataclass
class Try:
    """What is known of a request that has no answer."""

    ends: int = 0
    """Ends of the engine or the server while it was asked."""
    alone: bool = False
    """Whether nothing else was asked the last time, from its beginning to its end."""

    @property
    def is_given_up(self) -> bool:
        """Whether it is not to be asked any more."""
        return self.ends >= (MOST if self.alone else MOST_BESIDE_OTHERS)


class Tries:
    """Those of one batch.

    Args:
        path: the file; what cannot be read of it is as if it had not happened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: defaultdict[str, Try] = defaultdict(Try)
        self._read()

    def of(self, custom_id: str) -> Try:
        """One of them."""
        return self._known.get(custom_id) or Try()

    def begin(self, custom_id: str, *, alone: bool) -> None:
        """It is asked now. Until `ended` is called that counts as an end."""
        found = self._known[custom_id]
        found.ends, found.alone = found.ends + 1, alone
        self._write(custom_id, 1, alone)

    def joined(self, custom_id: str) -> None:
        """Something else is asked too, which may be why the engine or the server ends."""
        if (found := self._known.get(custom_id)) is not None and found.alone:
            found.alone = False
            self._write(custom_id, 0, False)

    def ended(self, custom_id: str) -> None:
        """Neither engine nor server ended by it."""
        found = self._known[custom_id]
        found.ends -= 1
        if not found.ends:
            del self._known[custom_id]
        self._write(custom_id, -1, found.alone)

    def _read(self) -> None:
        try:
            with self._path.open("rb") as handle:
                for raw in handle:
                    try:
                        name, more, alone = json.loads(raw)
                        found = self._known[str(name)]
                        found.ends, found.alone = found.ends + int(more), bool(alone)
                    except (ValueError, TypeError):
                        continue
        except OSError:
            pass
        self._known = defaultdict(Try, {name: each for name, each in self._known.items() if each.ends > 0})

    def _write(self, custom_id: str, more: int, alone: bool) -> None:
        # Where there is no room for it the answers have none either, and that is told of them.
        with suppress(OSError), self._path.open("ab") as handle:
            handle.write(json.dumps([custom_id, more, alone]).encode() + b"\n")
