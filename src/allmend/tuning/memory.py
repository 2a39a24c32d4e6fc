"""How much memory training takes, measured on two short packs, and the settings that make it fit.

Memory grows by a line: what stands (weights, adapter, optimiser), and so much for each token of a pack. Two packs of
a few hundred tokens give the line; the packs of training lie on it. Where the line crosses what may be used, packs
are made shorter, then activations are made again in the backward pass instead of being kept.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from allmend.data import Tokens
from allmend.errors import DoesNotFit
from allmend.models.loading import Loaded
from allmend.nouns.choice import Choice
from allmend.tuning import together
from allmend.tuning.optimiser import AdamW
from allmend.tuning.passes import Passes
from allmend.tuning.trial import trial_step

TRIED = (160, 480)
"""Tokens of the two packs that are measured."""
PACKS = (2048, 1024, 512, 256)
MARGIN = 0.93
"""Share of what may be used that is planned with."""


@dataclass(frozen=True)
class Line:
    """Bytes at the peak of a step: `fixed + each * tokens of the pack`."""

    fixed: float
    each: float

    def at(self, tokens: int) -> int:
        """Bytes for packs of so many tokens."""
        return int(self.fixed + self.each * tokens)


_IN_A_BOX = "ALLMEND_CONTENT" in os.environ
"""Whether this is a notebook's box: what the system says of memory is not shown there, and asking would be told."""


def peak_memory(device: torch.device) -> int:
    """Peak bytes since `forget_peak`: of the GPU's allocator, or resident in this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if device.type == "mps":
        return int(torch.mps.driver_allocated_memory())
    found = _status("VmHWM")
    if found is not None:
        return found
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak(device: torch.device) -> None:
    """Let the peak begin anew, where the system allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    if _IN_A_BOX:
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # the peak then counts from the start of the process, which is never too little


def usable(device: torch.device) -> int | None:
    """Bytes that this process can have in all: what it has, and what is free; None where it cannot be told."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device))
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    has = _status("VmRSS")
    if has is None:
        return None
    rooms = [value for value in (_free(), _group_free()) if value is not None]
    # Processes that train together on one machine share what is free there.
    return has + min(rooms) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if rooms else None


def _status(name: str) -> int | None:
    """A figure of /proc/self/status in bytes."""
    return _field(Path("/proc/self/status"), name)


def _free() -> int | None:
    return _field(Path("/proc/meminfo"), "MemAvailable")


def _field(path: Path, name: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    line = next((line for line in lines if line.startswith(name + ":")), None)
    return int(line.split()[1]) * 1024 if line else None


def _group_free() -> int | None:
    """What the control group that holds this process leaves (version 2 at its root, as containers see it)."""
    root = Path("/sys/fs/cgroup")
    if _IN_A_BOX:
        return None
    try:
        most = (root / "memory.max").read_text().strip()
        return None if most == "max" else max(0, int(most) - int((root / "memory.current").read_text()))
    except (OSError, ValueError):
        return None


def measure(passes: Passes, rows: Sequence[Tokens]) -> Line:
    """The line of memory, from steps over two packs of real rows; the shorter goes first and once uncounted."""
    device = passes.loaded.device
    short, long = (some_of(rows, tokens) for tokens in TRIED)
    optimiser = AdamW(passes.lora.parameters())
    trial_step(passes, short, optimiser)
    give_back()
    sizes, peaks = [], []
    for some in (short, long):
        forget_peak(device)
        trial_step(passes, some, optimiser)
        sizes.append(max(pack.ids.shape[1] for pack in passes.packs(some)))
        peaks.append(peak_memory(device))
    each = (peaks[1] - peaks[0]) / (sizes[1] - sizes[0]) if sizes[1] > sizes[0] else 0.0
    each = max(each, _least(passes))
    return Line(peaks[1] - each * sizes[1], each)


def give_back() -> None:
    """Have the C library return what it keeps of freed memory, which would pass for needed."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        pass  # another C library


def _least(passes: Passes) -> float:
    """Bytes a token that no way of training goes below: the residual stream of each layer."""
    config = passes.loaded.model.config.get_text_config()
    size = torch.finfo(passes.loaded.dtype).bits // 8
    return float(getattr(config, "hidden_size", 0) * getattr(config, "num_hidden_layers", 0) * size)


def some_of(rows: Sequence[Tokens], tokens: int) -> list[Tokens]:
    """Rows of about so many tokens together; a long one is cut, and learns its end."""
    found: list[Tokens] = []
    left = tokens
    for row in sorted(rows, key=len, reverse=True):
        part = row if len(row) <= left else Tokens(row.ids[-left:], row.mask[-left:], row.place)
        found.append(part)
        left -= len(part)
        if left < 8:
            break
    return found


def whole_bytes(loaded: Loaded, shard: str = "none") -> int:
    """Bytes that learning all weights takes in each process.

    A weight takes itself, an fp32 master where the model is in fewer bits, gradient, and two moments of four bytes.

    Args:
        shard: what processes divide among them: `none`, `optimiser` (the moments), `all` (then the model is there
            twice for a moment, in one piece and in shares).
    """
    count, size = 0, torch.finfo(loaded.dtype).bits // 8
    for weight in loaded.model.parameters():
        count += weight.numel()
    each = 16 if loaded.dtype == torch.float32 else 18
    others = together.processes()
    if shard == "optimiser":
        return int(count * (each - 8 + 8 / others))
    return int(count * (size + 16 / others)) if shard == "all" else count * each


