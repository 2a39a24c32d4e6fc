"""llama.cpp's adapters on a small file: what does not fit is refused, and nobody waits or fails for another."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import tiny
from allmend.adapters import AdapterWeights
from allmend.adapters.config import LoraConfig
from allmend.engines.llamacpp.adapter_files import AdapterFiles
from allmend.engines.llamacpp.engine import LlamaCppEngine
from allmend.engines.text import AdapterUse, Piece, Sampling, TextRequest
from allmend.errors import InputError
from allmend.releases.gguf import model as gguf_model
from allmend.releases.gguf import tokens
from allmend.runs.alive import hold, release

GREEDY = Sampling(max_tokens=4, temperature=0, ignore_end=True)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of two layers."""
    folder = tmp_path_factory.mktemp("gguf")
    tiny.model("llama").save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    spec = tokens.made(folder, tiny.tokenizer(), tiny.VOCABULARY, False)
    gguf_model.write(folder, folder / "m.gguf", "f16", spec, gguf_model.Naming("small", "{{ messages }}"))
    return folder / "m.gguf"


@pytest.fixture
def engine(file: Path) -> Iterator[LlamaCppEngine]:
    made = LlamaCppEngine(file, context=64, parallel=2, threads=1, vocabulary=tiny.VOCABULARY)
    yield made
    made.close()


def adapter(seed: int = 1) -> AdapterWeights:
    modules = dict(tiny.lora(tiny.model("llama"), seed=seed).modules)
    return AdapterWeights(
        Path(), LoraConfig(rank=4, alpha=4), "", None, str(seed), modules, dict.fromkeys(modules, 4.0), None, None
    )


def said(engine: LlamaCppEngine, *names: str) -> tuple[str | None, list[int]]:
    (answer,) = engine.complete([TextRequest((5, 9, 2), GREEDY, tuple(AdapterUse(name) for name in names))])
    return answer.error, [token.id for token in answer.tokens]


def test_an_adapter_that_does_not_fit_the_file_is_refused(engine: LlamaCppEngine) -> None:
    good = adapter()
    name, (a, b) = next(iter(good.modules.items()))
    for modules, words in (
        ({name: (a[:, 1:], b)}, "31 inputs and 32 outputs, which is 32 by 32 in the file"),
        ({name: (a, b[2:])}, "32 inputs and 30 outputs"),
        ({"model.layers.7.mlp.up_proj": (a, b)}, "no name|does not have"),
    ):
        with pytest.raises(InputError, match=words):
            engine.add_adapter("bad", replace(good, modules=modules, alphas=dict.fromkeys(modules, 4.0)))
    dora = replace(good, config=LoraConfig(rank=4, alpha=4, dora=True))
    with pytest.raises(InputError, match="DoRA"):
        engine.add_adapter("bad", dora)
    assert engine.adapters() == () and not list(engine._files.folder.iterdir())


def test_a_file_that_llamacpp_refuses_costs_nobody_else_an_answer(engine: LlamaCppEngine) -> None:
    engine.add_adapter("a", adapter(1))
    base, a = said(engine), said(engine, "a")
    assert base[0] is None and a[0] is None and base != a
    engine.add_adapter("broken", adapter(2))
    engine.add_adapter("b", adapter(3))
    engine._files.by_name["broken"].write_bytes(b"GGUF, but no more than that")
    error, _ = said(engine, "broken")
    assert error and "'broken'" in error
    assert said(engine) == base and said(engine, "a") == a and said(engine, "b")[0] is None
    assert engine.load() == (0, 0)
    engine.remove_adapter("broken")
    engine.add_adapter("broken", adapter(1))
    assert said(engine, "broken") == a


def test_what_llamacpp_refuses_and_what_cannot_be_told_is_no_answer(
    engine: LlamaCppEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said(engine)[0] is None
    monkeypatch.setattr(engine, "_context", 10_000)
    (refused,) = engine.complete([TextRequest((5,) * 5000, GREEDY)])
    assert refused.finish == "error" and "context" in str(refused.error)
    last: queue.SimpleQueue[Piece] = queue.SimpleQueue()

    def sink(piece: Piece) -> None:
        if piece.finish is None:
            raise OSError("nobody listens")
        last.put(piece)

    engine.submit(TextRequest((5, 9, 2), GREEDY), sink)
    piece = last.get(timeout=120)
    assert piece.finish == "error" and "nobody listens" in str(piece.error)


def test_files_of_adapters_that_are_gone_are_deleted(engine: LlamaCppEngine) -> None:
    folder = engine._files.folder
    for _ in range(3):
        engine.add_adapter("a", adapter(1))
        said(engine, "a")
    assert len(list(folder.iterdir())) == 1
    engine.remove_adapter("a")
    assert not list(folder.iterdir())
    assert said(engine)[0] is None


def test_who_needs_a_start_is_not_overtaken_by_those_who_do_not(engine: LlamaCppEngine) -> None:
    engine._server.enter({})  # Somebody is being answered.
    engine.add_adapter("a", adapter(1))
    came: list[str] = []

    def ask(name: str, files: dict[str, Path]) -> threading.Thread:
        def run() -> None:
            engine._server.enter(files)
            came.append(name)
            engine._server.leave()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    asks = [ask("with a", dict(engine._files.by_name))]
    while not engine._server.restarts:
        asks[0].join(0.01)
    asks.append(ask("without", {}))
    asks[1].join(0.5)
    assert came == []
    said_at_last = ask("later", {})
    engine._server.leave()
    for each in (*asks, said_at_last):
        each.join(120)
    assert sorted(came) == ["later", "with a", "without"]
    assert said(engine, "a")[0] is None


def test_files_of_a_process_that_was_killed_go(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    here = AdapterFiles(file)
    killed, other = tmp_path / "allmend-lora-killed", tmp_path / "allmend-lora-other"
    for left in (killed, other):
        left.mkdir()
    release(hold(killed))
    (killed / "1.gguf").touch()
    another = AdapterFiles(file)
    assert sorted(tmp_path.iterdir()) == sorted([here.folder.parent, another.folder.parent, other])
    here.close()
    another.close()
    assert list(tmp_path.iterdir()) == [other]


def test_a_request_is_taken_at_once_while_a_start_is_under_way(engine: LlamaCppEngine) -> None:
    starting, go, ended = threading.Event(), threading.Event(), threading.Event()

    def start() -> None:
        with engine._server.change:
            starting.set()
            go.wait(120)

    thread = threading.Thread(target=start, daemon=True)
    thread.start()
    assert starting.wait(60)
    request = TextRequest((1, 2), Sampling(max_tokens=1))
    try:
        with ThreadPoolExecutor(1) as threads:
            taken = threads.submit(engine.submit, request, lambda piece: ended.set() if piece.finish else None)
            try:
                taken.result(60)
            finally:
                go.set()
        assert ended.wait(120)
    finally:
        thread.join(60)
