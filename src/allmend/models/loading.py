"""From a `Model` to a transformers model in memory, with every choice given its reason.

The safetensors folder is read as it is; a GGUF file is converted once (see `gguf`). No pickled weights and no
remote code are ever opened.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from allmend.errors import InputError, UsageError
from allmend.models.gguf import converted
from allmend.models.kind import SAID, kind_of
from allmend.nouns.choice import Choice
from allmend.nouns.model import Model

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from allmend.models.fetch import Progress


@dataclass
class Loaded:
    """A model in memory, frozen and in evaluation mode."""

    about: Model
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    context: int
    """Tokens that fit, prompt and answer together."""
    template: str | None
    """The model's own chat template (Jinja), or None: then the documented plain one is used."""
    dtype: torch.dtype
    device: torch.device
    folder: Path
    """The safetensors folder it was read from."""
    choices: list[Choice] = field(default_factory=list)
    bits: int | None = None
    """8 or 4 where the linear layers are quantised."""


def load(
    model: Model,
    dtype: str | None = None,
    device: str | None = None,
    progress: Progress | None = None,
    bits: int | None = None,
) -> Loaded:
    """Load a model for training, scoring or generation.

    Args:
        dtype: `float32`, `bfloat16` or `float16`; None chooses by measuring nothing, from what the processor has.
        device: a torch device; None is CUDA or MPS where there is one, else the CPU.
        bits: 8 or 4 quantises the linear layers (see `quantised`); only for a model that stays frozen.

    Raises:
        InputError: the weights, configuration or tokenizer do not belong together or cannot be read.
    """
    import torch

    from allmend.models import quantised

    _check_kind(model)
    where, why_device = chosen_device(device)
    kind, why_dtype = chosen_dtype(dtype, where)
    folder = converted(model, progress) if model.format == "gguf" else model.path
    network = load_network(folder, kind)
    network.requires_grad_(False)
    network.eval()
    _check_finite(network, folder)
    left = quantised.quantise(network, bits) if bits else 0
    if where.type != "cpu":
        network.to(where)
    tokenizer = _tokenizer(folder)
    _check_vocabulary(network, tokenizer, folder)
    return Loaded(
        about=model,
        model=network,
        tokenizer=tokenizer,
        context=_context(network, tokenizer),
        template=_template(folder, tokenizer),
        dtype=kind,
        device=torch.device(where),
        folder=folder,
        bits=bits,
        choices=[
            Choice(name="device", value=str(where), reason=why_device),
            Choice(name="dtype", value=str(kind).removeprefix("torch."), reason=why_dtype),
            Choice(name="threads", value=torch.get_num_threads(), reason="torch's count of physical cores"),
            *([Choice(name="base_bits", value=bits, reason=_why_bits(left))] if bits else []),
        ],
    )


def _check_kind(model: Model) -> None:
    kind = kind_of(model)
    if kind != "text":
        raise InputError(
            f"{model.name} {SAID[kind]}; it does not write text",
            hint="`allmend serve` offers it beside a model that does.",
        )


def _why_bits(left: int) -> str:
    return "asked for" + (f"; {left} layers whose rows no group size divides are as they were" if left else "")


def load_tokenizer(model: Model, progress: Progress | None = None) -> PreTrainedTokenizerBase:
    """Only the tokenizer of a model; a GGUF file is converted for it, once."""
    return _tokenizer(converted(model, progress) if model.format == "gguf" else model.path)


def chosen_device(asked: str | None) -> tuple[torch.device, str]:
    """Where to compute, with the reason."""
    import torch

    if asked:
        return torch.device(asked), "asked for"
    if torch.cuda.is_available():
        return torch.device("cuda"), f"{torch.cuda.get_device_name()} is here"
    if torch.backends.mps.is_available():
        return torch.device("mps"), "Apple's GPU is here"
    return torch.device("cpu"), "no GPU that torch can use"


def chosen_dtype(asked: str | None, device: torch.device) -> tuple[torch.dtype, str]:
    """The precision, with the reason."""
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if asked:
        if asked not in known:
            raise UsageError(f"there is no dtype {asked!r}", hint=f"Known: {', '.join(known)}.")
        return known[asked], "asked for"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported():
            return torch.bfloat16, "the GPU multiplies bf16 natively"
        return torch.float16, "the GPU has no bf16"
    if device.type == "mps":
        return torch.float32, "bf16 on Apple's GPUs depends on the system's version; --dtype bfloat16 asks for it"
    if _cpu_has_bf16():
        return torch.bfloat16, "the processor multiplies bf16 natively"
    return torch.float32, "the processor has no bf16 instructions, so bf16 would be slower"


