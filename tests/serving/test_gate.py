"""The queue: who is next, who is told to come again, and that nobody is forgotten."""

from __future__ import annotations

import asyncio
import heapq
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allmend.serving.gate import Gate, Overloaded, TooLate


def run(coroutine):
    return asyncio.run(coroutine)


def test_one_key_with_many_requests_does_not_starve_another():
    async def scene():
        gate = Gate(1, longest=1e9)
        first = gate.enter("busy", tokens=10)
        many = [gate.enter("busy", tokens=10) for _ in range(20)]
        one = gate.enter("quiet", tokens=10)
        order = []
        gate.leave(first)
        while len(order) < 21:
            (now,) = [place for place in [*many, one] if place.is_in and not place.gone]
            order.append(now.key)
            gate.leave(now)
        return order

    assert run(scene()).index("quiet") <= 1


def test_shares_are_by_tokens_not_by_requests():
    async def scene():
        gate = Gate(1, longest=1e9)
        first = gate.enter("x", tokens=1)
        large = [gate.enter("large", tokens=100) for _ in range(10)]
        small = [gate.enter("small", tokens=10) for _ in range(100)]
        gate.leave(first)
        tokens = {"large": 0, "small": 0}
        for _ in range(60):
            (now,) = [place for place in [*large, *small] if place.is_in and not place.gone]
            tokens[now.key] += now.tokens
            gate.leave(now)
        return tokens

    tokens = run(scene())
    assert abs(tokens["large"] - tokens["small"]) <= 100


def test_higher_priority_comes_first():
    async def scene():
        gate = Gate(1, longest=1e9)
        first = gate.enter("a")
        low, high = gate.enter("a", priority=-5), gate.enter("b", priority=3)
        assert (gate.position(high), gate.position(low)) == (1, 2)
        gate.leave(first)
        return high.is_in, low.is_in

    assert run(scene()) == (True, False)


def test_whoever_would_wait_too_long_is_told_when_to_come_again():
    async def scene():
        now = [0.0]
        gate = Gate(2, longest=5, clock=lambda: now[0])
        running = [gate.enter("a") for _ in range(2)]
        for _ in range(20):  # Answers take two seconds each.
            now[0] += 1.0
            gate.leave(running.pop(0))
            running.append(gate.enter("a"))
        waiting = []
        with pytest.raises(Overloaded) as caught:
            while len(waiting) < 50:
                waiting.append(gate.enter("a"))
        assert 3 <= len(waiting) <= 7
        assert caught.value.retry_after > 0 and caught.value.place == len(waiting) + 1
        gate.leave(waiting[2])
        gate.enter("a")
        with pytest.raises(Overloaded):
            gate.enter("b", deadline=now[0] + 0.01)

    run(scene())


def test_answers_that_began_together_leave_together_and_the_estimate_knows():
    async def scene():
        now = [0.0]
        gate = Gate(4, longest=4.0, clock=lambda: now[0])
        for _ in range(30):  # Four at once, eight seconds each: one leaves in two seconds, on average.
            four = [gate.enter("a") for _ in range(4)]
            now[0] += 8.0
            for place in four:
                gate.leave(place)
        four = [gate.enter("a") for _ in range(4)]
        now[0] += 2.0
        with pytest.raises(Overloaded) as caught:
            gate.enter("b")  # Six seconds to wait, not two.
        assert 1.9 < caught.value.retry_after < 3.0
        now[0] += 3.0
        next_one = gate.enter("b")
        assert 2.9 < next_one.estimate < 4.0
        now[0] += 3.0
        for place in four:
            gate.leave(place)
        assert next_one.is_in

    run(scene())


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(0, 2**32), st.floats(1.0, 20.0))
def test_who_is_let_in_waits_about_as_long_as_was_told(slots, seed, times):
    """Ten times more than is computed: waiting stays near its bound, whatever arrives."""

    async def scene():
        chance, now, longest = random.Random(seed), [0.0], 0.5
        gate = Gate(slots, longest=longest, clock=lambda: now[0])
        ends, waiting, waits = [], [], []
        due = 0.0
        while len(waits) < 300:
            due += chance.expovariate(times * slots)
            while ends and ends[0][0] <= due:
                now[0], _, place = heapq.heappop(ends)
                gate.leave(place)
                for came, each in [item for item in waiting if item[1].is_in]:
                    waiting.remove((came, each))
                    waits.append(now[0] - came)
                    heapq.heappush(ends, (now[0] + chance.uniform(0.8, 1.2), id(each), each))
            now[0] = due
            try:
                place = gate.enter("a")
            except Overloaded:
                continue
            if place.is_in:
                heapq.heappush(ends, (due + chance.uniform(0.8, 1.2), id(place), place))
            else:
                waiting.append((due, place))
        settled = sorted(waits[50:])
        assert settled[int(0.99 * len(settled))] <= longest + 0.4

    run(scene())


