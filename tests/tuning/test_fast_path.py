"""The fast path against the plain one: the same loss and the same gradients, whatever is turned on or off."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from allmend.adapters import LoraConfig, LoraSet, attach, detach, layer
from allmend.data import Tokens
from allmend.errors import UsageError
from allmend.models.quantised import QuantisedLinear, pack_weight, quantise, unpack_weight
from allmend.tuning.fast import bordered, native
from allmend.tuning.packs import pack, packs, shared_prefix
from allmend.tuning.passes import Passes
from allmend.tuning.tricks import Tricks

SHAPE = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SLIDING = {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"]}
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (transformers.LlamaConfig, {"attention_bias": True}),
    "qwen2": (transformers.Qwen2Config, {}),
    "qwen3": (transformers.Qwen3Config, {"head_dim": 16}),
    "gemma3": (transformers.Gemma3TextConfig, {"head_dim": 8, **SLIDING}),
    "mistral": (transformers.MistralConfig, {"sliding_window": 24}),
}


def model(kind: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    made, more = KINDS[kind]
    config = made(**(SHAPE | more | changes))
    config._attn_implementation = "sdpa"
    network = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    network.requires_grad_(False)
    for name, weight in network.named_parameters():
        if "norm" in name or "bias" in name:
            weight.add_(torch.randn_like(weight) * 0.2)  # fresh ones are constants and would hide mistakes
    return network


def trained(network: Any, **changes: Any) -> LoraSet:
    lora = attach(network, LoraConfig(rank=3, **changes), seed=1)
    with torch.no_grad():
        for weight in lora.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return lora


def rows(lengths: list[int], prefix: int = 0, seed: int = 0) -> list[Tokens]:
    numbers = random.Random(seed)
    head = [numbers.randrange(3, 320) for _ in range(prefix)]
    made = []
    for place, length in enumerate(lengths):
        ids = head + [numbers.randrange(3, 320) for _ in range(length - prefix)]
        learned = 1 + place % 3
        made.append(Tokens(ids, bytes(length - learned) + b"\1" * learned))
    return made


def outcome(
    network: Any, lora: LoraSet, learn: list[Tokens], tricks: Tricks, recompute: bool = False
) -> tuple[float, list[torch.Tensor], Passes]:
    loaded: Any = SimpleNamespace(model=network, device=torch.device("cpu"))
    passes = Passes.of(loaded, lora, tricks, 4096)
    if recompute:
        passes.recompute("asked for")
    total = 0.0
    for part in passes.packs(learn):
        loss = passes.loss(part)
        loss.backward()
        total += float(loss.detach())
    gradients = [weight.grad.clone() for weight in lora.parameters()]
    for weight in lora.parameters():
        weight.grad = None
    passes.close()
    return total, gradients, passes


def assert_equal(one: tuple[float, list[torch.Tensor], Passes], two: tuple[float, list[torch.Tensor], Passes]) -> None:
    assert one[0] == pytest.approx(two[0], rel=2e-5)
    for a, b in zip(one[1], two[1], strict=True):
        assert torch.linalg.vector_norm(a - b) <= 2e-4 * torch.linalg.vector_norm(b) + 1e-6


def choice(passes: Passes, name: str) -> Any:
    return next(one for one in passes.choices if one.name == name)


MIXED = [40, 31, 30, 29, 12, 7, 5]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", [0, 4])
def test_all_tricks_give_the_loss_and_gradients_of_none(kind: str, prefix: int) -> None:
    network = model(kind)
    lora = trained(network)
    learn = rows(MIXED, prefix=prefix)
    plain = outcome(network, lora, learn, Tricks.none())
    fast = outcome(network, lora, learn, Tricks())
    assert choice(fast[2], "layers").value == "lean"
    assert choice(plain[2], "layers").value == "the model's own"
    assert_equal(fast, plain)


@pytest.mark.parametrize("trick", list(Tricks.__dataclass_fields__))
@pytest.mark.parametrize("kind", ["gemma3", "qwen2"])
def test_each_trick_can_be_turned_off(kind: str, trick: str) -> None:
    network = model(kind)
    lora = trained(network)
    learn = rows(MIXED, prefix=4)
    with_all = outcome(network, lora, learn, Tricks())
    without = outcome(network, lora, learn, Tricks.without(trick))
    assert choice(without[2], "tricks_off").value == [trick]
    assert_equal(without, with_all)


@pytest.mark.parametrize("kind", ["llama", "gemma3", "mistral"])
@pytest.mark.parametrize("prefix", [0, 30])
def test_rows_that_need_several_blocks_of_queries(kind: str, prefix: int) -> None:
    network = model(kind)
    lora = trained(network)
    learn = rows([700, 520, 400, 33], prefix=prefix)
    assert_equal(outcome(network, lora, learn, Tricks()), outcome(network, lora, learn, Tricks.none()))


@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), ("down_proj",), ("gate_proj", "o_proj")])
def test_a_lora_on_some_layers_only(targets: tuple[str, ...]) -> None:
    network = model("qwen3")
    lora = trained(network, targets=targets)
    learn = rows(MIXED)
    assert_equal(outcome(network, lora, learn, Tricks()), outcome(network, lora, learn, Tricks.none()))


def test_backward_ends_at_the_lowest_lora() -> None:
    network = model("llama", num_hidden_layers=3)
    names = tuple(f"model.layers.2.self_attn.{name}" for name in ("q_proj", "k_proj"))
    lora = trained(network, targets=names)
    learn = rows(MIXED)
    assert_equal(outcome(network, lora, learn, Tricks()), outcome(network, lora, learn, Tricks.none()))


def test_the_model_is_given_back_as_it_was() -> None:
    network = model("gemma3")
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    lora = trained(network)
    outcome(network, lora, rows(MIXED), Tricks())
    detach(network, lora)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and after[name].is_contiguous() for name in before)


def test_new_weights_reach_the_border() -> None:
    network = model("llama")
    lora = trained(network)
    loaded: Any = SimpleNamespace(model=network, device=torch.device("cpu"))
    passes = Passes.of(loaded, lora, Tricks(), 4096)
    learn = rows(MIXED)
    part = passes.packs(learn)[0]
    before = float(passes.loss(part).detach())
    with torch.no_grad():
        for weight in lora.parameters():
            weight.mul_(1.5)
    passes.stepped()
    after = float(passes.loss(part).detach())
    passes.close()
    assert after != before
    assert after == pytest.approx(outcome(network, lora, learn, Tricks.none())[0], rel=2e-5)


def test_bf16_stays_close_to_the_plain_path() -> None:
    network = model("gemma3").to(torch.bfloat16)
    lora = trained(network)
    learn = rows(MIXED)
    fast, plain = outcome(network, lora, learn, Tricks()), outcome(network, lora, learn, Tricks.none())
    assert fast[0] == pytest.approx(plain[0], rel=0.02)
    for a, b in zip(fast[1], plain[1], strict=True):
        assert torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.98


def test_another_architecture_keeps_its_own_layers_and_says_why() -> None:
    torch.manual_seed(0)
    config = transformers.GPTNeoXConfig(
        vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    network = transformers.AutoModelForCausalLM.from_config(config).eval()
    network.requires_grad_(False)
    lora = trained(network)
    learn = rows(MIXED)
    fast, plain = outcome(network, lora, learn, Tricks()), outcome(network, lora, learn, Tricks.none())
    layers = choice(fast[2], "layers")
    assert layers.value == "the model's own"
    assert layers.reason
    assert_equal(fast, plain)


def same_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout that draws by shape alone, so that two ways of working out a step drop the same."""

    def drawn(shape: tuple[int, ...], share: float) -> torch.Tensor:
        numbers = torch.Generator().manual_seed(shape[-1] * 1000 + shape[-2])
        return torch.empty(shape[-2:]).bernoulli_(1 - share, generator=numbers) / (1 - share)

    monkeypatch.setattr(layer, "dropout", lambda x, share, on: x * drawn(x.shape, share) if on else x)
    monkeypatch.setattr(bordered, "drop_mask", lambda shape, share, like: drawn(shape, share))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3"])
