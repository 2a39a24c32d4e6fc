"""Every error allmend raises on purpose.

    AllmendError                 exit   what it is about
    ├── UsageError                 2    a flag, a setting, a name on the command line
    ├── DangerousPlan              3    `--strict` and a dangerous finding
    ├── InputError                 4    a file, a row, a notebook that cannot be read or used
    ├── NotFound                   5    a model, run, file or adapter that is not there
    ├── FetchError                 6    a download that failed or did not match its digest
    ├── DoesNotFit                 7    disk, memory, budget or context too small
    ├── Refused                    8    something that was not permitted, or a licence not accepted
    ├── Unavailable                9    a port in use, an engine, extra or feature of this machine missing
    └── TrainingDiverged          10    the loss became NaN or ran away; the last good adapter was kept

An interruption (Ctrl-C, SIGTERM) exits with 130; a bug in allmend with 1; an unplanned effect under
`run --check` with 11; a notebook whose cell failed, or that was ended by a limit, with 12; a lock that does not
hold under `lock --check` with 13. The table is in `docs/exit-codes.md`, which a test holds equal to this one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AllmendError(Exception):
    """An error made for the person who reads it.

    Args:
        message: what was wrong, in one sentence.
        where: the place: a file, row, cell, line, flag.
        hint: what to do next.
    """

    exit_code = 1

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.message}" if self.where else self.message]
        if self.hint:
            parts.append(self.hint)
        return "\n".join(parts)


class UsageError(AllmendError):
    """A flag, a setting or a name that was typed is wrong."""

    exit_code = 2


class DangerousPlan(AllmendError):
    """`--strict` was given and the plan holds a dangerous finding."""

    exit_code = 3


class InputError(AllmendError):
    """Something that came from outside cannot be read or used."""

    exit_code = 4


class NotFound(AllmendError):
    """A model, run, file or adapter is not where it was looked for."""

    exit_code = 5


class FetchError(AllmendError):
    """A download failed, or what arrived is not what was expected."""

    exit_code = 6


class DoesNotFit(AllmendError):
    """Disk, memory, budget or context is too small."""

    exit_code = 7


class Refused(AllmendError):
    """Something was not permitted."""

    exit_code = 8


class Unavailable(AllmendError):
    """This machine or installation lacks what was asked for."""

    exit_code = 9


class TrainingDiverged(AllmendError):
    """The loss became NaN or ran away."""

    exit_code = 10


def nearest(word: str, known: Iterable[str], count: int = 3) -> str:
    """A hint naming the known words nearest to `word`, or all of them when few and none is near."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=count, cutoff=0.55)
    if close:
        return "Did you mean " + " or ".join(repr(name) for name in close) + "?"
    if names and len(names) <= 12:
        return "Known: " + ", ".join(names) + "."
    return ""