def test_an_engine_that_hung_says_nothing_of_how_long_answers_take():
    async def scene(learn):
        now = [0.0]
        gate = Gate(4, longest=5, clock=lambda: now[0])
        for seconds, lost in ((1, False), (1, False), (300, True)):
            inside = [gate.enter(f"k{number}") for number in range(4)]
            now[0] += seconds
            for place in inside:
                gate.leave(place, learn=learn or not lost)
        for number in range(4):
            gate.enter(f"k{number}")
        return gate.estimate(1)

    assert run(scene(learn=False)) < 5 < run(scene(learn=True))


def test_the_queue_has_an_end():
    async def scene():
        gate = Gate(1, longest=1e9, queue=3)
        for _ in range(4):
            gate.enter("a")
        with pytest.raises(Overloaded):
            gate.enter("a")

    run(scene())


def test_memory_holds_requests_back_but_never_for_ever():
    async def scene():
        gate = Gate(10, tokens=100, longest=1e9)
        first, second = gate.enter("a", tokens=60), gate.enter("a", tokens=60)
        assert first.is_in and not second.is_in
        gate.leave(first)
        assert second.is_in
        gate.leave(second)
        assert gate.enter("a", tokens=1000).is_in  # Alone, it may have all there is.

    run(scene())


def test_memory_may_change_with_the_model():
    async def scene():
        gate = Gate(10, tokens=100, longest=1e9)
        places = [gate.enter("a", tokens=60) for _ in range(3)]
        gate.tokens = 200
        gate.leave(places[0])
        assert [place.is_in for place in places[1:]] == [True, True]

    run(scene())


def test_who_comes_and_goes_leaves_nothing_in_the_queue():
    async def scene():
        gate = Gate(1, longest=1e9)
        held, first = gate.enter("a"), gate.enter("a")
        waiting = []
        for number in range(2000):
            place = gate.enter(f"k{number}")
            if number % 500:
                gate.leave(place)
            else:
                waiting.append(place)
        assert gate.waiting == 5 and len(gate._heap) < 200
        left = [first, *waiting]
        gate.leave(held)
        while left:
            (now,) = [place for place in left if place.is_in]
            left.remove(now)
            gate.leave(now)
        assert gate.waiting == 0 and not gate._heap

    run(scene())


def test_a_request_for_more_than_fits_at_once_is_not_refused_alone():
    async def scene():
        gate = Gate(4, longest=0.5)
        gate.check("a", answers=64)
        large = gate.enter("a", answers=64)
        assert large.is_in
        with pytest.raises(Overloaded):
            gate.check("a", answers=64)
        gate.leave(large)
        gate.check("a", answers=64)

    run(scene())


def test_a_deadline_ends_the_waiting():
    async def scene():
        gate = Gate(1, longest=1e9)
        gate.enter("a")
        place = gate.enter("a")
        assert not await gate.wait(place, at_most=0.01)
        assert not await gate.wait(place, deadline=gate._clock() + 1000, at_most=0.01)
        for seconds in (0.02, -1):
            with pytest.raises(TooLate):
                await gate.wait(place, deadline=gate._clock() + seconds)
        with pytest.raises(TooLate):
            await gate.wait(place, deadline=gate._clock() + 0.02, at_most=1000)

    run(scene())


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("elll"), st.sampled_from("abc"), st.integers(1, 4), st.integers(0, 60),
                  st.integers(-2, 2), st.integers(0, 10**6)),
        max_size=60,
    )
)  # fmt: skip
def test_bounds_hold_and_nobody_is_forgotten(steps):
    async def scene():
        gate = Gate(4, tokens=100, longest=1e9, queue=10**6)
        live = []
        for what, key, answers, tokens, priority, which in steps:
            if what == "e":
                live.append(gate.enter(key, answers=answers, tokens=tokens, priority=priority))
            elif live:
                gate.leave(live.pop(which % len(live)))
            inside = [place for place in live if place.is_in]
            assert len(inside) <= 1 or sum(place.answers for place in inside) <= 4
            assert len(inside) <= 1 or sum(place.tokens for place in inside) <= 100
            assert bool(inside) == bool(live)
            assert gate.waiting == sum(place.answers for place in live if not place.is_in)
        for _ in range(len(live)):
            inside = [place for place in live if place.is_in]
            assert inside
            gate.leave(inside[0])
            live.remove(inside[0])
        assert (gate.waiting, gate._running, gate._held) == (0, 0, 0)

    run(scene())