@pytest.mark.parametrize("recompute", [False, True])
def test_dropout_is_the_plain_path_s(monkeypatch: pytest.MonkeyPatch, kind: str, recompute: bool) -> None:
    same_masks(monkeypatch)
    network = model(kind)
    lora = trained(network, dropout=0.3)
    learn = rows(MIXED, prefix=4)
    network.train()
    # Where a token is not learned the last layer would draw for fewer rows.
    tricks = Tricks.without("top_layer_where_learned")
    fast = outcome(network, lora, learn, tricks, recompute)
    plain = outcome(network, lora, learn, Tricks.without("lean_layers"))
    assert choice(fast[2], "layers").value == "lean"
    assert_equal(fast, plain)
    network.eval()
    assert outcome(network, lora, learn, tricks)[0] != pytest.approx(fast[0], rel=1e-3)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    mask = bordered.drop_mask((400, 300), 0.3, torch.empty(0))
    assert float((mask == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(mask.mean()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_activations_made_again_give_the_same_bits(kind: str, dropout: float) -> None:
    network = model(kind)
    lora = trained(network, dropout=dropout)
    learn = rows(MIXED, prefix=4)
    network.train()
    found = []
    for recompute in (False, True):
        torch.manual_seed(5)
        found.append(outcome(network, lora, learn, Tricks(), recompute))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_dora_is_the_plain_path_s(kind: str) -> None:
    network = model(kind)
    lora = trained(network, dora=True)
    learn = rows(MIXED, prefix=4)
    fast, plain = outcome(network, lora, learn, Tricks()), outcome(network, lora, learn, Tricks.none())
    assert choice(fast[2], "layers").value == "lean"
    assert_equal(fast, plain)


def test_dora_with_dropout_keeps_the_models_own_layers() -> None:
    network = model("llama")
    lora = trained(network, dropout=0.5, dora=True)
    assert "dropout and DoRA" in choice(outcome(network, lora, rows(MIXED), Tricks())[2], "layers").reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("more", [{}, {"dora": True}], ids=["lora", "dora"])
def test_a_quantised_base_is_that_of_its_unpacked_weights(kind: str, bits: int, more: dict[str, Any]) -> None:
    """Fast, plain, and a dense model that holds what the codes stand for: one loss, one gradient."""
    network = model(kind)
    quantise(network, bits)
    lora = trained(network, **more)
    learn = rows(MIXED, prefix=4)
    fast, plain = outcome(network, lora, learn, Tricks()), outcome(network, lora, learn, Tricks.none())
    assert choice(fast[2], "layers").value == "lean"
    assert_equal(fast, plain)
    dense = model(kind)
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, QuantisedLinear):
                dense.get_submodule(name.removesuffix(".base")).weight.copy_(module.weight)
    other = attach(dense, lora.config, seed=1)
    other.load_state(lora.state())
    assert_equal(outcome(dense, other, learn, Tricks()), fast)
    outcome(network, lora, learn, Tricks())
    detach(network, lora)
    assert sum(isinstance(module, QuantisedLinear) for module in network.modules()) == 14


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [8, 4])
def test_compiled_unpacking_is_torch_s(bits: Any, dtype: torch.dtype) -> None:
    compiled, why = native.library()
    assert compiled is not None, why
    codes, scale = pack_weight(torch.randn(37, 192), bits)
    wide = [torch.zeros(37, 200, dtype=dtype) for _ in range(2)]
    unpack_weight(codes, scale, wide[0][:, :192])
    native.NativeChains(compiled).unpack(codes, scale, wide[1][:, :192])
    assert torch.equal(wide[0], wide[1]) and not wide[1][:, 192:].any()


def test_without_a_compiler_torch_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    compiled, why = native.library.__wrapped__()
    assert compiled is None
    assert "compiler" in why


def test_a_compiler_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "absent"))
    compiled, why = native.library.__wrapped__()
    assert compiled is None
    assert "absent" in why


def test_a_shared_prefix_stands_once_and_counts_for_every_row() -> None:
    learn = rows([20, 20, 16], prefix=10)
    made = pack(learn, share_prefix=True)
    assert made.ids.shape[1] == 56 - 2 * 10
    assert made.tokens == 56
    assert made.segments.prefix == 10
    assert made.segments.positions[0, 10] == 10
    assert sorted(made.targets.tolist()) == sorted(pack(learn).targets.tolist())


def test_a_prefix_is_not_shared_where_it_is_learned_or_short() -> None:
    learned = [Tokens([5, 6, 7, 8, 9, place], b"\0\0\0\1\1\1") for place in (10, 11)]
    assert shared_prefix(learned) == 0
    assert shared_prefix(rows([9, 9], prefix=3)) == 0
    assert shared_prefix(rows([9], prefix=3)) == 0
    same = [Tokens([5, 6, 7, 8, 9, 10], b"\0\0\0\0\0\1")] * 2
    assert shared_prefix(same) == 4  # one token that is only read stays with each row
    assert len(packs(same, 6, share_prefix=True)) == 2


def test_an_unknown_trick_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="lean_layer"):
        Tricks.without("lean_layer")
