"""What the engine promises beyond tokens: ends, cancellation, scores, refusals, one failing without the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import pytest
import torch

import tiny
from allmend.engines.text import AdapterUse, Piece, Sampling, TextRequest
from allmend.engines.torch import setup
from allmend.engines.torch.engine import TorchTextEngine
from allmend.engines.torch.lora import Lora
from allmend.engines.torch.setup import build_engine
from allmend.errors import DoesNotFit, InputError, NotFound, Unavailable
from allmend.nouns.choice import Choice

GREEDY = Sampling(temperature=0, max_tokens=20)


@cache
def base() -> Any:
    return tiny.model("llama")


@pytest.fixture(params=["packed", "plain"])
def engine(request: pytest.FixtureRequest) -> Iterator[TorchTextEngine]:
    made = build_engine(base(), tiny.tokenizer(), context=128, path=request.param, page_size=8)
    yield made
    made.close()


def test_scores_are_the_log_probabilities_of_the_continuation(engine: TorchTextEngine) -> None:
    prompt, completions = [5, 9, 1], [[7], [8, 200, 3], [7, 7]]
    for scored, completion in zip(engine.score(prompt, completions), completions, strict=True):
        ids = torch.tensor([prompt + completion])
        with torch.inference_mode():
            wanted = base()(ids).logits[0].log_softmax(-1)
        each = [float(wanted[len(prompt) - 1 + place, token]) for place, token in enumerate(completion)]
        assert scored.tokens == pytest.approx(each, abs=1e-3)
        assert scored.logprob == pytest.approx(sum(each), abs=1e-3)


def test_cancelling_ends_the_request_and_frees_its_memory() -> None:
    engine = build_engine(base(), tiny.tokenizer(), context=512, path="packed")
    pages = engine._runner.pages  # type: ignore[attr-defined]
    free = pages.free
    pieces: list[Piece] = []
    ended = threading.Event()

    def sink(piece: Piece) -> None:
        pieces.append(piece)
        if piece.finish:
            ended.set()

    ticket = engine.submit(TextRequest((1, 2, 3), Sampling(temperature=0, ignore_end=True)), sink)
    while not pieces:
        time.sleep(0.005)
    ticket.cancel()
    assert ended.wait(60)
    assert pieces[-1].finish == "cancelled"
    engine.complete([TextRequest((1, 2), Sampling(temperature=0, max_tokens=1))])
    engine.close()  # Ends the engine's thread: what it gives back it has given back.
    assert pages.free == free


def test_closing_ends_what_runs_and_refuses_what_comes(engine: TorchTextEngine) -> None:
    ends: list[Piece] = []
    engine.submit(TextRequest((1,), Sampling(ignore_end=True)), ends.append)
    engine.close()
    assert ends[-1].finish in ("cancelled", "length")
    with pytest.raises(Unavailable):
        engine.submit(TextRequest((1,)), ends.append)


def test_requests_that_cannot_run_are_refused_before_they_start(engine: TorchTextEngine) -> None:
    for prompt, kind in (
        ((), DoesNotFit),
        ((1,) * 128, DoesNotFit),
        ((tiny.VOCABULARY,), InputError),
        ((-1,), InputError),
    ):
        with pytest.raises(kind):
            engine.submit(TextRequest(prompt, GREEDY), lambda piece: None)
    with pytest.raises(NotFound, match="mine"):
        engine.submit(TextRequest((1,), GREEDY, (AdapterUse("mine"),)), lambda piece: None)


def test_an_answer_ends_where_the_context_does(engine: TorchTextEngine) -> None:
    sampling = Sampling(temperature=0, ignore_end=True)
    (answer,) = engine.complete([TextRequest((3,) * 120, sampling)])
    assert answer.finish == "length" and answer.usage.completion == 8


def test_adapters_for_another_base_are_refused(engine: TorchTextEngine) -> None:
    good = tiny.lora(base(), seed=1)
    name, (a, b) = next(iter(good.modules.items()))
    for modules, words in (
        ({"model.layers.9.self_attn.q_proj": (a, b)}, "does not have"),
        ({name: (a[:, 1:], b)}, "do not fit"),
        ({name: (a, b * float("nan"))}, "finite"),
        ({}, "no LoRA"),
    ):
        with pytest.raises(InputError, match=words):
            engine.add_adapter("bad", Lora("x", modules))
    assert engine.adapters() == ()
    engine.add_adapter("good", good)
    engine.remove_adapter("good")
    assert engine.adapters() == ()


def test_numbers_that_are_not_finite_end_one_answer_and_no_other(engine: TorchTextEngine) -> None:
    good = tiny.lora(base(), seed=1)
    engine.add_adapter("huge", Lora("huge", {name: (a * 1e30, b * 1e30) for name, (a, b) in good.modules.items()}))
    (alone,) = engine.complete([TextRequest((5, 6), GREEDY)])
    mixed = [TextRequest((5, 6), GREEDY), TextRequest((5, 6), GREEDY, (AdapterUse("huge"),))]
    for _ in range(3):
        sound, broken = engine.complete(mixed)
        assert broken.finish == "error" and broken.error and "finite" in broken.error
        assert sound.tokens == alone.tokens


def test_an_adapter_that_fails_in_the_step_ends_its_own_answers_alone(engine: TorchTextEngine) -> None:
    good = tiny.lora(base(), seed=1)
    engine.add_adapter("good", good)
    engine.add_adapter("bad", Lora("bad", good.modules))
    name, (a, b) = next(iter(good.modules.items()))
    engine._loras["bad"] = Lora("bad", {name: (a[:, 1:], b)})
    fine = [TextRequest((5, 6), GREEDY), TextRequest((5, 6, 7), GREEDY, (AdapterUse("good"),))]
    alone = [engine.complete([each])[0].tokens for each in fine]
    *others, broken = engine.complete([*fine, TextRequest((5, 6), GREEDY, (AdapterUse("bad"),))])
    assert broken.finish == "error" and broken.error and "the model failed" in broken.error
    assert [each.tokens for each in others] == alone


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_error_of_the_device_ends_the_engine_and_memory_that_is_not_there_does_not(
    engine: TorchTextEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Exception] = [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: misaligned address"),
    ]

    def run(segments: object) -> None:
        raise errors.pop(0)

    monkeypatch.setattr(engine._runner, "run", run)
    (broken,) = engine.complete([TextRequest((5, 6), GREEDY)])
    assert broken.finish == "error" and "out of memory" in str(broken.error) and not engine.has_ended
    (gone,) = engine.complete([TextRequest((5, 6), GREEDY)])
    assert gone.finish == "cancelled"
    engine._thread.join(timeout=120)
    assert engine.has_ended


def test_a_model_that_does_not_run_packed_runs_plain_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    choices: list[Choice] = []
    monkeypatch.setattr(setup, "packed_difference", lambda model, runner: 0.7)
    engine = build_engine(base(), tiny.tokenizer(), context=64, chosen=choices.append)
    engine.close()
    assert choices[0].name == "compiled steps" and not choices[0].value and "70.0%" in choices[0].reason
    assert choices[1].value == "plain" and "70.0%" in choices[1].reason


def test_positions_that_follow_the_batch_run_plain() -> None:
    choices: list[Choice] = []
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    model = tiny.model("llama", rope_parameters=rope)
    build_engine(model, tiny.tokenizer(), context=64, chosen=choices.append).close()
    assert [choice.value for choice in choices[:2]] == [False, "plain"]
    assert all("dynamic" in choice.reason for choice in choices[:2])


def test_memory_that_holds_nothing_is_refused() -> None:
    with pytest.raises(DoesNotFit, match="page"):
        build_engine(base(), tiny.tokenizer(), context=64, path="packed", cache_bytes=1)


def test_what_comes_in_the_moment_it_is_closed_is_told_so(engine: TorchTextEngine, monkeypatch: Any) -> None:
    reading, go = threading.Event(), threading.Event()

    def slow(grammar: str) -> None:
        reading.set()
        assert go.wait(60)

    monkeypatch.setattr(engine, "_constraints", slow)
    pieces: list[Piece] = []
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(engine.submit, TextRequest((1, 2), Sampling(grammar="x")), pieces.append)
        assert reading.wait(60)
        engine.close()
        go.set()
        with pytest.raises(Unavailable, match="closed"):
            asked.result(60)
    assert pieces == []