def fits_whole(loaded: Loaded, limit: int | None, shard: str = "none") -> bool:
    """Whether learning all weights fits into `limit`, or into what may be used."""
    limit = limit or usable(loaded.device)
    return limit is None or whole_bytes(loaded, shard) <= limit


def check_whole(loaded: Loaded, limit: int | None, shard: str = "none") -> None:
    """Raise `DoesNotFit` when learning all weights cannot fit, before its memory is asked for."""
    limit = limit or usable(loaded.device)
    if limit is None or fits_whole(loaded, limit, shard):
        return
    count = sum(weight.numel() for weight in loaded.model.parameters())
    raise DoesNotFit(
        f"learning all {count / 1e6:.0f} million weights needs about {whole_bytes(loaded, shard) / 2**20:.0f} MiB"
        f"{' in each process' if together.processes() > 1 else ''}, and {limit / 2**20:.0f} MiB may be used",
        where="--full",
        hint="A LoRA (without --full) learns from the same rows in a fraction of it.",
    )


def settle(passes: Passes, rows: Sequence[Tokens], limit: int | None) -> tuple[list[Choice], Line | None]:
    """Choose the length of packs, and whether activations are made again; `passes` is left set so.

    Args:
        limit: bytes that may be used in all; None where it is not known: then nothing is changed.

    Raises:
        DoesNotFit: no choice fits; the hint says what would.
    """
    longest = max(map(len, rows))
    whole = max(PACKS[0], longest)
    # Every process goes the same way here, or they would make different passes.
    limit, line = together.agreed((limit, measure(passes, rows)))
    if limit is None:
        return [Choice(name="pack_tokens", value=passes.pack_tokens, reason="free memory cannot be told here")], line
    allowed = int(limit * MARGIN)
    shown = f"{line.at(whole) >> 20} MiB foreseen of {limit >> 20} MiB"
    for tokens in PACKS:
        if tokens > passes.pack_tokens:
            continue
        if line.at(max(tokens, longest)) <= allowed:
            reason = (
                shown if tokens == PACKS[0] else f"longer packs would need more than the {limit >> 20} MiB there are"
            )
            passes.pack_tokens = tokens
            return [Choice(name="pack_tokens", value=tokens, reason=reason)], line
    passes.recompute(
        f"{line.at(max(PACKS[-1], longest)) >> 20} MiB would be needed to keep them, {limit >> 20} are there"
    )
    again = together.agreed(measure(passes, rows))
    if again.at(max(PACKS[-1], longest)) > allowed:
        raise _too_small(passes, min(line, again, key=lambda one: one.at(longest)), longest, allowed, limit)
    passes.pack_tokens = next(t for t in PACKS if t <= passes.pack_tokens and again.at(max(t, longest)) <= allowed)
    return [Choice(name="pack_tokens", value=passes.pack_tokens, reason="the longest that fits so")], again


def _too_small(passes: Passes, line: Line, longest: int, allowed: int, limit: int) -> DoesNotFit:
    """The error, with what would fit by computation."""
    needed = line.at(max(PACKS[-1], longest))
    return DoesNotFit(
        f"training needs about {needed / MARGIN / 2**20:.0f} MiB with its longest row of {longest} tokens, "
        f"and {limit / 2**20:.0f} MiB may be used",
        where="--memory",
        hint=_what_would(passes, line, longest, allowed),
    )


def _what_would(passes: Passes, line: Line, longest: int, allowed: int) -> str:
    """Settings that would fit by computation, the mildest first."""
    over = line.at(max(PACKS[-1], longest)) - allowed
    shorter = int((allowed - line.fixed) / line.each) // 8 * 8
    if shorter >= 32:
        return f"--context {shorter} would fit."
    saved = bits_saved(passes)
    for bits, gain in saved.items():
        if gain >= over:
            return f"--base-bits {bits} would fit: the frozen weights would take {gain / 2**20:.0f} MiB less."
    learned = sum(weight.numel() for weight in passes.lora.parameters()) * 16
    config = getattr(passes.lora, "config", None)
    most = max(saved.values(), default=0)
    if config is not None and learned + most > over:
        rank = int(config.rank * (1 - (over - most) / learned))
        if rank >= 1:
            also = f" with --base-bits {min(saved)}" if saved else ""
            return f"--rank {rank}{also} would fit."
    short = over - most - learned
    return f"No setting of this model would: the smallest is {max(1, short >> 20)} MiB short. Take a smaller model."


def bits_saved(passes: Passes) -> dict[int, int]:
    """Bytes that 8 and 4 bits would save, by bits; empty where the base is quantised or learned already."""
    from allmend.adapters import LoraSet
    from allmend.adapters.attach import linear_layers

    if passes.loaded.bits or not isinstance(passes.lora, LoraSet):
        return {}
    each = torch.finfo(passes.loaded.dtype).bits
    layers = linear_layers(passes.loaded.model).values()
    weights = sum(layer.in_features * layer.out_features for layer in layers)
    return {bits: int(weights * (each - bits - 0.25) / 8) for bits in (8, 4)}
