"""From a model's folder to an embedding engine, with every choice given its reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from allmend.engines.torch.embedding import encoder
from allmend.engines.torch.embedding.engine import TorchEmbedder
from allmend.engines.torch.embedding.pooling import Pooling, pooling_of
from allmend.errors import InputError
from allmend.models.loading import chosen_device, chosen_dtype, load_network, load_tokenizer
from allmend.nouns.choice import Choice
from allmend.nouns.model import Model

Way = Literal["auto", "lean", "packed", "plain"]

_CLOSE = 0.9995
"""Cosine with float32 below which lower precision is not used."""

_UNSTATED = 512
"""Tokens of a row, where a model's files name no limit."""

_PROBES = (
    "The committee will meet on Thursday to decide about the bridge.",
    "prices rose",
    "A recipe for bread: flour, water, salt, yeast, and then a night of waiting in a cool place before it is baked.",
    "def area(width, height): return width * height",
    "How do I change the password of my account if I no longer have the old telephone number?",
)


def build_embedder(
    model: Model,
    *,
    dtype: str | None = None,
    way: Way = "auto",
    pack: int | None = None,
    chosen: Callable[[Choice], None] = lambda choice: None,
) -> TorchEmbedder:
    """An engine over a model's folder.

    Args:
        dtype: `float32`, `bfloat16` or `float16`; by default the processor's best that stays close to float32.
        way: which pass; by default the first of lean, packed, plain that gives what plain gives.
        pack: tokens that are computed at once.

    Raises:
        InputError: the folder does not hold an embedding model that can be used.
    """
    device, _ = chosen_device(None)
    network: Any = load_network(model.path, torch.float32, "AutoModel").eval().requires_grad_(False).to(device)
    tokenizer: Any = load_tokenizer(model)
    if not getattr(tokenizer, "is_fast", False):
        raise InputError("embeddings need a tokenizer.json", where=str(model.path))
    pooling = pooling_of(model.path)
    kind, why = chosen_dtype(dtype, device)
    limit = limit_of(network, tokenizer, pooling.limit)
    encoded = (tokenizer(text, truncation=True, max_length=limit)["input_ids"] for text in _PROBES)
    rows = sorted(encoded, key=lambda row: -len(row))
    oracle = encoder.plain(network, tokenizer.pad_token_id or 0)
    with torch.inference_mode():
        wanted = _vectors(pooling, oracle(rows), rows)
        run, name, reason = _pass(network, torch.float32, way, tokenizer, rows, wanted, pooling)
        if kind != torch.float32:
            lower, loss = _lowered(network, kind, name, tokenizer, rows, wanted, pooling)
            if dtype is not None or loss >= _CLOSE:
                run, why = lower, f"{why}; cosine with float32 at least {loss:.5f} on probes"
            else:
                network.float()
                kind, why = torch.float32, f"{kind} gave a cosine of {loss:.5f} with float32 on probes"
    chosen(Choice(name="pass", value=name, reason=reason))
    chosen(Choice(name="dtype", value=str(kind).removeprefix("torch."), reason=why))
    chosen(Choice(name="pooling", value=pooling.mode, reason="the model's own files" if pooling.limit else "default"))
    more = {} if pack is None else {"pack": pack}
    return TorchEmbedder(run, pooling, tokenizer, limit=limit, width=wanted.shape[1], **more)


def _pass(
    network: Any,
    dtype: torch.dtype,
    way: Way,
    tokenizer: Any,
    rows: Sequence[Sequence[int]],
    wanted: Tensor,
    pooling: Pooling,
) -> tuple[encoder.Pass, str, str]:
    pad = tokenizer.pad_token_id or 0
    if way == "plain":
        return encoder.plain(network, pad), "plain", "asked for"
    why_not = "its attention looks only so far" if _narrow(network) else ""
    for name in ("lean", "packed") if way == "auto" else (way,):
        for offset in (0, pad + 1):
            if why_not or (name == "lean" and network.device.type != "cpu"):
                continue
            made = _made(network, dtype, name, offset)
            if made is not None and _same(made, rows, wanted, pooling):
                words = "BERT's layers, fused" if name == "lean" else "its layers attend through the interface"
                return made, name, f"{words}; rows end to end give what each gives alone (tried)"
    if way != "auto":
        raise InputError(f"this model cannot be computed by the {way} pass", hint="Leave the choice open.")
    return encoder.plain(network, pad), "plain", why_not or "rows end to end gave something else (tried)"


def _made(network: Any, dtype: torch.dtype, name: str, offset: int) -> encoder.Pass | None:
    if name == "packed":
        return encoder.packed(network, offset)
    config = network.config
    # What the fused layers take for granted, beside the names of the modules.
    if getattr(config, "hidden_act", None) != "gelu" or getattr(config, "is_decoder", False):
        return None
    try:
        return encoder.lean(network, dtype, offset)
    except (AttributeError, TypeError):
        return None


def _same(run: encoder.Pass, rows: Sequence[Sequence[int]], wanted: Tensor, pooling: Pooling) -> bool:
    try:
        got = _vectors(pooling, run(rows), rows)
    except Exception:  # an architecture that takes no extra keywords raises whatever it likes
        return False
    return got.shape == wanted.shape and float((got - wanted).norm() / wanted.norm()) < 1e-4


def _lowered(
    network: Any,
    dtype: torch.dtype,
    name: str,
    tokenizer: Any,
    rows: Sequence[Sequence[int]],
    wanted: Tensor,
    pooling: Pooling,
) -> tuple[encoder.Pass, float]:
    """The same pass in lower precision, with the least cosine to float32."""
    pad = tokenizer.pad_token_id or 0
    offsets = [offset for offset in (0, pad + 1) if name != "plain"] or [0]
    best: tuple[encoder.Pass, float] | None = None
    if name != "lean":
        network.to(dtype)
    for offset in offsets:
        made = encoder.plain(network, pad) if name == "plain" else _made(network, dtype, name, offset)
        assert made is not None
        try:
            got = _vectors(pooling, made(rows), rows)
        except Exception:  # the other offset may lie beyond the table of places
            continue
        least = float(torch.nn.functional.cosine_similarity(got, wanted).min())
        if best is None or least > best[1]:
            best = made, least
    assert best is not None
    return best


def _vectors(pooling: Pooling, states: Tensor, rows: Sequence[Sequence[int]]) -> Tensor:
    return pooling.pooled(states, [len(row) for row in rows])


def _narrow(network: Any) -> bool:
    """Whether an encoder's layers look at neighbours only, which the packed passes do not do for encoders."""
    config = network.config
    return bool(getattr(config, "local_attention", None)) or bool(
        getattr(config, "sliding_window", None) and not getattr(config, "is_decoder", True)
    )


def limit_of(network: Any, tokenizer: Any, stated: int | None = None) -> int:
    """Most tokens of a row, special tokens among them: the least of what the model's files say."""
    places = getattr(network.config, "max_position_embeddings", None)
    if places and "roberta" in str(getattr(network.config, "model_type", "")):
        places -= (tokenizer.pad_token_id or 0) + 1  # its table begins with places that no token has
    said = [int(value) for value in (stated, places, tokenizer.model_max_length) if value and value < 1 << 30]
    return min(said, default=_UNSTATED)
