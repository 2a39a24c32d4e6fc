"""Each way in which exported models go wrong, planted on purpose: every one is caught, and named by its cause."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import small
import torch
from safetensors.torch import load_file, save_file

import tiny
from allmend.nouns.release import Artefact
from allmend.releases.gguf import lora as gguf_lora
from allmend.releases.gguf import model as gguf_model
from allmend.releases.gguf import tokens as gguf_tokens
from allmend.releases.gguf.reader import Value
from allmend.releases.gguf.settings import config_of, settings_of
from allmend.releases.gguf.types import quantised, read_back
from allmend.releases.make import Maker
from allmend.releases.merge import merge
from allmend.releases.parity.probes import Replies
from allmend.releases.prove import Case, ask_tested, prove

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
OTHER_ROPE = {"rope_theta": 5e5, "rope_type": "default"}
STRETCHED = {"rope_theta": 1e4, "rope_type": "linear", "factor": 2.0}


@dataclass
class Made:
    """A sound set of artefacts, with what they are held to."""

    maker: Maker
    case: Case
    artefacts: dict[str, Artefact]
    truth: Replies


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALLMEND_HOME", str(folder / "home"))
        order = small.order(folder, tie_word_embeddings=True)
        maker = Maker(order, order.gguf)
        draft = folder / "draft"
        draft.mkdir()
        artefacts, case = maker.artefacts(draft)
        truth = ask_tested(order.loaded, order.weights, maker.probes)
        yield Made(maker, case, {artefact.name: artefact for artefact in artefacts}, truth)


def causes(made: Made, folder: Path, name: str) -> set[str]:
    """The causes that are named for one artefact, read from the folder of a release."""
    case = replace(made.case, folder=folder)
    return {breach.cause for breach in prove(case, [made.artefacts[name]], made.truth).breaches}


def copied(made: Made, target: Path, name: str) -> Path:
    """A copy of one artefact in a release's folder of its own; returns its path there."""
    source, place = made.case.folder / made.artefacts[name].path, target / made.artefacts[name].path
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, place) if source.is_dir() else shutil.copyfile(source, place)
    return place


def test_what_is_sound_is_blessed(made: Made) -> None:
    proof = prove(made.case, list(made.artefacts.values()), made.truth)
    assert proof.breaches == []
    assert {found.artefact for found in proof.agreements} == set(made.artefacts)
    assert all(found.passed and found.ids_equal == found.rows for found in proof.agreements)
    peft = next(found for found in proof.agreements if found.consumer.startswith("PEFT"))
    assert peft.loss_difference < 1e-5


