"""Embeddings: what sentence-transformers gives, whoever asks beside, in every pass."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import encoders
import tiny
from allmend.engines.torch.embedding import encoder
from allmend.engines.torch.embedding.engine import TorchEmbedder
from allmend.engines.torch.embedding.packs import packs_of
from allmend.engines.torch.embedding.pairs import PairScorer
from allmend.engines.torch.embedding.pooling import Pooling
from allmend.engines.torch.embedding.setup import build_embedder
from allmend.errors import InputError
from allmend.models.kind import kind_of
from allmend.models.resolve import resolve

TEXTS = ["a", "", "the quick brown fox", "  spaces  around ", "x" * 500, "Grüezi, 世界! 🎉", "one two three " * 8]


def reference(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})


@pytest.mark.model
def test_the_real_model_gives_what_sentence_transformers_gives(small_models: dict[str, Any]) -> None:
    model = small_models["all-minilm-l6-v2"]
    texts = [*TEXTS, "word " * 400, "The weather is lovely today."]
    wanted = reference(model.path).encode(texts)
    choices: dict[str, Any] = {}
    for way, dtype in (("lean", "float32"), ("packed", "float32"), ("auto", None)):
        engine = build_embedder(
            model, dtype=dtype, way=way, chosen=lambda choice: choices.update({choice.name: choice})
        )
        rows = engine.rows(texts)
        got = engine.submit(rows.tokens).result()
        engine.close()
        assert rows.cut == (7,)
        assert np.einsum("nd,nd->n", got, wanted).min() > 0.9995
        if dtype == "float32":
            assert np.abs(got - wanted).max() < 2e-5
    assert choices["pass"].value == "lean"


@pytest.mark.parametrize(
    ("kind", "mode", "normalise", "expected"),
    [
        ("bert", "mean", True, "lean"),
        ("bert", "cls", False, "lean"),
        ("bert", "max", True, "lean"),
        ("roberta", "mean", True, "lean"),
        ("electra", "cls", True, "lean"),
        ("qwen3", "lasttoken", True, "packed"),
    ],
)
def test_every_family_and_pooling_gives_what_sentence_transformers_gives(
    tmp_path: Path, kind: str, mode: str, normalise: bool, expected: str
) -> None:
    folder = encoders.folder(tmp_path / kind, kind, mode=mode, normalise=normalise)
    texts = [text for text in TEXTS if text.strip()]
    wanted = reference(folder).encode(texts, batch_size=3)
    chosen: dict[str, Any] = {}
    model = resolve(str(folder))
    assert kind_of(model) == "embed"
    engine = build_embedder(model, dtype="float32", chosen=lambda choice: chosen.update({choice.name: choice.value}))
    got = engine.submit(engine.rows(texts).tokens).result()
    engine.close()
    assert chosen["pass"] == expected
    assert np.abs(got - wanted).max() < 1e-4 * max(1.0, float(np.abs(wanted).max()))


def test_a_model_that_sentence_transformers_wrote_is_read_with_its_prompts(tmp_path: Path) -> None:
    whole = reference(encoders.folder(tmp_path / "made", normalise=False))
    whole.prompts = {"query": "ask: ", "passage": "say: ", "all": "so: "}
    whole.default_prompt_name = "all"
    whole.save(str(tmp_path / "saved"))
    engine = build_embedder(resolve(str(tmp_path / "saved")), dtype="float32")
    texts = ["the quick brown fox", "Gr\u00fcezi", " " * 5000 + "far away"]
    try:
        for use, name in (("query", "query"), ("document", "passage"), ("plain", None)):
            wanted = whole.encode(texts[:2], prompt_name=name)
            got = engine.submit(engine.rows(texts[:2], use).tokens).result()
            assert np.abs(got - wanted).max() < 1e-4
        far = engine.rows(texts, "plain")
        assert far.cut == (2,)
    finally:
        engine.close()


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_cross_encoder_scores_as_sentence_transformers_does(tmp_path: Path, kind: str) -> None:
    from sentence_transformers import CrossEncoder

    folder = encoders.ranker(tmp_path / kind, kind)
    scorer = PairScorer(resolve(str(folder)))
    assert scorer.limit == 80
    documents = ["one", "another thing", "x" * 500, "", "Gr\u00fcezi"]
    whole = CrossEncoder(str(folder), device="cpu", max_length=80)
    wanted = whole.predict([("what is it?", document) for document in documents])
    assert np.abs(np.array(scorer.scores("what is it?", documents)[0]) - wanted).max() < 1e-5
    scorer.close()


@cache
def passes() -> tuple[encoder.Pass, encoder.Pass, encoder.Pass]:
    network = encoders.encoder("bert")
    return encoder.plain(network, 258), encoder.packed(network), encoder.lean(network, torch.float32)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 255), min_size=1, max_size=40), min_size=1, max_size=8))
def test_rows_end_to_end_give_what_each_gives_alone(rows: list[list[int]]) -> None:
    rows = sorted(rows, key=len, reverse=True)
    plain, packed, lean = passes()
    with torch.inference_mode():
        wanted = torch.cat([plain([row]) for row in rows])
        for run in (plain, packed, lean):
            assert torch.allclose(run(rows), wanted, atol=2e-4)


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 200))
def test_packs_hold_every_row_once_and_no_more_than_they_may(lengths: list[int], most: int) -> None:
    packs = packs_of(lengths, most)
    assert sorted(row for pack in packs for row in pack) == list(range(len(lengths)))
    assert all(len(pack) == 1 or sum(lengths[row] for row in pack) <= most for pack in packs)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = build_embedder(resolve(str(encoders.folder(tmp_path_factory.mktemp("model") / "bert"))), dtype="float32")
    yield made
    made.close()


def test_many_callers_at_once_each_get_their_own(engine: Any) -> None:
    texts = [f"text number {number} " * (number % 7 + 1) for number in range(60)]
    alone = [engine.submit(engine.rows([text]).tokens).result()[0] for text in texts]
    with ThreadPoolExecutor(12) as pool:
        together = list(
            pool.map(lambda text: engine.submit(engine.rows([text]).tokens, low=len(text) % 2 == 0).result()[0], texts)
        )
    assert np.abs(np.stack(alone) - np.stack(together)).max() < 1e-5
    assert engine.load() == (0, 0)


def test_tokens_are_taken_with_or_without_what_stands_around_them(tmp_path: Path, model_or_tiny: Any) -> None:
    made = model_or_tiny
    text = "tokens are taken"
    bare = made._tokenizer(text, add_special_tokens=False)["input_ids"]
    rows = made.rows([text]).tokens
    assert made.framed([bare]).tokens == rows
    assert made.framed(rows).tokens == rows
    with pytest.raises(InputError, match="no token 999999"):
        made.framed([[1, 999999]])
    assert made.framed([[5] * 1000]).cut == (0,)


@pytest.fixture
def model_or_tiny(engine: Any) -> Any:
    return engine


def test_a_failing_row_fails_its_caller_alone(engine: Any) -> None:
    with pytest.raises(InputError):
        engine.submit([[]])
    with pytest.raises(InputError):
        engine.submit([[1] * 1000])
    bad = engine.submit([[10_000_000]])
    assert bad.exception(timeout=60) is not None
    assert engine.submit([[1, 2]]).result(timeout=60).shape == (1, 32)


def test_a_caller_that_gives_up_at_the_last_moment_ends_nobody_elses_work() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def run(rows: Any) -> torch.Tensor:
        begun.set()
        assert go_on.wait(60)
        return torch.ones(sum(map(len, rows)), 4)

    engine = TorchEmbedder(run, Pooling(), tiny.tokenizer(), limit=64, width=4)
    late: Any = engine.submit([[1, 2]])
    assert begun.wait(60)
    # As if it were given up between the last look at it and its answer.
    late.done = lambda: False
    assert late.cancel()
    go_on.set()
    assert engine.submit([[1, 2]]).result(timeout=60).shape == (1, 4)
    engine.close()


def test_what_a_model_asks_for_and_is_not_done_is_said(tmp_path: Path) -> None:
    folder = encoders.folder(tmp_path / "bert")
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match="Dense"):
        build_embedder(resolve(str(folder)))
    modules[-1] = {"idx": 1, "path": "../../elsewhere", "type": "sentence_transformers.models.Pooling"}
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match="outside"):
        build_embedder(resolve(str(folder)))


def test_a_language_model_is_none_of_it(tmp_path: Path) -> None:
    tiny.model("llama").save_pretrained(tmp_path / "llama")
    tiny.tokenizer().save_pretrained(tmp_path / "llama")
    assert kind_of(resolve(str(tmp_path / "llama"))) == "text"
    assert kind_of(resolve(str(encoders.ranker(tmp_path / "ranker")))) == "rank"
