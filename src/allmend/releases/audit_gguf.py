"""What a GGUF file says of itself, beside the merged model that it was written from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from allmend.errors import AllmendError
from allmend.nouns.release import Breach
from allmend.releases import audit_settings
from allmend.releases.causes import breach
from allmend.releases.expected import Expected
from allmend.releases.gguf.model import changed, planned
from allmend.releases.gguf.reader import Header, numbers, read
from allmend.releases.gguf.settings import Settings, sampling_of, settings_of
from allmend.releases.gguf.types import ERRORS
from allmend.releases.safetensors_stream import tensor

_ROWS = 64
"""Rows of each tensor that are read back here; all were checked while writing."""


def gguf(artefact: str, path: Path, merged: Path, file_type: str, expected: Expected) -> list[Breach]:
    """Every way in which the file is not what it should be."""
    try:
        header = read(path)
    except AllmendError as error:
        return [breach(artefact, "truncated", error.message, error.where or "")]
    settings = settings_of(expected.config)
    found = _marks(artefact, header, expected)
    found += audit_settings.template(artefact, header.get("tokenizer.chat_template"), expected)
    found += _settings(artefact, header, settings)
    found += _sampling(artefact, header, expected)
    return found + _tensors(artefact, header, merged, settings, file_type)


def adapter(artefact: str, path: Path, expected: Expected) -> list[Breach]:
    """A GGUF LoRA: alpha, and every matrix."""
    import torch

    from allmend.releases.gguf.model import permuted

    try:
        header = read(path)
    except AllmendError as error:
        return [breach(artefact, "truncated", error.message, error.where or "")]
    settings = settings_of(expected.config)
    alpha = float(header.get("adapter.lora.alpha", 0.0))
    names = _names(settings)
    found = audit_settings.template(artefact, header.get("tokenizer.chat_template"), expected)
    strengths = []
    for module, (a, b) in expected.weights.modules.items():
        name = names.get_name(f"{module}.weight", try_suffixes=(".weight",))
        if f"{name}.lora_a" not in header.tensors or f"{name}.lora_b" not in header.tensors:
            return [*found, breach(artefact, "weights", "it lacks a part of the adapter", str(name))]
        if settings.permutes and (".attn_q." in name or ".attn_k." in name):
            b = permuted(b, settings.heads if ".attn_q." in name else settings.kv_heads)
        rank = a.shape[0]
        scale = alpha / rank if alpha else 1.0
        here = scale * (
            torch.from_numpy(numbers(header, f"{name}.lora_b").copy())
            @ torch.from_numpy(numbers(header, f"{name}.lora_a").copy())
        )
        wanted = expected.weights.config_of(module).scale * (b @ a)
        strength = float((here * wanted).sum() / (wanted * wanted).sum().clamp_min(1e-30))
        off = float((here - strength * wanted).norm())
        if off > 1e-3 * float(here.norm()) + 1e-9:
            return [*found, breach(artefact, "weights", f"{name} is not the adapter's", f"by {off:.3g}")]
        strengths.append(strength)
    mean = sum(strengths) / len(strengths)
    if abs(mean - 1) > 1e-3:
        found.append(
            breach(artefact, "alpha", f"the adapter acts with {mean:.3g} times its strength", f"alpha {alpha}")
        )
    return found


def _names(settings: Settings) -> Any:
    import gguf as package

    kinds = {value: key for key, value in package.MODEL_ARCH_NAMES.items()}
    return package.get_tensor_name_map(kinds[settings.architecture], settings.layers)


def _marks(artefact: str, header: Header, expected: Expected) -> list[Breach]:
    found, marks = [], expected.marks
    eos = header.get("tokenizer.ggml.eos_token_id")
    if eos != marks.eos:
        words = "it has no end-of-text token" if eos is None else "it ends answers with another token"
        found.append(breach(artefact, "eos", words, f"{marks.eos} became {eos}"))
    if marks.bos is not None and header.get("tokenizer.ggml.bos_token_id") != marks.bos:
        seen = header.get("tokenizer.ggml.bos_token_id")
        found.append(breach(artefact, "bos", "it has another begin mark", f"{marks.bos} became {seen}"))
    if bool(header.get("tokenizer.ggml.add_bos_token", False)) and not marks.starts:
        found.append(breach(artefact, "bos", "it begins every text with a mark that was not trained with"))
    if header.get("tokenizer.ggml.add_eos_token", False):
        found.append(breach(artefact, "eos", "it ends every prompt with the end mark"))
    tokens = header.get("tokenizer.ggml.tokens") or []
    rows = expected.config.get("vocab_size")
    table = header.tensors.get("token_embd.weight")
    sizes = {rows, len(tokens), table.shape[0] if table else 0}
    if len(sizes) != 1:
        evidence = f"{rows} in the base, {len(tokens)} tokens, {table.shape[0] if table else 0} rows"
        found.append(breach(artefact, "vocabulary", "its vocabulary is not the base's", evidence))
    return found


def _settings(artefact: str, header: Header, settings: Settings) -> list[Breach]:
    if header.get("general.architecture") != settings.architecture:
        return [breach(artefact, "config", "it is of another architecture", str(header.get("general.architecture")))]
    found = []
    for key, wanted in settings.values.items():
        here = header.get(f"{settings.architecture}.{key}")
        same = here == wanted
        if isinstance(wanted, float) and here is not None:
            same = abs(float(here) - wanted) <= 1e-6 * abs(wanted)
        if not same:
            cause = "rope" if key.startswith("rope") else "config"
            found.append(breach(artefact, cause, f"it has another {key} than the base", f"{wanted!r} became {here!r}"))
    known = {f"{settings.architecture}.{key}" for key in settings.values}
    for key in header.values:
        if key.startswith(f"{settings.architecture}.rope.") and key not in known:
            found.append(breach(artefact, "rope", f"it sets {key}, which the base does not", str(header.get(key))))
    return found


def _sampling(artefact: str, header: Header, expected: Expected) -> list[Breach]:
    wanted = sampling_of(expected.generation)
    here = {key: value.value for key, value in header.values.items() if key.startswith("general.sampling.")}
    found = []
    for key in sorted({*wanted, *here}):
        a, b = wanted.get(key), here.get(key)
        if a is None or b is None or abs(float(a) - float(b)) > 1e-6:
            words = f"it sets the sampler's {key.rpartition('.')[2]} to another value than the base"
            found.append(breach(artefact, "sampler", words, f"{a!r} became {b!r}"))
    return found


def _tensors(artefact: str, header: Header, merged: Path, settings: Settings, file_type: str) -> list[Breach]:
    import gguf as package
    import numpy as np

    plan = planned(merged, settings, file_type)
    wanted = {name for _, _, name, _ in plan}
    extra = sorted(header.tensors.keys() - wanted - {"rope_freqs.weight"})
    missing = sorted(wanted - header.tensors.keys())
    found = []
    for name in [*extra, *missing]:
        cause = "tied" if name == "output.weight" else "weights"
        words = "it has a tensor that the merged model lacks" if name in extra else "a tensor of the model is gone"
        found.append(breach(artefact, cause, words, name))
    worst: tuple[float, str] = (0.0, "")
    for path, entry, name, _ in plan:
        place = header.tensors.get(name)
        if place is None:
            continue
        if place.shape != entry.shape:
            cause = "vocabulary" if name in ("token_embd.weight", "output.weight") else "weights"
            found.append(breach(artefact, cause, f"{name} has another shape", f"{entry.shape} became {place.shape}"))
            continue
        with path.open("rb") as file:
            values = changed(tensor(file, entry), name, settings)
        step = max(1, entry.shape[0] // _ROWS) if len(entry.shape) > 1 else None
        rows = slice(None, None, step) if step else None
        here = np.asarray(numbers(header, name, rows)).reshape(-1)
        there = (values[::step] if step else values).float().numpy().reshape(-1)
        used = package.GGMLQuantizationType(place.type).name.lower()
        norm = float(np.linalg.norm(there)) or 1.0
        error = float(np.linalg.norm(here - there)) / norm
        if not np.isfinite(here).all():
            found.append(breach(artefact, "overflow", f"{name} holds infinite or undefined numbers", used))
        elif error > ERRORS.get(used, 0.5) + 1e-6 and error > worst[0]:
            worst = (error, name)
    if worst[1]:
        words = f"{worst[1]} is not the merged model's: it differs by {worst[0]:.1%}"
        found.append(breach(artefact, "requantised" if worst[0] < 0.3 else "weights", words))
    return found
