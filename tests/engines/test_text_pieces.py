"""Tokens to text in pieces, and stop strings across them."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

import tiny
from allmend.engines.detokenise import Detokeniser, StopStrings
from allmend.engines.token_bytes import TokenBytes

TOKENIZER = tiny.tokenizer()


@given(st.text(max_size=60))
def test_pieces_of_any_text_add_up_and_are_never_broken(text: str) -> None:
    detokeniser = Detokeniser(TOKENIZER)
    pieces = [detokeniser.feed(token) for token in TOKENIZER(text)["input_ids"]]
    assert "\N{REPLACEMENT CHARACTER}" in text or all("\N{REPLACEMENT CHARACTER}" not in piece for piece in pieces)
    assert "".join(pieces) + detokeniser.flush() == text


@given(st.lists(st.integers(0, tiny.VOCABULARY - 1), max_size=40))
def test_any_tokens_give_text_that_can_be_encoded(tokens: list[int]) -> None:
    detokeniser = Detokeniser(TOKENIZER)
    text = "".join([detokeniser.feed(token) for token in tokens]) + detokeniser.flush()
    text.encode("utf-8")
    sound = TOKENIZER.decode(tokens, skip_special_tokens=True)
    if "\N{REPLACEMENT CHARACTER}" not in sound:
        assert text == sound


@given(st.text(max_size=30))
def test_token_bytes_are_the_bytes_of_the_text(text: str) -> None:
    look_up = TokenBytes(TOKENIZER)
    assert b"".join(look_up(token) for token in TOKENIZER(text)["input_ids"]) == text.encode()


@given(
    st.text(alphabet="ab", max_size=30),
    st.lists(st.text(alphabet="ab", min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.integers(1, 5), max_size=40),
)
def test_a_stop_is_found_however_the_text_is_cut(text: str, stops: list[str], cuts: list[int]) -> None:
    matcher, shown, place, stopped = StopStrings(stops), "", 0, False
    for cut in [*cuts, len(text) + 1]:
        safe, stopped = matcher.feed(text[place : place + cut])
        shown += safe
        assert not any(stop in shown for stop in stops)
        place += cut
        if stopped or place >= len(text):
            break
    if not stopped:
        shown += matcher.flush()
    assert text.startswith(shown)
    assert stopped == any(stop in text for stop in stops)
    if not stopped:
        assert shown == text
    else:
        # What follows is a stop: nothing that should have been shown is lost.
        assert any(text[len(shown) :].startswith(stop) for stop in stops)


@cache
def strips() -> Any:
    """A tokeniser as Llama 2's: a space is written as a mark, and the first one of a text is taken off."""
    words = ["<s>", "\N{LOWER ONE EIGHTH BLOCK}the", "\N{LOWER ONE EIGHTH BLOCK}sea", "s", "\N{LOWER ONE EIGHTH BLOCK}"]
    vocabulary = {word: place for place, word in enumerate(words)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    mark = decoders.Replace("\N{LOWER ONE EIGHTH BLOCK}", " ")
    backend.decoder = decoders.Sequence([mark, decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    backend.add_special_tokens(["<s>"])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>")


@pytest.mark.parametrize(
    ("prompt", "answer", "said"),
    [
        ([0, 1], [2, 3], " seas"),
        ([0, 1], [3, 2], "s sea"),
        ([0, 4], [2], " sea"),
        ([0], [1, 2], "the sea"),
        ([], [1, 2], "the sea"),
    ],
)
def test_an_answer_that_goes_on_keeps_its_first_space(prompt: list[int], answer: list[int], said: str) -> None:
    detokeniser = Detokeniser(strips(), before=prompt)
    assert "".join(map(detokeniser.feed, answer)) + detokeniser.flush() == said
