"""What is remembered of prompts: counted, keyed by what it was computed from, and given up when room is short."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import tiny
from allmend.engines.text import AdapterUse, Sampling, TextRequest
from allmend.engines.torch.pages import Pages, chain
from allmend.engines.torch.setup import build_engine

PROMPT = tuple(range(1, 40))
ONE = Sampling(max_tokens=1, temperature=0)


def test_a_prompt_that_came_before_is_not_computed_again_but_only_for_the_same_adapter() -> None:
    base = tiny.model("llama")
    engine = build_engine(base, tiny.tokenizer(), context=80, page_size=8)
    try:
        engine.add_adapter("a", tiny.lora(base, seed=1))
        engine.add_adapter("b", tiny.lora(base, seed=2))

        def cached(prompt: tuple[int, ...], *names: str, scale: float = 1.0) -> int:
            uses = tuple(AdapterUse(name, scale) for name in names)
            return engine.complete([TextRequest(prompt, ONE, uses)])[0].usage.cached

        assert cached(PROMPT) == 0
        assert cached(PROMPT) == 32
        assert cached((*PROMPT[:20], 99, 98)) == 16
        assert cached(PROMPT, "a") == 0
        assert cached(PROMPT, "a") == 32
        assert cached(PROMPT, "b") == 0
        assert cached(PROMPT, "a", scale=0.5) == 0
        # The same name with other weights is another adapter; the same weights under another name are the same.
        engine.remove_adapter("b")
        engine.add_adapter("b", tiny.lora(base, seed=3))
        assert cached(PROMPT, "b") == 0
        engine.add_adapter("c", tiny.lora(base, seed=1))
        assert cached(PROMPT, "c") == 32
    finally:
        engine.close()


def test_scoring_reuses_the_prompt_but_not_what_is_scored() -> None:
    base = tiny.model("llama")
    engine = build_engine(base, tiny.tokenizer(), context=80, page_size=8)
    try:
        first = engine.score(PROMPT[:24], [(5, 6, 7), (8, 9)])
        assert engine.score(PROMPT[:24], [(5, 6, 7), (8, 9)]) == first
        answer = engine.complete([TextRequest(PROMPT, Sampling(max_tokens=0, logprobs=0, prompt_logprobs=24))])[0]
        assert answer.usage.cached == 16 and len(answer.prompt_tokens) == len(PROMPT) - 24
    finally:
        engine.close()


def test_names_tell_every_difference_before_them_apart() -> None:
    assert chain(chain(b"x", [1]), [2]) != chain(chain(b"x", [2]), [1])
    assert chain(b"x", [1, 2]) != chain(b"y", [1, 2])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6), st.booleans()), max_size=40))
def test_pages_are_never_lost_nor_held_by_two_who_do_not_share(moves: list[tuple[int, int, bool]]) -> None:
    pages = Pages(13, size=4)
    held: dict[int, list[int]] = {}
    for who, count, named in moves:
        if who in held:
            pages.give(held.pop(who))
            continue
        names = [bytes([who, place]) for place in range(count)]
        mine: list[int] = []
        while len(mine) < count and (page := pages.find(names[len(mine)])) is not None:
            mine.append(page)
        more = pages.take(count - len(mine))
        if more is None:
            pages.give(mine)
            continue
        if named:
            for place, page in enumerate(more, len(mine)):
                pages.name(page, names[place])
        held[who] = mine + more
        every = [page for each in held.values() for page in each]
        assert len(set(every)) == len(every) and 0 not in every
        assert pages.free + len(every) == 12
