"""Number formats, the reading of GGUF, tokenizers and Ollama's templates, each against an independent reading."""

from __future__ import annotations

import re
from pathlib import Path

import gguf
import numpy as np
import pytest
import small
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from allmend.data import PLAIN, Template
from allmend.errors import AllmendError, InputError, Unavailable, UsageError
from allmend.releases.gguf import model as gguf_model
from allmend.releases.gguf import reader, survival, tokens, types
from allmend.releases.gguf.settings import config_of, settings_of
from allmend.releases.modelfile import modelfile, pieces

QUANTISED = ("q8_0", "q6_k", "q5_k", "q5_0", "q4_k", "q4_0", "q3_k", "q2_k")


@pytest.mark.parametrize("type_", ["f32", "f16", "bf16", *QUANTISED])
def test_every_format_reads_back_within_its_error(type_: str) -> None:
    values = torch.randn(64, 512, generator=torch.Generator().manual_seed(0)) * 0.02
    made = types.quantised(values, type_, "x")
    assert made.shape == (64, types.size(type_, (1, 512)))
    error = np.linalg.norm(types.read_back(made, type_) - values.numpy()) / float(values.norm())
    assert error <= types.ERRORS[type_]
    if type_ not in ("f32", "f16", "bf16"):
        assert error > types.ERRORS[type_] / 20, "the bound would not notice a wrong format"


def test_finer_formats_are_nearer() -> None:
    values = torch.randn(32, 512, generator=torch.Generator().manual_seed(1))
    errors = [
        float(np.linalg.norm(types.read_back(types.quantised(values, t, "x"), t) - values.numpy()))
        for t in ("q8_0", "q6_k", "q5_k", "q4_k", "q3_k", "q2_k")
    ]
    assert errors == sorted(errors)


def test_a_wrong_reading_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        types, "_turn", lambda part, type_: np.zeros((len(part), types.size(type_, (1, 256))), np.uint8)
    )
    with pytest.raises(InputError, match="differs from its weights by 100"):
        types.quantised(torch.randn(4, 256), "q4_k", "blk.0.attn_q.weight")


def test_a_library_that_means_another_type_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(types._IDS, "q4_k", 13)
    with pytest.raises(Unavailable, match="has another q4_k"):
        types._by_library(np.zeros((1, 256), np.float32), "q4_k")


@pytest.mark.parametrize(
    ("file_type", "name", "shape", "wanted"),
    [
        ("q4_k_m", "blk.0.attn_norm.weight", (512,), "f32"),
        ("q4_k_m", "blk.0.attn_q.weight", (512, 512), "q4_k"),
        ("q4_k_m", "blk.0.ffn_down.weight", (512, 512), "q6_k"),
        ("q4_k_m", "blk.0.attn_q.weight", (512, 640), "q5_0"),
        ("q4_k_m", "blk.0.ffn_down.weight", (512, 640), "q8_0"),
        ("q4_k_m", "token_embd.weight", (512, 512), "q6_k"),
        ("q8_0", "blk.0.attn_q.weight", (512, 48), "f16"),
        ("bf16", "blk.0.attn_q.weight", (512, 48), "bf16"),
    ],
)
def test_a_tensor_gets_the_type_that_its_shape_allows(
    file_type: str, name: str, shape: tuple[int, ...], wanted: str
) -> None:
    assert types.tensor_type(file_type, name, shape, 0, 16, tied=True) == wanted


def test_types_are_checked_by_name() -> None:
    assert types.checked(("Q8_0", " q4_k_m ", "q8_0")) == ("q8_0", "q4_k_m")
    with pytest.raises(UsageError) as caught:
        types.checked(("q4_k_l",))
    assert "q4_k_m" in str(caught.value.hint)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    base = small.base(folder / "base")
    spec = tokens.made(base, small.tokenizer(), tiny.VOCABULARY, True)
    gguf_model.write(base, folder / "m.gguf", "q8_0", spec, gguf_model.Naming("small", "{{ messages }}", "MIT", "base"))
    return folder / "m.gguf"


