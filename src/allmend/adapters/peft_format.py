"""Reading and writing adapters in PEFT's file format.

`adapter_config.json` beside `adapter_model.safetensors`, whose keys are
`base_model.model.MODULE.lora_A.weight` (rank, in) and `…lora_B.weight` (out, rank). Files that PEFT wrote are read
with per-module ranks (`rank_pattern`, `alpha_pattern`), rsLoRA and DoRA (`…lora_magnitude_vector`, (out,)); what a
LoRA can hold beyond that (trained biases, embeddings, whole modules) is refused by name, never dropped.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from allmend.adapters.attach import LoraSet
from allmend.adapters.config import LoraConfig
from allmend.digests import file_digest
from allmend.errors import InputError, NotFound
from allmend.nouns.adapter import Adapter
from allmend.nouns.model import Model

CONFIG, WEIGHTS, TEMPLATE = "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"
_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
_MAGNITUDE = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_magnitude_vector(?:\.default)?(?:\.weight)?")
_MAX_BYTES = 8 << 30
_NAME_PATTERN = re.compile(r"\^?(?:[A-Za-z0-9_\-.]|\\\.)+\$?")
_KNOWN = {
    # What is read here or checked by name, and what the tensors' own names and shapes say once more.
    "peft_type", "r", "lora_alpha", "lora_dropout", "use_rslora", "use_dora", "alpha_pattern", "rank_pattern", "bias",
    "lora_bias", "modules_to_save", "fan_in_fan_out", "init_lora_weights", "base_model_name_or_path",
    "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "ensure_weight_tying",
    # What tells of a training or of where it ran, and sizes of methods that have a switch of their own.
    "task_type", "auto_mapping", "revision", "inference_mode", "peft_version", "megatron_config", "megatron_core",
    "loftq_config", "eva_config", "corda_config", "lora_ga_config", "runtime_config", "qalora_group_size",
}  # fmt: skip
"""Keys of a configuration that change nothing which is not looked at here; any other must be unset."""
_PLAIN_BEGINNINGS = (None, True, False, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True)
class AdapterWeights:
    """An adapter as read from disk."""

    folder: Path
    config: LoraConfig
    base: str
    base_digest: str | None
    digest: str
    """SHA-256 of the weights file; `identity` names what is computed."""
    modules: dict[str, tuple[torch.Tensor, torch.Tensor]]
    """Module name: A (rank, in) and B (out, rank), fp32."""
    alphas: dict[str, float]
    """Alpha of each module; `alpha_pattern` can make them differ."""
    template: str | None
    """The chat template beside it, if any."""
    template_name: str | None
    magnitudes: dict[str, torch.Tensor] = field(default_factory=dict)
    """Of a DoRA: (out,) fp32 by module."""
    base_bits: int | None = None
    """8 or 4 where allmend trained it on weights quantised so (`models.quantised`)."""

    @property
    def identity(self) -> str:
        """Names what the adapter computes: the same tensors scaled otherwise are another adapter.

        SHA-256 over the weights' digest, each module's scale, and whether it is a DoRA.
        """
        scales = {module: self.config_of(module).scale for module in sorted(self.modules)}
        text = json.dumps({"weights": self.digest, "scales": scales, "dora": self.config.dora})
        return hashlib.sha256(text.encode()).hexdigest()

    def config_of(self, module: str) -> LoraConfig:
        """Rank and alpha as they are for one module."""
        rank = int(self.modules[module][0].shape[0])
        return self.config.model_copy(update={"rank": rank, "alpha": self.alphas[module]})

    def about(self) -> Adapter:
        """The noun."""
        targets = tuple(sorted({name.rsplit(".", 1)[-1] for name in self.modules}))
        return Adapter(
            folder=self.folder,
            digest=self.digest,
            base=self.base,
            base_digest=self.base_digest,
            rank=self.config.rank,
            alpha=self.config.alpha,
            targets=targets,
            template=self.template_name,
        )


def write(
    folder: Path, lora: LoraSet, base: Model, template: str, template_name: str, base_bits: int | None = None
) -> Adapter:
    """Write an adapter; each file appears by rename, the weights last.

    Args:
        template: the chat template's Jinja text, kept beside the weights.
        base_bits: 8 or 4 where it was trained on quantised weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Where whole names were asked for, their ends would name other layers too.
    whole = any("." in target for target in lora.config.targets)
    targets = sorted(lora.layers if whole else {name.rsplit(".", 1)[-1] for name in lora.layers})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.base or base.name,
        "r": lora.config.rank,
        "lora_alpha": lora.config.alpha,
        "lora_dropout": lora.config.dropout,
        "target_modules": targets,
        "use_rslora": lora.config.rslora,
        "use_dora": lora.config.dora,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "modules_to_save": None,
    }
    about = {
        "schema": "allmend.adapter_notes/1",
        "base": base.name,
        "base_digest": base.digest,
        "template": template_name,
    }
    if base_bits:
        about["base_bits"] = str(base_bits)
    tensors = {
        f"base_model.model.{key.replace('.lora_A', '.lora_A.weight').replace('.lora_B', '.lora_B.weight')}": value
        for key, value in lora.state().items()
    }
    _write(folder / TEMPLATE, template.encode())
    _write(folder / "allmend.json", json.dumps(about, indent=2).encode())
    _write(folder / CONFIG, json.dumps(config, indent=2).encode())
    _write(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    return read(folder).about()


def _write(path: Path, content: bytes) -> None:
    hidden = path.with_name(f".{path.name}.new")
    hidden.write_bytes(content)
    hidden.replace(path)


def read(folder: Path | str) -> AdapterWeights:
    """Read an adapter folder and check it.

    Raises:
        NotFound: there is no adapter there.
        InputError: it is damaged, or holds something that is not a plain LoRA.
    """
    folder = Path(folder)
    config_file, weights_file = folder / CONFIG, folder / WEIGHTS
    if not config_file.is_file():
        raise NotFound("there is no adapter_config.json here", where=str(folder), hint="Name an adapter's folder.")
    if not weights_file.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        why = (
            "its weights are pickled, a format that can run code" if pickled else "it has no adapter_model.safetensors"
        )
        raise InputError(f"this adapter cannot be opened: {why}", where=str(folder))
    config = _config(config_file)
    lora, patterns = _lora(config, config_file), _patterns(config, config_file)
    tensors = _tensors(weights_file)
    magnitudes = _magnitudes(tensors, weights_file) if lora.dora else {}
    modules = _modules(tensors, weights_file)
    if lora.dora and set(magnitudes) != set(modules):
        raise InputError("it is a DoRA, and some of its layers have no magnitudes", where=str(weights_file))
    notes = _notes(folder / "allmend.json")
    return AdapterWeights(
        folder=folder,
        config=lora,
        base=str(notes.get("base") or config.get("base_model_name_or_path") or ""),
        base_digest=notes.get("base_digest"),
        digest=file_digest(weights_file),
        modules=modules,
        alphas={name: _pattern_value(patterns, name, lora.alpha) for name in modules},
        template=_template(folder / TEMPLATE),
        template_name=notes.get("template"),
        magnitudes=magnitudes,
        base_bits={"8": 8, "4": 4}.get(notes.get("base_bits", "")),
    )


def _config(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is not an object")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"not an adapter configuration: {error}", where=str(path)) from None
    if str(config.get("peft_type", "LORA")).upper() != "LORA":
        raise InputError(f"this adapter is a {config['peft_type']}; only LoRA is supported", where=str(path))
    for key, plain, what in (
        ("bias", ("none", None), "trained biases"),
        ("modules_to_save", (None, []), "whole modules"),
        ("fan_in_fan_out", (False, None), "transposed layers"),
    ):
        if config.get(key) not in plain:
            raise InputError(f"this adapter holds {what} ({key}), which is not supported", where=str(path))
    # Some ways to begin (PiSSA, OLoRA, CorDA, LoftQ) change the base's weights, which the adapter then builds on.
    begun = config.get("init_lora_weights")
    if begun not in _PLAIN_BEGINNINGS:
        raise InputError(
            f"this adapter may need changed base weights (init_lora_weights = {begun!r}), which is not supported",
            where=str(path),
            hint="PEFT can convert it to a plain LoRA: save_pretrained(path_initial_model_for_weight_conversion=…).",
        )
    # A key of tomorrow's PEFT changes what the tensors mean: applied as a plain LoRA they would be another adapter.
    unknown = sorted(key for key in config.keys() - _KNOWN if config[key] not in (None, False, 0, "", [], {}))
    if unknown:
        named = ", ".join(key[:80] for key in unknown[:3])
        raise InputError(f"this adapter is more than a plain LoRA ({named}), which is not supported", where=str(path))
    return config


def _lora(config: dict[str, Any], path: Path) -> LoraConfig:
    try:
        return LoraConfig(
            rank=int(config["r"]),
            alpha=float(config["lora_alpha"]),
            dropout=float(config.get("lora_dropout") or 0.0),
            rslora=bool(config.get("use_rslora")),
            dora=bool(config.get("use_dora")),
        )
    except KeyError as error:
        raise InputError(f"not the configuration of a LoRA: it has no {error}", where=str(path)) from None
    except (ValueError, TypeError, OverflowError) as error:  # Pydantic's error is a ValueError
        values = {key: config[key] for key in ("r", "lora_alpha", "lora_dropout") if key in config}
        raise InputError(f"not the configuration of a LoRA: {str(values)[:200]}", where=str(path)) from error


def _patterns(config: dict[str, Any], path: Path) -> dict[str, float]:
    """`alpha_pattern`: names of modules, or ends of them. PEFT takes regular expressions too; those are refused,
    since one from a stranger can run for ever."""
    given = config.get("alpha_pattern") or {}
    patterns = {}
    try:
        for pattern, value in given.items():
            if not _NAME_PATTERN.fullmatch(pattern):
                raise InputError(
                    f"its alpha_pattern {pattern[:80]!r} is a regular expression, which is not supported",
                    where=str(path),
                )
            patterns[pattern] = LoraConfig(alpha=float(value)).alpha
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InputError("its alpha_pattern does not give numbers by module", where=str(path)) from error
    return patterns


def _template(path: Path) -> str | None:
    try:
        return path.read_text("utf-8") if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the chat template beside the adapter cannot be read: {error}", where=str(path)) from None


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    if path.stat().st_size > _MAX_BYTES:
        raise InputError("an adapter of more than 8 GiB is refused", where=str(path))
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"the weights are damaged: {error}", where=str(path)) from None


def _magnitudes(tensors: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Take DoRA's magnitudes out of the tensors."""
    found = {}
    for key in list(tensors):
        match = _MAGNITUDE.fullmatch(key)
        if match:
            tensor = _finite(tensors.pop(key), 1)
            if tensor is None:
                raise InputError(f"{key} is no row of finite numbers", where=str(path))
            found[match["module"]] = tensor
    return found


def _finite(tensor: torch.Tensor, dimensions: int) -> torch.Tensor | None:
    """`tensor` in fp32; None where it is not of that many dimensions, or holds what is no finite number."""
    if not tensor.is_floating_point() or tensor.ndim != dimensions:
        return None
    try:
        numbers = tensor.to(torch.float32)  # Of eight bits torch cannot tell whether they are finite.
    except (NotImplementedError, RuntimeError):
        return None
    return numbers if bool(torch.isfinite(numbers).all()) else None


def _modules(tensors: dict[str, torch.Tensor], path: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    sides: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if not match:
            raise InputError(f"there is a tensor that is no plain LoRA: {key}", where=str(path))
        numbers = _finite(tensor, 2)
        if numbers is None:
            raise InputError(f"{key} is not a finite matrix", where=str(path))
        sides.setdefault(match["module"], {})[match["side"]] = numbers
    for module, pair in sides.items():
        if set(pair) != {"A", "B"} or pair["A"].shape[0] != pair["B"].shape[1]:
            raise InputError(f"A and B of {module} do not belong together", where=str(path))
        if not (pair["A"].numel() and pair["B"].numel()):
            raise InputError(f"the matrices of {module} are empty: a rank is one at least", where=str(path))
    if not sides:
        raise InputError("there are no LoRA tensors here", where=str(path))
    return {module: (pair["A"], pair["B"]) for module, pair in sides.items()}


def _pattern_value(patterns: dict[str, float], module: str, default: float) -> float:
    """The value of the first pattern that fits, as PEFT chooses it: a whole name, or the end of one at a dot."""
    for pattern, value in patterns.items():
        name = pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")
        if module == name or (not pattern.startswith("^") and module.endswith("." + name)):
            return value
    return default


def _notes(path: Path) -> dict[str, str]:
    """What allmend wrote beside an adapter: texts only, nothing where there are none."""
    try:
        notes = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(notes, dict):
        return {}
    return {key: value for key, value in notes.items() if isinstance(value, str)}
