"""What it needs of a machine, and whether this one has it. Sizes are read off names; what is not known is said."""

from __future__ import annotations

import os
import re
import shutil
from functools import cache

from allmend.nouns.plan import Effect, Needs

_BILLIONS = re.compile(
    r"(?<![\w.])(\d+(?:\.\d+)?)\s?[xX]?(\d+(?:\.\d+)?)?\s?[bB](?![a-zA-Z])|(?<![\w.])(\d{2,4})[mM](?![a-zA-Z])"
)
_FOUR_BIT = re.compile(r"4bit|int4|awq|gptq|q4|bnb-4|nf4|fp4", re.IGNORECASE)
_EIGHT_BIT = re.compile(r"8bit|int8|q8|fp8", re.IGNORECASE)
_IMAGES = (
    (re.compile(r"stable-diffusion-xl|sdxl|sd_xl", re.IGNORECASE), 7 * 10**9),
    (re.compile(r"flux", re.IGNORECASE), 34 * 10**9),
    (re.compile(r"stable-diffusion|v1-5-pruned|sd15|sd-v1|anything-v|dreamlike", re.IGNORECASE), 4 * 10**9),
)
_GPUS = {"T4": 15, "P100": 16, "V100": 16, "L4": 22, "A100": 40, "H100": 80, "V28": 8}
"""GiB of the accelerators that notebook services name."""


def weights_bytes(name: str) -> int | None:
    """The bytes of weights as the name says them (`7B`, `270m`, `4bit`), or None."""
    for shape, size in _IMAGES:
        if shape.search(name):
            return size
    match = _BILLIONS.search(re.sub(r"[_/:-]", " ", name))
    if not match:
        return None
    if match[3]:
        count = float(match[3]) * 10**6
    else:
        count = float(match[1]) * (float(match[2]) if match[2] else 1.0) * 10**9
    if count > 2 * 10**12:
        return None
    width = 0.6 if _FOUR_BIT.search(name) else 1.1 if _EIGHT_BIT.search(name) else 2.0
    return int(count * width)


def needs_of(effects: list[Effect]) -> Needs:
    """What the effects ask for, and whether this machine fits."""
    hardware = next((effect for effect in effects if effect.kind == "hardware"), None)
    sizes: dict[str, int] = {}
    unknown = 0
    for effect in effects:
        if effect.kind == "model" or (
            effect.kind == "download" and re.search(r"\.(?:ckpt|safetensors|bin|pth?|gguf)$", effect.target)
        ):
            size = weights_bytes(effect.target)
            if size is None:
                unknown += 1
            else:
                sizes[effect.target] = size
    disk = sum(sizes.values()) or None
    largest = max(sizes.values(), default=0)
    memory = int(largest * 1.2) or None
    kind = hardware.detail.get("type") if hardware else None
    why: list[str] = []
    fits = _judge(hardware.target if hardware else None, kind if isinstance(kind, str) else None, memory, disk, why)
    if unknown:
        why.append(f"The size of {unknown} of its models or weights is not known before they are fetched.")
    return Needs(
        accelerator=hardware.target if hardware else None, gpu_type=kind if isinstance(kind, str) else None,
        memory_bytes=memory, disk_bytes=disk, fits=fits, why=why,
    )  # fmt: skip


def _judge(
    accelerator: str | None, kind: str | None, memory: int | None, disk: int | None, why: list[str]
) -> bool | None:
    fits: bool | None = True
    if accelerator == "tpu":
        why.append("It asks for a TPU; this machine has none. A service that lends TPUs would do.")
        fits = False
    elif accelerator == "gpu":
        wanted = _GPUS.get(kind or "", 0)
        if not gpu_present():
            shown = f" ({kind}, {wanted} GiB)" if wanted else f" ({kind})" if kind else ""
            why.append(f"It asks for a GPU{shown}; this machine has none that can be seen.")
            fits = False
    here = memory_here()
    if memory and accelerator != "gpu" and here and memory > here:
        why.append(f"Its largest model needs about {_gib(memory)} of memory; this machine has {_gib(here)}.")
        fits = False
    free = shutil.disk_usage(".").free
    if disk and disk > free:
        why.append(f"It fetches about {_gib(disk)} of weights; {_gib(free)} are free here.")
        fits = False
    if fits and not accelerator and memory is None:
        why.append("Nothing in it names an accelerator or weights whose size is known.")
    return fits


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


@cache
def gpu_present() -> bool:
    """Whether a GPU driver's device is there (nothing is started to find out)."""
    from pathlib import Path

    return any(Path(place).exists() for place in ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))


@cache
def memory_here() -> int:
    """Bytes of memory of this machine, or 0."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0
