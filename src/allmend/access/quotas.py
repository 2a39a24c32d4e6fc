"""How much each key, and each user behind one, has used of what it may: counted in memory, exact under concurrency.

A request is counted when it enters; the most that it can use is set aside before any work is done for it, and what it
really used replaces that at its end. So no number of requests at once gets more through than the limit says.

Counts are of this process; the day's tokens begin from what the ledger holds, so a restart forgives nothing of them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from allmend.access.limits import Limits

MINUTE = 60.0
_MOST_BOOKS = 50_000

Holder = tuple[str, str | None]
"""A key's public name, and the user behind it or None for the key as a whole."""


class Exceeded(Exception):
    """A limit was reached.

    Attributes:
        what: `requests`, `tokens`, `concurrent` or `adapters`.
        retry_after: seconds after which it is worth trying again; None where waiting does not help.
        headers: the narrowest limits, as `Admission.headers` tells them, where the request did not come in.
    """

    def __init__(self, what: str, words: str, retry_after: float | None) -> None:
        super().__init__(words)
        self.what = what
        self.words = words
        self.retry_after = retry_after
        self.headers: dict[str, str] = {}


@dataclass
class _Book:
    requests: deque[float] = field(default_factory=deque)
    tokens: deque[tuple[float, int]] = field(default_factory=deque)
    minute: int = 0
    reserved: int = 0
    running: int = 0
    day: str = ""
    today: int = 0
    asked: bool = False
    """Whether `today` has what the ledger holds: only keys with a limit a day need that."""
    adapters: set[str] = field(default_factory=set)

    def turn(self, now: float, day: str) -> None:
        """Let go of what is older than the windows."""
        while self.requests and self.requests[0] <= now - MINUTE:
            self.requests.popleft()
        while self.tokens and self.tokens[0][0] <= now - MINUTE:
            self.minute -= self.tokens.popleft()[1]
        if day != self.day:
            self.day, self.today, self.asked, self.adapters = day, 0, False, set()


def today() -> str:
    """The day by which tokens are counted."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


class Quotas:
    """The books of all keys.

    Args:
        used_today: tokens that the ledger holds for a holder on a day; asked once a holder and day.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        used_today: Callable[[Holder, str], int] = lambda holder, day: 0,
        clock: Callable[[], float] = time.monotonic,
        day: Callable[[], str] = today,
    ) -> None:
        self._used_today, self._clock, self._day = used_today, clock, day
        self._books: dict[Holder, _Book] = {}
        self._lock = threading.Lock()

    def enter(self, holders: Sequence[tuple[Holder, Limits]]) -> Admission:
        """Count a request; raises `Exceeded`. The admission must be left at its end, whatever happens."""
        day = self._day()
        for holder, limits in holders:
            self._make(holder, limits, day)
        with self._lock:
            now = self._clock()
            books = [(self._book(holder, now, day), limits) for holder, limits in holders]
            try:
                for book, limits in books:
                    _check_entry(book, limits, now)
            except Exceeded as error:
                error.headers = _headers(books, now)
                raise
            for book, _ in books:
                book.requests.append(now)
                book.running += 1
        return Admission(self, books)

    def needs_look_up(self, holders: Sequence[tuple[Holder, Limits]]) -> bool:
        """Whether `enter` would ask the database: if not, it takes microseconds and needs no thread."""
        day = self._day()
        return any(self._to_ask(holder, limits, day) for holder, limits in holders)

    def _to_ask(self, holder: Holder, limits: Limits, day: str) -> bool:
        known = self._books.get(holder)
        return limits.tokens_per_day is not None and (known is None or known.day != day or not known.asked)

    def _make(self, holder: Holder, limits: Limits, day: str) -> None:
        if holder in self._books and not self._to_ask(holder, limits, day):
            return
        # The database is asked outside the lock; whoever is second finds the book made.
        used = self._used_today(holder, day) if limits.tokens_per_day is not None else None
        with self._lock:
            book = self._books.setdefault(holder, _Book(day=day))
            book.turn(self._clock(), day)
            if used is not None and not book.asked:
                # The limit may be newer than the book, which then holds what this process has seen.
                book.today, book.asked = max(book.today, used), True
            if len(self._books) > _MOST_BOOKS:
                self._forget_idle(holder, day)

    def _forget_idle(self, holder: Holder, day: str) -> None:
        """Make room: first books that say nothing that the ledger does not; only where that is not enough, others."""
        now = self._clock()
        idle = [(name, book) for name, book in self._books.items() if not book.running and name != holder]
        for _, book in idle:
            book.turn(now, day)
        silent = [name for name, book in idle if not (book.requests or book.tokens or book.adapters)]
        for each in silent if len(silent) > _MOST_BOOKS // 2 else [name for name, _ in idle]:
            del self._books[each]

    def _book(self, holder: Holder, now: float, day: str) -> _Book:
        book = self._books.setdefault(holder, _Book(day=day))
        book.turn(now, day)
        return book


