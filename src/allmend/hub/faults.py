"""Failures in the shape that Hub clients read: a status, `X-Error-Code`, `X-Error-Message`, and the words as JSON."""

from __future__ import annotations

import re
import secrets

from starlette.responses import JSONResponse

from allmend.errors import AllmendError, DoesNotFit, FetchError, InputError, NotFound, Refused, Unavailable, UsageError


class Fault(Exception):
    """What a client is told.

    Args:
        status: the HTTP status.
        words: what was wrong, in a person's words.
        code: what clients look for: RepoNotFound, RevisionNotFound, EntryNotFound, GatedRepo.
        headers: more headers of the answer.
    """

    def __init__(self, status: int, words: str, code: str | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(words)
        self.status = status
        self.words = words
        self.code = code
        self.headers = headers or {}

    def response(self) -> JSONResponse:
        """The answer."""
        headers = {"X-Error-Message": in_header(self.words), "X-Request-Id": secrets.token_hex(8), **self.headers}
        if self.code:
            headers["X-Error-Code"] = self.code
        return JSONResponse({"error": self.words}, self.status, headers=headers)


def in_header(words: str) -> str:
    """Words as a header can hold them: plain letters, and no space at either end, which servers refuse to send."""
    return re.sub(r"[^\x20-\x7e]+", " ", words)[:500].strip()


def no_repository(words: str = "Repository not found") -> Fault:
    """There is none, or the visitor may not know that there is."""
    return Fault(404, words, "RepoNotFound")


def no_revision(revision: str) -> Fault:
    """The repository has no such branch, tag or commit."""
    return Fault(404, f"Invalid rev id: {revision[:120]}", "RevisionNotFound")


def no_entry(path: str) -> Fault:
    """The commit has no such file."""
    return Fault(404, f"Entry not found: {path[:200]}", "EntryNotFound")


_STATUS: list[tuple[type[AllmendError], int]] = [
    (NotFound, 404), (UsageError, 400), (InputError, 400), (Refused, 403), (DoesNotFit, 413), (FetchError, 502),
    (Unavailable, 503),
]  # fmt: skip


def of_error(error: AllmendError) -> Fault:
    """An error of allmend's as an answer; where something lies on this machine is left out."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    return Fault(status, " ".join(part for part in (error.message, error.hint) if part))
