"""Putting a torch engine together: which forward pass runs, how much memory it holds, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch

from allmend.engines.torch import attention
from allmend.engines.torch.engine import TorchTextEngine
from allmend.engines.torch.pages import PAGE_SIZE, Pages
from allmend.engines.torch.runner import Memory, PackedRunner, PlainRunner, Runner, Segment
from allmend.engines.torch.scheduler import Limits
from allmend.errors import DoesNotFit
from allmend.nouns.choice import Choice

Path = Literal["auto", "packed", "plain"]
_CACHE_BYTES = 2 * 2**30
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.06}
"""Share of the logits' norm by which rounding makes the two paths differ. On Gemma-3-270M in bf16 the plain path in
chunks differs from itself in one go by 0.007; missing what came before it makes it differ by more than 0.8."""


def build_engine(
    model: Any,
    tokenizer: Any,
    *,
    context: int,
    path: Path = "auto",
    cache_bytes: int = _CACHE_BYTES,
    limits: Limits | None = None,
    page_size: int = PAGE_SIZE,
    chosen: Callable[[Choice], None] = lambda choice: None,
) -> TorchTextEngine:
    """An engine over a loaded model. `chosen` is told every automatic choice with its reason.

    `path="plain"` switches batching off: one sequence a time through transformers alone.
    """
    limits = limits or Limits()
    runner: Runner = PlainRunner(model)
    if path != "plain":
        pages = Pages(page_count(model, context, cache_bytes, limits, page_size), size=page_size)
        packed, reason = _packed(model, pages, check=path == "auto")
        chosen(Choice(name="forward pass", value="packed" if packed else "plain", reason=reason))
        if packed is not None:
            runner = packed
            reason = f"at most {cache_bytes // 2**20} MiB, used as needed"
            chosen(Choice(name="key/value memory", value=f"{pages.capacity} tokens", reason=reason))
    return TorchTextEngine(model, tokenizer, runner, context=context, ends=end_tokens(model, tokenizer), limits=limits)


def page_count(model: Any, context: int, cache_bytes: int, limits: Limits, size: int) -> int:
    """Pages that fit in `cache_bytes`, but no more than all running sequences can fill."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    page = 2 * size * heads * head_size * config.num_hidden_layers * model.dtype.itemsize
    full = -(-context // size) * limits.running
    count = min(cache_bytes // page, full) + 1
    if count < 3:
        raise DoesNotFit(
            f"{cache_bytes // 2**20} MiB of key/value memory hold less than {2 * size} tokens of this model",
            hint=f"A page of {size} tokens takes {page // 2**10} KiB.",
        )
    return int(count)


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer: those the model's own settings name, and the tokeniser's."""
    found: set[int] = set()
    for source in (getattr(model, "generation_config", None), model.config, tokenizer):
        value = getattr(source, "eos_token_id", None)
        if isinstance(value, int):
            found.add(value)
        elif value is not None:
            found.update(int(token) for token in value)
    # Turn ends of the common chat formats, where the tokeniser has them as tokens of their own.
    for name in ("<end_of_turn>", "<|im_end|>", "<|eot_id|>", "<|end|>"):
        token = tokenizer.convert_tokens_to_ids(name)
        if isinstance(token, int) and token in getattr(tokenizer, "all_special_ids", ()):
            found.add(token)
    return frozenset(found)


def _packed(model: Any, pages: Pages, *, check: bool) -> tuple[PackedRunner | None, str]:
    attention.register()
    for kind in _rope_kinds(model):
        if kind in ("dynamic", "longrope"):
            # Their frequencies follow the longest sequence of a batch: answers would depend on who else is in it.
            return None, f"positions of kind {kind!r} depend on the whole batch"
    runner = PackedRunner(model, pages)
    if not check:
        return runner, "asked for"
    try:
        difference = packed_difference(model, runner)
    except Exception as error:
        return None, f"this model does not run packed ({type(error).__name__}: {error})"
    limit = _TOLERANCE.get(model.dtype, 0.5)
    if not difference <= limit:
        return None, f"on a sample the packed pass differs from the plain one by {difference:.1%}"
    return runner, f"on a sample it agrees with the plain pass within {difference:.1g} of the logits' norm"


def packed_difference(model: Any, runner: PackedRunner) -> float:
    """Difference of the packed and the plain pass as a share of the logits' norm, on two short sequences.

    They are computed as a server would: a prompt in two chunks, then beside another one, then a single token.
    """
    vocabulary = model.config.get_text_config().vocab_size
    numbers = torch.Generator().manual_seed(0)
    first, second = (torch.randint(0, vocabulary, (count,), generator=numbers).tolist() for count in (9, 6))
    a, b = Memory(), Memory()
    plain = PlainRunner(model)
    wanted = [plain.run([Segment(Memory(), tokens, 0, len(tokens))])[0] for tokens in (first, second)]
    try:
        if not (runner.reserve(a, 9) and runner.reserve(b, 6)):
            raise DoesNotFit("there is no key/value memory for a sample of 15 tokens")
        found = runner.run([Segment(a, first[:5], 0, 5)])
        later = runner.run([Segment(a, first[5:8], 5, 3), Segment(b, second[:5], 0, 5)])
        last = runner.run([Segment(b, second[5:], 5, 1), Segment(a, first[8:], 8, 1)])
    finally:
        runner.release(a)
        runner.release(b)
    mine = (torch.cat([found[0], later[0], last[1]]), torch.cat([later[1], last[0]]))
    pairs = zip(mine, wanted, strict=True)
    return max(float((ours - theirs).norm() / theirs.norm().clamp(min=1e-9)) for ours, theirs in pairs)


def _rope_kinds(model: Any) -> set[str]:
    parameters = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    # One set of parameters for all layers, or one for each type of layer.
    each = [parameters, *(value for value in parameters.values() if isinstance(value, dict))]
    return {str(one["rope_type"]) for one in each if one.get("rope_type")}