def _cpu_has_bf16() -> bool:
    """AVX512-BF16 or AMX on x86, BF16 on Arm; read from the kernel, since torch names only some of them."""
    try:
        flags = Path("/proc/cpuinfo").read_text().lower()
    except OSError:
        return False
    words = set(flags[: flags.find("\n\n") if "\n\n" in flags else None].split())
    return bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


def load_network(folder: Path, dtype: torch.dtype, auto: str = "AutoModelForCausalLM") -> PreTrainedModel:
    """The network of a safetensors folder, through the class of transformers that `auto` names.

    Raises:
        InputError: the weights and the configuration do not belong together or cannot be read.
    """
    import transformers
    from transformers.utils import logging

    from allmend.models.claims import HINT, check_claims

    logging.disable_progress_bar()
    # What does not fit is told below, in one line instead of a table.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        check_claims(folder, auto)
        network, info = getattr(transformers, auto).from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except InputError:
        raise
    except Exception as error:  # transformers raises whatever its parsers raise; all of it is about these files
        why = _said(error)
        if "ignore_mismatched_sizes" in why:
            why = "its weights have other shapes than config.json says"
        raise InputError(f"the model cannot be loaded: {why}", where=str(folder), hint=HINT) from error
    finally:
        logging.set_verbosity(verbosity)
    # A configuration that lies gives weights that are missing, or of another shape, and random numbers in their place.
    wrong = [*info.get("missing_keys", ()), *(key for key, *_ in info.get("mismatched_keys", ()))]
    if auto == "AutoModel":
        # Encoders are often kept without the layer that only their first training used.
        wrong = [key for key in wrong if not key.startswith("pooler.")]
    if wrong:
        raise InputError(
            f"{len(wrong)} weights are missing or of another shape than config.json says, first: {sorted(wrong)[0]}",
            where=str(folder),
            hint=HINT,
        )
    layers = int(getattr(network.config.get_text_config(), "num_hidden_layers", 0) or 0)
    beyond = sorted(key for key in info.get("unexpected_keys", ()) if layers and _layer_of(key) >= layers)
    if beyond:
        raise InputError(
            f"config.json says {layers} layers, and the weights have more: {beyond[0]}", where=str(folder), hint=HINT
        )
    return network


def _check_finite(network: PreTrainedModel, folder: Path) -> None:
    import math

    for name, weight in network.named_parameters():
        if not all(math.isfinite(float(side)) for side in weight.aminmax()):
            raise InputError(f"the weights hold numbers that are not finite, first in {name}", where=str(folder),
                             hint="The files are damaged; fetch the model again.")  # fmt: skip


def _layer_of(key: str) -> int:
    """The number in `….layers.7.…`; -1 where there is none, as in parts that are not the decoder's."""
    match = re.match(r"(?:model\.)?layers\.(\d+)\.", key)
    return int(match[1]) if match else -1


def _tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        hint = "Its files (tokenizer.json, tokenizer_config.json) are damaged or incomplete; fetch the model again."
        raise InputError(f"the tokenizer cannot be loaded: {_said(error)}", where=str(folder), hint=hint) from error


def _check_vocabulary(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    rows = network.get_input_embeddings().weight.shape[0]
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= rows:
        raise InputError(
            f"the tokenizer has token {largest}, but the model's vocabulary ends at {rows - 1}",
            where=str(folder),
            hint="Tokenizer and weights do not belong together.",
        )


def _context(network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    stated = int(getattr(network.config.get_text_config(), "max_position_embeddings", 0) or 0)
    # Tokenizers without a limit of their own state an astronomically large one.
    limit = int(min(getattr(tokenizer, "model_max_length", 1 << 30), 1 << 30))
    return min(value for value in (stated or 1 << 30, limit) if value) if stated or limit < 1 << 30 else 2048


def _template(folder: Path, tokenizer: PreTrainedTokenizerBase) -> str | None:
    template: Any = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        template = template.get("default")
    if template:
        return str(template)
    beside = folder / "chat_template.jinja"
    if beside.is_file():
        return beside.read_text("utf-8")
    try:
        stored = json.loads((folder / "tokenizer_config.json").read_text("utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return None
    return stored if isinstance(stored, str) else None


def _said(error: Exception) -> str:
    # A key that is missing says nothing but its name.
    return f"there is no {error}" if isinstance(error, KeyError) else _first_line(error)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
    return (f"{lines[0]} {lines[1]}" if lines[0].endswith(":") and len(lines) > 1 else lines[0])[:300]
