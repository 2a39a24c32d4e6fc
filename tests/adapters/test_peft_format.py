"""Adapters against PEFT: what either writes the other reads, with the same logits; what is no plain LoRA is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from allmend.adapters import LoraConfig, attach, attach_weights, detach, read, write
from allmend.adapters.attach import linear_layers
from allmend.errors import AllmendError, InputError, NotFound, UsageError
from allmend.nouns.model import Model

IDS = torch.tensor([[5, 9, 70, 33, 120, 7, 8]])


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    model.eval()
    return model(input_ids=IDS).logits


def about(folder: Path) -> Model:
    return Model(name="tiny", source="folder", format="safetensors", path=folder, digest="d" * 64)


def shaken(model: Any, config: LoraConfig, seed: int = 3) -> Any:
    """LoRA layers whose B is not zero, so that they change what the model says."""
    lora = attach(model, config, seed=seed)
    numbers = torch.Generator().manual_seed(seed)
    for layer in lora.layers.values():
        layer.lora_b.data.copy_(torch.randn(layer.lora_b.shape, generator=numbers) * 0.05)
        if layer.magnitude is not None:
            layer.magnitude.data.mul_(torch.rand(layer.magnitude.shape, generator=numbers) + 0.5)
    return lora


def by_peft(folder: Path, kind: str = "llama", **settings: Any) -> torch.Tensor:
    """A random adapter that PEFT wrote, and the logits PEFT gets with it."""
    torch.manual_seed(1)
    model = peft.get_peft_model(tiny.model(kind), peft.LoraConfig(task_type="CAUSAL_LM", **settings))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.05)
        if "magnitude" in name:
            weight.data.mul_(torch.rand_like(weight) + 0.5)
    model.save_pretrained(folder)
    return logits(model)


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(rank=4, alpha=8),
        LoraConfig(rank=3, alpha=7, rslora=True, targets=("q_proj", "down_proj")),
        LoraConfig(rank=2, alpha=4, targets=("model.layers.1.self_attn.q_proj",)),
        LoraConfig(rank=4, alpha=8, dora=True),
    ],
    ids=["all", "rslora", "one-layer", "dora"],
)
def test_peft_reads_what_we_write(tmp_path: Path, kind: str, config: LoraConfig) -> None:
    model = tiny.model(kind)
    plain = logits(model)
    lora = shaken(model, config)
    wanted = logits(model)
    assert (wanted - plain).abs().max() > 0.01
    adapter = write(tmp_path / "a", lora, about(tmp_path), "{{ messages }}", "mine")
    loaded = peft.PeftModel.from_pretrained(tiny.model(kind), tmp_path / "a")
    torch.testing.assert_close(logits(loaded), wanted, rtol=1e-5, atol=1e-5)
    # PEFT put layers exactly where ours are.
    there = {name.split(".lora_A")[0] for name, _ in loaded.named_parameters() if "lora_A" in name}
    assert {name.removeprefix("base_model.model.") for name in there} == set(lora.layers)
    assert adapter.base == "tiny" and adapter.base_digest == "d" * 64 and adapter.template == "mine"
    assert (tmp_path / "a" / "chat_template.jinja").read_text() == "{{ messages }}"
    assert not [path for path in (tmp_path / "a").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize(
    "settings",
    [
        {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"},
        {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "use_rslora": True},
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj", "v_proj", "down_proj"],
            "rank_pattern": {"v_proj": 2, "layers.1.self_attn.q_proj": 6},
            "alpha_pattern": {"layers.0.self_attn.q_proj": 3, "down_proj": 16},
        },
        {
            "r": 4,
            "lora_alpha": 8,
            "target_modules": ["q_proj", "v_proj"],
            "use_rslora": True,
            "rank_pattern": {"^model.layers.0.self_attn.v_proj": 2},
            "alpha_pattern": {"^model.layers.0.self_attn.v_proj": 5},
        },
        {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], "use_dora": True},
    ],
    ids=["all", "rslora", "patterns", "anchored", "dora"],
)
def test_we_read_what_peft_writes(tmp_path: Path, kind: str, settings: dict[str, Any]) -> None:
    wanted = by_peft(tmp_path, kind, **settings)
    model = tiny.model(kind)
    plain = logits(model)
    attach_weights(model, read(tmp_path))
    torch.testing.assert_close(logits(model), wanted, rtol=1e-5, atol=1e-5)
    assert (wanted - plain).abs().max() > 0.01


def test_a_dora_without_its_magnitudes_is_refused(tmp_path: Path) -> None:
    by_peft(tmp_path, r=2, target_modules=["q_proj"], use_dora=True)
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({name: tensor for name, tensor in tensors.items() if "0.self_attn.q_proj.lora_mag" not in name}, file)
    with pytest.raises(InputError, match="no magnitudes"):
        read(tmp_path)


def test_merging_a_dora_gives_what_it_gave(tmp_path: Path) -> None:
    model = tiny.model("qwen2")
    lora = shaken(model, LoraConfig(rank=4, alpha=8, dora=True))
    wanted = logits(model)
    updates = {name: layer.update() for name, layer in lora.layers.items()}
    detach(model, lora)
    with torch.no_grad():
        for name, update in updates.items():
            model.get_submodule(name).weight += update
    torch.testing.assert_close(logits(model), wanted, rtol=1e-4, atol=1e-4)


def test_an_alpha_pattern_that_is_a_regular_expression_is_refused_by_name(tmp_path: Path) -> None:
    by_peft(tmp_path, r=2, target_modules=["q_proj"], alpha_pattern={r".*\.[01]\.self_attn\.q_proj": 5})
    with pytest.raises(InputError, match="alpha_pattern"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"bias": "lora_only"}, "bias"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "embed_tokens"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"lora_bias": True}, "lora_B.bias"),
        ({"alora_invocation_tokens": [5, 9]}, "alora_invocation_tokens"),
    ],
)
def test_more_than_a_plain_lora_is_refused_by_name(tmp_path: Path, settings: dict[str, Any], named: str) -> None:
    by_peft(tmp_path, **{"r": 2, "target_modules": ["q_proj"], **settings})
    with pytest.raises(InputError, match=named):
        read(tmp_path)


def test_other_methods_than_lora_are_refused_by_name(tmp_path: Path) -> None:
    model = peft.get_peft_model(tiny.model("llama"), peft.IA3Config(task_type="CAUSAL_LM"))
    model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"IA3|adapter configuration"):
        read(tmp_path)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    by_peft(tmp_path / "good", r=2, target_modules=["q_proj"])
    return tmp_path / "good"


def test_the_weights_must_be_there_and_not_pickled(good: Path) -> None:
    weights = good / "adapter_model.safetensors"
    with pytest.raises(NotFound):
        read(good.parent)
    torch.save(load_file(weights), good / "adapter_model.bin")
    weights.unlink()
    with pytest.raises(InputError, match="can run code"):
        read(good)
    (good / "adapter_model.bin").unlink()
    with pytest.raises(InputError, match=r"no adapter_model\.safetensors"):
        read(good)


@pytest.mark.parametrize("keep", [0, 4, 100, -10])
def test_cut_short_weights_are_damaged(good: Path, keep: int) -> None:
    weights = good / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(InputError, match="damaged"):
        read(good)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda key, value: {key: value.fill_(float("nan"))}, "finite"),
        (lambda key, value: {key: value.fill_(float("inf"))}, "finite"),
        (lambda key, value: {key: value.to(torch.int32)}, "finite matrix"),
        (lambda key, value: {key: value.flatten()}, "finite matrix"),
        (lambda key, value: {key: value.fill_(float("nan")).to(torch.float8_e4m3fn)}, "finite"),
        (lambda key, value: {}, "do not belong together"),
        (lambda key, value: {key: value[:1]}, "do not belong together"),
        (lambda key, value: {key: value, "extra.weight": value}, "no plain LoRA"),
    ],
    ids=["nan", "inf", "int", "flat", "nan in 8 bits", "missing", "other rank", "extra"],
)
def test_damaged_tensors_are_refused(good: Path, change: Any, said: str) -> None:
    weights = good / "adapter_model.safetensors"
    tensors = load_file(weights)
    key = next(name for name in tensors if "lora_A" in name)
    value = tensors.pop(key).clone()
    tensors |= {name: part.clone().contiguous() for name, part in change(key, value).items()}
    save_file(tensors, weights)
    with pytest.raises(InputError, match=said):
        read(good)


def test_an_empty_rank_is_refused_and_eight_bits_are_read(good: Path) -> None:
    weights = good / "adapter_model.safetensors"
    tensors = load_file(weights)
    save_file({name: value.to(torch.float8_e4m3fn) for name, value in tensors.items()}, weights)
    assert all(a.dtype == torch.float32 for a, _ in read(good).modules.values())
    empty = {name: value[:0] if "lora_A" in name else value[:, :0] for name, value in tensors.items()}
    save_file({name: value.contiguous() for name, value in empty.items()}, weights)
    with pytest.raises(InputError, match="rank"):
        read(good)


def test_a_key_that_is_not_known_here_must_be_unset(good: Path) -> None:
    config = good / "adapter_config.json"
    plain = json.loads(config.read_text())
    config.write_text(json.dumps(plain | {"of_tomorrow": None, "also": [], "merge_weights": False}))
    read(good)
    config.write_text(json.dumps(plain | {"of_tomorrow": {"a": 1}}))
    with pytest.raises(InputError, match="of_tomorrow"):
        read(good)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", "{}", '{"r": 2}', '{"r": "x", "lora_alpha": 1}', "\xff", "[" * 20000]
    + [json.dumps({"r": r, "lora_alpha": a}) for r, a in ((0, 1), (-1, 1), (2, 0), (2, -1), (9999, 1), (2, 1e400))]
    + ['{"r": 2, "lora_alpha": NaN}', '{"r": 2, "lora_alpha": 4, "alpha_pattern": [1]}']
    + ['{"r": 2, "lora_alpha": 4, "alpha_pattern": {"q_proj": "x"}}', '{"r": 2, "lora_alpha": 4, "lora_dropout": 2}']
    + ['{"r": 2, "lora_alpha": 4, "peft_type": 7}', '{"r": 1e999, "lora_alpha": 4}'],
)
def test_a_configuration_that_is_none_is_refused(good: Path, text: str) -> None:
    (good / "adapter_config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError):
        read(good)


def test_notes_and_template_of_a_stranger_cannot_break_reading(good: Path) -> None:
    (good / "allmend.json").write_bytes(b'{"base": 3, "base_digest": ["x"], "template": {}}')
    weights = read(good)
    weights.about().to_json()
    (good / "allmend.json").write_bytes(b"[" * 20000)
    read(good).about()
    (good / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="template"):
        read(good)


def test_an_adapter_of_another_base_is_refused_and_leaves_the_model_alone(good: Path) -> None:
    for other in (tiny.model("llama", hidden_size=64), tiny.model("llama", num_hidden_layers=1)):
        before = dict(other.named_modules())
        with pytest.raises(InputError, match="does not fit"):
            attach_weights(other, read(good))
        assert dict(other.named_modules()) == before


def test_round_trip_is_exact(tmp_path: Path) -> None:
    lora = shaken(tiny.model("llama"), LoraConfig(rank=3, alpha=5, rslora=True))
    write(tmp_path, lora, about(tmp_path), "x", "y")
    again = attach_weights(tiny.model("llama"), read(tmp_path))
    assert again.config.rslora and again.config.rank == 3 and again.config.alpha == 5
    for name, tensor in lora.state().items():
        assert torch.equal(again.state()[name], tensor)


def test_detach_restores_the_model_exactly() -> None:
    model = tiny.model("qwen2")
    before, wanted = [(name, id(module)) for name, module in model.named_modules()], logits(model)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    lora = shaken(model, LoraConfig(rank=2))
    assert not torch.equal(logits(model), wanted)
    with lora.disabled():
        assert torch.equal(logits(model), wanted)
    assert not torch.equal(logits(model), wanted)
    detach(model, lora)
    assert [(name, id(module)) for name, module in model.named_modules()] == before
    assert torch.equal(logits(model), wanted)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_the_same_seed_gives_the_same_layers_whatever_was_drawn_before() -> None:
    torch.manual_seed(0)
    first = attach(tiny.model("llama"), LoraConfig(rank=2), seed=5).state()
    torch.manual_seed(99)
    torch.randn(1000)
    second = attach(tiny.model("llama"), LoraConfig(rank=2), seed=5).state()
    other = attach(tiny.model("llama"), LoraConfig(rank=2), seed=6).state()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    # Attaching draws nothing from the global generator.
    torch.manual_seed(4)
    wanted = torch.rand(3)
    model = tiny.model("llama")
    torch.manual_seed(4)
    attach(model, LoraConfig(rank=2), seed=5)
    assert torch.equal(torch.rand(3), wanted)


def test_fresh_layers_change_nothing_and_leave_out_the_head() -> None:
    model = tiny.model("gemma3")
    wanted = logits(model)
    lora = attach(model, LoraConfig(rank=2))
    assert torch.equal(logits(model), wanted)
    assert set(lora.layers) == set(linear_layers(tiny.model("gemma3")))
    assert "lm_head" not in lora.layers and len(lora.layers) == 14


def test_merging_by_update_gives_the_same_logits() -> None:
    model = tiny.model("llama")
    lora = shaken(model, LoraConfig(rank=2))
    wanted = logits(model)
    updates = {name: layer.update() for name, layer in lora.layers.items()}
    detach(model, lora)
    with torch.no_grad():
        for name, update in updates.items():
            model.get_submodule(name).weight += update
    torch.testing.assert_close(logits(model), wanted, rtol=1e-4, atol=1e-4)


def test_a_misspelt_target_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="q_prj") as caught:
        attach(tiny.model("llama"), LoraConfig(targets=("q_prj",)))
    assert "q_proj" in (caught.value.hint or "")
    with pytest.raises(AllmendError):
        attach(torch.nn.ReLU(), LoraConfig())


def test_layers_whose_weights_the_architecture_reads_itself_are_told() -> None:
    model = tiny.recurrent()
    attach(model, LoraConfig(rank=2))
    with pytest.raises(InputError, match="reads the weights"):
        logits(model)
    model = tiny.recurrent()
    shaken(model, LoraConfig(rank=2, targets=("in_proj", "x_proj", "out_proj")))
    assert not torch.equal(logits(model), logits(tiny.recurrent()))