def edit(path: Path, **values: Any) -> None:
    config = json.loads(path.read_text())
    config.update(values)
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def weights(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


def linears(tensors: dict[str, torch.Tensor]) -> list[str]:
    return [name for name in tensors if name.endswith("proj.weight")]


def through_four_bits(tensors: dict[str, torch.Tensor]) -> None:
    for name in linears(tensors):
        old = tensors[name]
        if old.shape[1] % 32 == 0:
            made = read_back(quantised(old, "q4_0", name), "q4_0")
            tensors[name] = torch.from_numpy(made.reshape(old.shape)).to(old.dtype)


def untied(path: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        table = tensors["model.embed_tokens.weight"]
        tensors["lm_head.weight"] = table + torch.randn_like(table) * 0.01

    weights(path, change)
    edit(path / "config.json", tie_word_embeddings=False)


def into_half(path: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in tensors:
            tensors[name] = (tensors[name].float() * (1e6 if name.endswith("down_proj.weight") else 1)).half()

    weights(path, change)
    edit(path / "config.json", dtype="float16")


def resized(path: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        table = tensors["model.embed_tokens.weight"]
        tensors["model.embed_tokens.weight"] = torch.cat([table, table[:8]])

    weights(path, change)
    edit(path / "config.json", vocab_size=tiny.VOCABULARY + 8)


def cut(path: Path) -> None:
    file = path / "model.safetensors" if path.is_dir() else path
    file.write_bytes(file.read_bytes()[:-1000])


def no_end(path: Path) -> None:
    edit(path / "tokenizer_config.json", eos_token=None)


def doubled_begin(path: Path) -> None:
    file = path / "chat_template.jinja"
    file.write_text("{{- bos_token -}}" + file.read_text())


MERGED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "template swapped": ("template", lambda path: (path / "chat_template.jinja").write_text(CHATML)),
    "template lost": ("template", lambda path: (path / "chat_template.jinja").unlink()),
    "doubled begin mark": ("bos", doubled_begin),
    "end mark lost": ("eos", no_end),
    "another end mark": ("eos", lambda path: edit(path / "generation_config.json", eos_token_id=7)),
    "through four bits": ("requantised", lambda path: weights(path, through_four_bits)),
    "tied weights untied": ("tied", untied),
    "overflow in fp16": ("overflow", into_half),
    "another rope": ("rope", lambda path: edit(path / "config.json", rope_parameters=OTHER_ROPE)),
    "cut short": ("truncated", cut),
    "vocabulary resized": ("vocabulary", resized),
    "sampler changed": ("sampler", lambda path: edit(path / "generation_config.json", temperature=1.7, do_sample=True)),
}  # fmt: skip


@pytest.mark.parametrize("defect", MERGED)
def test_a_defect_of_the_merged_model_is_named(made: Made, tmp_path: Path, defect: str) -> None:
    cause, plant = MERGED[defect]
    plant(copied(made, tmp_path, "merged"))
    assert cause in causes(made, tmp_path, "merged")


def merged_anew(made: Made, target: Path, base: Path | None = None, strength: float = 1.0) -> None:
    place = copied(made, target, "merged")
    (place / "model.safetensors").unlink()
    weights = made.maker.order.weights
    alphas = {name: alpha * strength for name, alpha in weights.alphas.items()}
    merge(base or made.maker.order.loaded.folder, replace(weights, alphas=alphas), place)


@pytest.mark.parametrize("strength", [0.5, 2.0, 1e-9])
def test_a_lost_alpha_is_named_with_the_strength_that_is_left(made: Made, tmp_path: Path, strength: float) -> None:
    merged_anew(made, tmp_path, strength=strength)
    proof = prove(replace(made.case, folder=tmp_path), [made.artefacts["merged"]], made.truth)
    assert proof.breaches[0].cause == "alpha"
    assert ("not merged" if strength < 0.1 else f"{strength:.2f} times") in proof.breaches[0].message


def test_another_base_is_named_and_parity_alone_notices_it(made: Made, tmp_path: Path) -> None:
    other = small.base(tmp_path / "other", seed=1, tie_word_embeddings=True)
    merged_anew(made, tmp_path, base=other)
    proof = prove(replace(made.case, folder=tmp_path), [made.artefacts["merged"]], made.truth)
    assert {breach.cause for breach in proof.breaches} == {"base"}
    [agreement] = proof.agreements
    assert not agreement.passed and agreement.loss_difference > agreement.allowed_mean


@pytest.mark.parametrize(
    ("cause", "values"),
    [("alpha", {"lora_alpha": 4.0}), ("alpha", {"use_rslora": True}), ("base", {}), ("truncated", None)],
)
def test_a_defect_of_the_adapter_is_named(
    made: Made, tmp_path: Path, cause: str, values: dict[str, Any] | None
) -> None:
    place = copied(made, tmp_path, "adapter")
    if values is None:
        cut_file = place / "adapter_model.safetensors"
        cut_file.write_bytes(cut_file.read_bytes()[:-64])
    elif values:
        edit(place / "adapter_config.json", **values)
    else:
        edit(place / "allmend.json", base_digest="0" * 64)
    assert cause in causes(made, tmp_path, "adapter")


def rewritten(
    made: Made,
    target: Path,
    *,
    config: dict[str, Any] | None = None,
    generation: Any = None,
    template: str | None = None,
    **tokenizer: Value | None,
) -> None:
    """The bf16 GGUF written again with something else in it."""  # fmt: skip
    place = copied(made, target, "gguf-bf16")
    place.unlink()
    assert made.case.merged is not None
    source = target / "source"
    shutil.copytree(made.case.merged, source)
    if config:
        edit(source / "config.json", **config)
    if generation:
        edit(source / "generation_config.json", **generation)
    order = made.maker.order
    spec = gguf_tokens.made(order.loaded.folder, order.loaded.tokenizer, tiny.VOCABULARY, True)
    spec |= {f"tokenizer.ggml.{key}": value for key, value in tokenizer.items() if value is not None}
    spec = {key: value for key, value in spec.items() if tokenizer.get(key.removeprefix("tokenizer.ggml."), 1)}
    text = made.case.expected.template if template is None else template
    gguf_model.write(source, place, "bf16", spec, gguf_model.Naming("x", text))


GGUF: dict[str, tuple[str, dict[str, Any]]] = {
    "template swapped": ("template", {"template": CHATML}),
    "doubled begin mark": ("bos", {"template": "{{- bos_token -}}{{- bos_token -}}User:"}),
    "another end mark": ("eos", {"eos_token_id": Value(4, 7)}),
    "end mark lost": ("eos", {"eos_token_id": None}),
    "end mark after every prompt": ("eos", {"add_eos_token": Value(7, True)}),
    "another rope": ("rope", {"config": {"rope_parameters": OTHER_ROPE}}),
    "rope stretched": ("rope", {"config": {"rope_parameters": STRETCHED}}),
    "sampler changed": ("sampler", {"generation": {"temperature": 0.2, "do_sample": True}}),
    "other norm": ("config", {"config": {"rms_norm_eps": 0.01}}),
}  # fmt: skip


@pytest.mark.parametrize("defect", GGUF)
def test_a_defect_of_a_gguf_is_named(made: Made, tmp_path: Path, defect: str) -> None:
    cause, changes = GGUF[defect]
    rewritten(made, tmp_path, **changes)
    assert cause in causes(made, tmp_path, "gguf-bf16")


def test_a_gguf_that_is_cut_short_is_named(made: Made, tmp_path: Path) -> None:
    cut(copied(made, tmp_path, "gguf-q8_0"))
    assert causes(made, tmp_path, "gguf-q8_0") == {"truncated"}


def test_a_tokenizer_that_reads_otherwise_is_named(made: Made, tmp_path: Path) -> None:
    order = made.maker.order
    spec = gguf_tokens.made(order.loaded.folder, order.loaded.tokenizer, tiny.VOCABULARY, True)
    words = list(spec["tokenizer.ggml.tokens"].value)
    a, b = words.index("e"), words.index("q")
    words[a], words[b] = words[b], words[a]
    rewritten(made, tmp_path, tokens=Value(9, words, 8))
    assert causes(made, tmp_path, "gguf-bf16") == {"tokens"}


def test_rows_left_unpaired_are_named(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_model, "permuted", lambda values, heads: values)
    rewritten(made, tmp_path)
    monkeypatch.undo()
    assert "weights" in causes(made, tmp_path, "gguf-bf16")


def test_a_gguf_adapter_without_its_alpha_is_named(made: Made, tmp_path: Path) -> None:
    weights = made.maker.order.weights
    lost = replace(weights, alphas=dict.fromkeys(weights.alphas, 4.0))
    place = copied(made, tmp_path, "gguf-adapter")
    naming = gguf_model.Naming("x", made.case.expected.template)
    gguf_lora.write(lost, settings_of(config_of(made.maker.order.loaded.folder)), place, naming)
    proof = prove(replace(made.case, folder=tmp_path), [made.artefacts["gguf-adapter"]], made.truth)
    assert proof.breaches[0].cause == "alpha" and "0.5 times" in proof.breaches[0].message