class Admission:
    """One request's place in the books."""

    def __init__(self, quotas: Quotas, books: list[tuple[_Book, Limits]]) -> None:
        self._quotas, self._books = quotas, books
        self._reserved = 0
        self._left = False

    def reserve(self, tokens: int, adapters: Sequence[str] = ()) -> None:
        """Set aside the most that the request can use; raises `Exceeded`."""
        with self._quotas._lock:
            now = self._quotas._clock()
            for book, limits in self._books:
                book.turn(now, self._quotas._day())
                _check_tokens(book, limits, tokens, now)
                _check_adapters(book, limits, adapters)
            for book, _ in self._books:
                book.reserved += tokens
                book.adapters.update(adapters)
            self._reserved += tokens

    def check_another_adapter(self) -> None:
        """Raise `Exceeded` where no adapter beyond those asked for today may be: before one is fetched."""
        with self._quotas._lock:
            for book, limits in self._books:
                book.turn(self._quotas._clock(), self._quotas._day())
                if limits.adapters is not None and len(book.adapters) >= limits.adapters:
                    raise _too_many_adapters(limits.adapters)

    def settle(self, tokens: int) -> None:
        """Count what was really used in place of what was set aside."""
        with self._quotas._lock:
            now = self._quotas._clock()
            for book, _ in self._books:
                book.turn(now, self._quotas._day())
                book.reserved -= self._reserved
                book.tokens.append((now, tokens))
                book.minute += tokens
                book.today += tokens
            self._reserved = 0

    def leave(self) -> None:
        """The request is over; what was set aside and not settled is given back."""
        with self._quotas._lock:
            if self._left:
                return
            self._left = True
            for book, _ in self._books:
                book.running -= 1
                book.reserved -= self._reserved
            self._reserved = 0

    def headers(self) -> dict[str, str]:
        """The narrowest limits in the headers that OpenAI's clients know."""
        with self._quotas._lock:
            return _headers(self._books, self._quotas._clock())


def _headers(books: Sequence[tuple[_Book, Limits]], now: float) -> dict[str, str]:
    found: dict[str, str] = {}
    for book, limits in books:
        if limits.requests_per_minute is not None:
            left = max(limits.requests_per_minute - len(book.requests), 0)
            reset = book.requests[0] + MINUTE - now if book.requests else 0.0
            _narrowest(found, "requests", limits.requests_per_minute, left, reset)
        if limits.tokens_per_minute is not None:
            left = max(limits.tokens_per_minute - book.minute - book.reserved, 0)
            reset = book.tokens[0][0] + MINUTE - now if book.tokens else 0.0
            _narrowest(found, "tokens", limits.tokens_per_minute, left, reset)
    return found


def _narrowest(found: dict[str, str], what: str, limit: int, left: int, reset: float) -> None:
    if left < int(found.get(f"x-ratelimit-remaining-{what}", left + 1)):
        found[f"x-ratelimit-limit-{what}"] = str(limit)
        found[f"x-ratelimit-remaining-{what}"] = str(left)
        found[f"x-ratelimit-reset-{what}"] = f"{max(reset, 0.0):.3f}s"


def _check_entry(book: _Book, limits: Limits, now: float) -> None:
    most = limits.requests_per_minute
    if most is not None and len(book.requests) >= most:
        wait = book.requests[-most] + MINUTE - now
        raise Exceeded("requests", f"Rate limit reached: {most} requests a minute.", max(wait, 0.001))
    if limits.concurrent is not None and book.running >= limits.concurrent:
        raise Exceeded("concurrent", f"Limit reached: {limits.concurrent} requests at once.", 1.0)
    if limits.tokens_per_day is not None and book.today >= limits.tokens_per_day:
        raise Exceeded("tokens", f"Limit reached: {limits.tokens_per_day} tokens a day.", _until_midnight())


def _check_tokens(book: _Book, limits: Limits, tokens: int, now: float) -> None:
    most = limits.tokens_per_minute
    if most is not None and book.minute + book.reserved + tokens > most:
        words = f"Rate limit reached: {most} tokens a minute, of which this request may need {tokens}."
        if tokens > most:
            raise Exceeded("tokens", f"{words} Ask for fewer with max_tokens.", None)
        raise Exceeded("tokens", words, _wait_for(book, book.minute + book.reserved + tokens - most, now))
    most = limits.tokens_per_day
    if most is not None and book.today + book.reserved + tokens > most:
        left = max(most - book.today - book.reserved, 0)
        words = f"Limit reached: {most} tokens a day; {left} are left, and this request may need {tokens}."
        after = None if tokens > most else _until_midnight()
        raise Exceeded("tokens", f"{words} Ask for fewer with max_tokens.", after)


def _check_adapters(book: _Book, limits: Limits, adapters: Sequence[str]) -> None:
    if limits.adapters is not None and len(book.adapters | set(adapters)) > limits.adapters:
        raise _too_many_adapters(limits.adapters)


def _too_many_adapters(most: int) -> Exceeded:
    words = f"Limit reached: {most} different adapters a day."
    return Exceeded("adapters", words, _until_midnight() if most else None)


def _wait_for(book: _Book, needed: int, now: float) -> float:
    """Seconds until `needed` tokens have left the window; those that are only set aside are soon known."""
    for when, tokens in book.tokens:
        needed -= tokens
        if needed <= 0:
            return max(when + MINUTE - now, 0.001)
    return 1.0


def _until_midnight() -> float:
    now = datetime.now(UTC)
    return 86400.0 - (now.hour * 3600 + now.minute * 60 + now.second)
