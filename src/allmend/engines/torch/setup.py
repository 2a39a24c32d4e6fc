"""Putting a torch engine together: which forward pass runs, how much memory it holds, and why."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import torch

from allmend.engines.torch import attention
from allmend.engines.torch.engine import TorchTextEngine
from allmend.engines.torch.native.abi import GROUPS
from allmend.engines.torch.native.build import library
from allmend.engines.torch.native.parts import parts_of
from allmend.engines.torch.native.runner import NativeRunner
from allmend.engines.torch.pages import PAGE_SIZE, Pages
from allmend.engines.torch.runner import Memory, PackedRunner, PlainRunner, Runner, Segment
from allmend.engines.torch.scheduler import Limits
from allmend.errors import DoesNotFit, Unavailable
from allmend.models.norms import Unlike
from allmend.nouns.choice import Choice

Path = Literal["auto", "native", "packed", "plain"]
Weights = Literal["auto", "float32", "bfloat16", "int8", "int4"]
_CACHE_BYTES = 2 * 2**30
_TOLERANCE: dict[object, float] = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.06}
"""Share of the logits' norm by which rounding makes the two paths differ. On Gemma-3-270M in bf16 the plain path in
chunks differs from itself in one go by 0.007; missing what came before it makes it differ by more than 0.8."""
_NATIVE_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1, "int8": 0.3}
"""The same for compiled steps. On Gemma-3-270M: 0.04 in bf16, 0.11 in int8, on tokens drawn at random."""


def build_engine(
    model: Any,
    tokenizer: Any,
    *,
    context: int,
    path: Path = "auto",
    weights: Weights | None = None,
    cache_bytes: int = _CACHE_BYTES,
    limits: Limits | None = None,
    page_size: int = PAGE_SIZE,
    prefix_cache: bool = True,
    take_over: bool = False,
    chosen: Callable[[Choice], None] = lambda choice: None,
) -> TorchTextEngine:
    """An engine over a loaded model. `chosen` is told every automatic choice with its reason.

    Args:
        path: `native` is compiled code (processors only), `packed` is one pass through transformers for all,
            `plain` switches batching off: one sequence a time through transformers alone.
        weights: precision of the matrices in compiled steps; `None` is the model's own, `auto` the fastest that
            keeps its answers. The other paths have the model's own.
        take_over: the model is the engine's from now on: weights that were copied are freed. It can then not be
            used by itself any more.
        prefix_cache: remember what prompts began with, for those that begin alike.
    """
    limits = limits or Limits()
    runner: Runner | None = None
    if path != "plain":
        pages = Pages(page_count(model, context, cache_bytes, limits, page_size), size=page_size, remember=prefix_cache)
        if path in ("auto", "native"):
            runner, kind, reason = _native(model, pages, context, weights)
            if runner is None and path == "native":
                raise Unavailable(f"compiled steps cannot be had: {reason}")
            if runner is None:
                chosen(Choice(name="compiled steps", value=False, reason=reason))
            else:
                why = _WEIGHTS_REASON[kind] if weights else "the model's own"
                chosen(Choice(name="forward pass", value="native", reason=reason))
                chosen(Choice(name="weights", value=kind, reason=why))
                chosen(_threads(runner))
        if runner is None:
            packed, reason = _packed(model, pages, check=path == "auto")
            chosen(Choice(name="forward pass", value="packed" if packed else "plain", reason=reason))
            runner = packed
        if runner is not None:
            reason = f"at most {cache_bytes // 2**20} MiB, used as needed"
            chosen(Choice(name="key/value memory", value=f"{pages.capacity} tokens", reason=reason))
    ends, vocabulary = end_tokens(model, tokenizer), int(model.get_input_embeddings().weight.shape[0])
    engine = TorchTextEngine(
        model, tokenizer, runner or PlainRunner(model), context=context, ends=ends, limits=limits, vocabulary=vocabulary
    )
    if take_over and isinstance(runner, NativeRunner):
        for parameter in model.parameters():
            parameter.data = parameter.data.new_empty(0)
        _give_back()
    return engine


def _give_back() -> None:
    """Return what loading and laying out left behind to the system, where the C library does that when asked."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


_WEIGHTS_REASON = {
    "float32": "as asked",
    "bfloat16": "as asked",
    "int8": "half the bytes of bf16 are read for each step, which is what decoding waits for",
    "int4": "as asked; answers differ from the model's own",
}


def _native(model: Any, pages: Pages, context: int, weights: Weights | None) -> tuple[NativeRunner | None, str, str]:
    """(runner or None, precision of its matrices, why)."""
    kind = str(model.dtype).removeprefix("torch.") if weights is None else "int8" if weights == "auto" else weights
    if model.device.type != "cpu":
        return None, kind, f"compiled steps are for processors, the model is on {model.device.type}"
    if kind not in GROUPS:
        return None, kind, f"there are no compiled steps in {kind}"
    compiled, why = library()
    if compiled is None:
        return None, kind, why
    try:
        for one in _rope_kinds(model) & {"dynamic", "longrope"}:
            raise Unlike(f"positions of kind {one!r} depend on the whole batch")
        parts = parts_of(model)
        # Four bits are too coarse to tell a wrong part from rounding: the same parts are tried in eight.
        tried = NativeRunner(model, parts, pages, compiled, kind="int8" if kind == "int4" else kind, context=context)
        difference = packed_difference(model, tried)
    except Unlike as error:
        return None, kind, f"not of the family that compiled steps know: {error}"
    limit = _NATIVE_TOLERANCE[tried.kind]
    if not difference <= limit:
        return None, kind, f"on a sample compiled steps differ from the plain pass by {difference:.1%}"
    if kind != tried.kind:
        tried = NativeRunner(model, parts, pages, compiled, kind=kind, context=context)
    return tried, kind, f"{why}; on a sample it agrees with the plain pass within {difference:.1g} of the logits' norm"


def _threads(runner: NativeRunner) -> Choice:
    """As many threads as make a step fastest now: a team waits for its slowest, and others may use the cores."""
    import time

    most = runner.threads
    found = {}
    memory = Memory()
    for count in sorted({1, most}):
        runner.threads = count
        times = []
        for _ in range(4):
            runner.reserve(memory, 1)
            start = time.perf_counter()
            runner.run([Segment(memory, [1], 0, 1, True)])
            times.append(time.perf_counter() - start)
        found[count] = sorted(times)[1]
    runner.release(memory)
    runner.threads = min(found, key=lambda count: found[count])
    measured = ", ".join(f"{count}: {1000 * seconds:.1f} ms" for count, seconds in found.items())
    return Choice(name="step threads", value=runner.threads, reason=f"a step on the model, by threads: {measured}")


def page_count(model: Any, context: int, cache_bytes: int, limits: Limits, size: int) -> int:
    """Pages that fit in `cache_bytes`, but no more than all running sequences can fill.

    Args:
        context: most tokens of a sequence.
        size: tokens of a page.

    Raises:
        DoesNotFit: not two of them fit.
    """
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


def packed_difference(model: Any, runner: Runner) -> float:
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
        # Copies: a runner may use its logits' memory again.
        found = [each.clone() for each in runner.run([Segment(a, first[:5], 0, 5)])]
        later = [each.clone() for each in runner.run([Segment(a, first[5:8], 5, 3), Segment(b, second[:5], 0, 5)])]
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