def test_our_reader_and_the_package_s_agree(written: Path) -> None:
    ours, theirs = reader.read(written), gguf.GGUFReader(written)
    assert set(ours.values) == {key for key in theirs.fields if not key.startswith("GGUF.")}
    for key, value in ours.values.items():
        assert value.value == theirs.fields[key].contents(), key
    assert {tensor.name for tensor in theirs.tensors} == set(ours.tensors)
    for tensor in theirs.tensors:
        place = ours.tensors[tensor.name]
        assert (place.offset, place.size) == (tensor.data_offset, tensor.n_bytes)
        there = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(reader.numbers(ours, tensor.name).reshape(-1), there.reshape(-1))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_header_is_an_error_in_words(written: Path, data: st.DataObject) -> None:
    content = bytearray(written.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 4000) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    path = written.with_name("damaged.gguf")
    path.write_bytes(bytes(content[:cut] if data.draw(st.booleans()) else content))
    try:
        found = reader.read(path)
    except AllmendError as error:
        assert error.message
    else:
        assert all(tensor.offset + tensor.size <= path.stat().st_size for tensor in found.tensors.values())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "mamba"}, "not written; known: llama"),
        ({"model_type": "mistral", "sliding_window": 24}, "sliding windows of mistral"),
        ({"model_type": "qwen3", "attention_bias": True}, "biases of attention"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4}}, "'yarn' is not written"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "a part of each head"),
    ],
)
def test_what_gguf_would_lose_is_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    config = config_of(small.base(tmp_path / "base")) | changes
    with pytest.raises(Unavailable, match=words):
        settings_of(config)


def test_layers_that_llama_cpp_would_arrange_otherwise_are_refused(tmp_path: Path) -> None:
    config = config_of(small.base(tmp_path / "base", "gemma3", query_pre_attn_scalar=8))
    with pytest.raises(Unavailable, match="every 6th layer"):
        settings_of(config)


def test_a_tokenizer_without_a_name_in_llama_cpp_is_refused(tmp_path: Path) -> None:
    import json

    base = small.base(tmp_path / "base")
    spec = json.loads((base / "tokenizer.json").read_text())
    spec["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "[aeiou]+"}, "behavior": "Isolated", "invert": False}
    (base / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(Unavailable, match="no name for the rule"):
        tokens.made(base, small.tokenizer(), tiny.VOCABULARY, True)


CHATML = Template(
    "chatml",
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
)
UNSAYABLE = Template("shouting", "{% for m in messages %}{{ m.content | upper }}{% endfor %}")


def go(text: str, messages: list[dict[str, str]]) -> str:
    """What Go's text/template makes of the few words that are used here."""
    body, rest = re.fullmatch(r"\{\{ range \.Messages \}\}(.*)\{\{ end \}\}([^{]*)", text, re.S).groups()  # type: ignore[union-attr]
    roles = dict(re.findall(r'\{\{ (?:else )?if eq \.Role "(\w+)" \}\}(.*?)(?=\{\{ else|\{\{ end \}\})', body, re.S))
    return "".join(roles[m["role"]].replace("{{ .Content }}", m["content"]) for m in messages) + rest


@pytest.mark.parametrize("template", [PLAIN, CHATML], ids=["plain", "chatml"])
def test_an_ollama_template_writes_what_the_jinja_template_writes(template: Template) -> None:
    found = pieces(template, "<bos>", "<eos>")
    assert found is not None
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello\nthere"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "Bye"},
    ]
    for messages in (talk, talk[1:], talk[1:2]):
        wanted = template.render(messages, add_generation_prompt=True, bos_token="<bos>", eos_token="<eos>")
        assert go(found.go(), messages) == wanted


def test_a_template_that_cannot_be_said_is_left_out_and_said_so() -> None:
    assert pieces(UNSAYABLE, "", "") is None
    text = modelfile("m.gguf", None, {"temperature": 0.7, "top_k": 40, "do_sample": True}, ["<eos>"], "Terms.")
    assert "No TEMPLATE" in text and "PARAMETER temperature 0.7" in text and 'PARAMETER stop "<eos>"' in text
    assert 'LICENSE """Terms."""' in text


def test_an_adapter_on_weights_that_lie_on_the_grid_is_rounded_away_and_kept_by_a_finer_format() -> None:
    """A base that came from a GGUF: in its own format nearly nothing of a small update is left."""
    numbers = torch.Generator().manual_seed(0)
    plain = torch.randn(64, 512, generator=numbers) * 0.02
    change = torch.randn(64, 4, generator=numbers) @ torch.randn(4, 512, generator=numbers) * 1e-4
    for type_ in ("q4_k", "q5_0"):
        on_grid = torch.from_numpy(types.read_back(types.quantised(plain, type_, "x"), type_)).bfloat16().float()
        assert survival.share_left(on_grid, change, type_) < 0.3
        finer = survival._enough(on_grid, change, type_, 512)
        assert 0.8 <= survival.share_left(on_grid, change, finer) <= 1.25
        assert types.size(finer, (1, 512)) > types.size(type_, (1, 512))
