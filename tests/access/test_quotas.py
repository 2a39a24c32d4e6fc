"""Limits under concurrency: never one more than they say, and what was not used comes back."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmend.access.limits import Limits
from allmend.access.quotas import Exceeded, Quotas

KEY = ("key", None)


class Clock:
    now = 1000.0
    day = "2026-01-01"

    def quotas(self, used=0):
        return Quotas(lambda holder, day: used, lambda: self.now, lambda: self.day)


def at_once(count, attempt):
    """How often `attempt` went through, from many threads at once."""
    ready, through = threading.Barrier(count), []

    def run():
        ready.wait()
        try:
            through.append(attempt())
        except Exceeded:
            pass

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return through


@pytest.mark.parametrize("limits", [Limits(requests_per_minute=5), Limits(concurrent=5)])
def test_no_more_get_in_at_once_than_may(limits):
    quotas = Quotas()
    assert len(at_once(40, lambda: quotas.enter([(KEY, limits)]))) == 5


def test_no_more_tokens_are_set_aside_at_once_than_there_are():
    limits = Limits(tokens_per_minute=100)
    quotas = Quotas()

    def attempt():
        admission = quotas.enter([(KEY, limits)])
        admission.reserve(30)
        return admission

    assert len(at_once(20, attempt)) == 3


def test_windows_move_on_and_say_when():
    clock = Clock()
    quotas = clock.quotas()
    limits = Limits(requests_per_minute=2)
    quotas.enter([(KEY, limits)])
    clock.now += 20
    quotas.enter([(KEY, limits)])
    with pytest.raises(Exceeded) as caught:
        quotas.enter([(KEY, limits)])
    assert caught.value.retry_after == pytest.approx(40)
    clock.now += 40.001
    quotas.enter([(KEY, limits)])


def test_what_was_not_used_comes_back():
    clock = Clock()
    quotas = clock.quotas()
    limits = Limits(tokens_per_minute=100, tokens_per_day=130)
    first = quotas.enter([(KEY, limits)])
    first.reserve(90)
    second = quotas.enter([(KEY, limits)])
    with pytest.raises(Exceeded, match="minute"):
        second.reserve(20)
    first.settle(40)
    first.leave()
    second.reserve(60)
    second.leave()  # It ended without an answer.
    third = quotas.enter([(KEY, limits)])
    third.reserve(60)
    third.settle(60)
    clock.now += 61
    with pytest.raises(Exceeded, match="a day") as caught:
        quotas.enter([(KEY, limits)]).reserve(31)
    assert 0 < caught.value.retry_after <= 86400
    clock.day = "2026-01-02"
    quotas.enter([(KEY, limits)]).reserve(31)


def test_a_request_that_can_never_pass_is_told_so():
    with pytest.raises(Exceeded) as caught:
        Quotas().enter([(KEY, Limits(tokens_per_minute=10))]).reserve(11)
    assert caught.value.retry_after is None


def test_the_day_goes_on_from_the_ledger():
    quotas = Clock().quotas(used=95)
    admission = quotas.enter([(KEY, Limits(tokens_per_day=100))])
    admission.reserve(5)
    with pytest.raises(Exceeded):
        quotas.enter([(KEY, Limits(tokens_per_day=100))]).reserve(1)


def test_a_limit_that_comes_later_knows_of_the_day_before_it():
    clock = Clock()
    quotas = clock.quotas(used=95)
    admission = quotas.enter([(KEY, Limits(requests_per_minute=60))])  # No limit a day: the ledger is not asked.
    admission.settle(3)
    admission.leave()
    narrow = [(KEY, Limits(tokens_per_day=100))]
    assert quotas.needs_look_up(narrow)
    quotas.enter(narrow).reserve(5)
    assert not quotas.needs_look_up(narrow)
    with pytest.raises(Exceeded):
        quotas.enter(narrow).reserve(1)
    clock.day = "2026-01-02"
    assert quotas.needs_look_up(narrow)


def test_a_crowd_of_users_makes_nobody_forget_what_was_used(monkeypatch):
    monkeypatch.setattr("allmend.access.quotas._MOST_BOOKS", 20)
    clock = Clock()
    quotas = clock.quotas()
    limits = Limits(requests_per_minute=1)
    for number in range(40):
        quotas.enter([(("other", f"u{number}"), Limits())]).leave()
        clock.now += 5
    quotas.enter([(KEY, limits)]).leave()
    for number in range(8):
        quotas.enter([(("other", f"v{number}"), Limits())]).leave()
    with pytest.raises(Exceeded):
        quotas.enter([(KEY, limits)])
    assert len(quotas._books) <= 21


def test_a_user_is_held_to_both_limits_and_a_refusal_counts_for_neither():
    quotas = Quotas()
    key, one, two = Limits(concurrent=2), Limits(concurrent=1), Limits(concurrent=1)
    quotas.enter([(KEY, key), (("key", "one"), one)])
    with pytest.raises(Exceeded):
        quotas.enter([(KEY, key), (("key", "one"), one)])
    quotas.enter([(KEY, key), (("key", "two"), two)])
    with pytest.raises(Exceeded):
        quotas.enter([(KEY, key), (("key", "three"), one)])


def test_adapters_are_counted_by_which_they_are():
    quotas = Quotas()
    limits = Limits(adapters=2)
    for digest in ("a", "b", "a", "b"):
        quotas.enter([(KEY, limits)]).reserve(1, [digest])
    with pytest.raises(Exceeded, match="adapters"):
        quotas.enter([(KEY, limits)]).reserve(1, ["c"])
    with pytest.raises(Exceeded, match="adapters"):
        quotas.enter([(KEY, limits)]).check_another_adapter()
    quotas.enter([(("other", None), limits)]).check_another_adapter()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("elsx"), st.integers(1, 60), st.floats(0, 30)), max_size=40))
def test_within_any_minute_no_more_tokens_than_the_limit(steps):
    clock = Clock()
    quotas = clock.quotas()
    limits = Limits(tokens_per_minute=100, concurrent=3)
    live, used = [], []
    for what, tokens, seconds in steps:
        clock.now += seconds
        if what == "e":
            try:
                admission = quotas.enter([(KEY, limits)])
                live.append((admission, tokens))
                admission.reserve(tokens)
            except Exceeded:
                if live and live[-1][0]._reserved == 0:
                    live.pop()[0].leave()
        elif live and what in "sx":
            admission, most = live.pop(0)
            if what == "s":
                spent = min(tokens, most)
                admission.settle(spent)
                used.append((clock.now, spent))
            admission.leave()
        assert len(live) <= 3
        assert sum(spent for when, spent in used if when > clock.now - 60) <= 100
