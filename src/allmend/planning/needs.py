"""What it needs of a machine, and whether this one has it. Sizes are read off names; what is not known is said."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field
from functools import cache

from allmend.nouns.plan import Effect, Needs
from allmend.planning.tables import load

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
_GPUS = {"T4": 15, "P100": 16, "V100": 16, "L4": 22, "A100": 40, "H100": 80}
"""GiB of the accelerators that notebook services name."""
_WEIGHTS = re.compile(r"\.(?:ckpt|safetensors|bin|pth?|gguf)$", re.IGNORECASE)


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


RATE = 20 * 2**20
"""Bytes a second that fetching is taken to run at: a household's line, and what hubs give a single reader."""


@dataclass(slots=True)
class _Sizes:
    """Bytes by target of one kind of thing, and how many of its kind have no known size."""

    known: dict[str, int] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)

    def put(self, target: str, size: int | None) -> None:
        """Count one target, once."""
        if size is None:
            self.unknown.add(target)
        else:
            self.known[target] = size

    @property
    def total(self) -> int | None:
        """The sum of what is known, or None when nothing is."""
        return sum(self.known.values()) or None


def needs_of(effects: list[Effect]) -> Needs:
    """What the effects ask for, and whether this machine fits."""
    hardware = next((effect for effect in effects if effect.kind == "hardware"), None)
    weights, installs, data, files = _sizes(effects)
    largest = max(weights.known.values(), default=0)
    memory = int(largest * 1.2) or None
    kind = hardware.detail.get("type") if hardware else None
    gpu = kind if isinstance(kind, str) else None
    disk = sum(part.total or 0 for part in (weights, installs, data)) or None
    unknown = sum(len(part.unknown) for part in (weights, installs, data, files))
    why: list[str] = []
    fits = _judge(hardware.target if hardware else None, gpu, memory, disk, why)
    if weights.unknown:
        why.append(f"The size of {len(weights.unknown)} of its models or weights is not known before they are fetched.")
        fits = None if fits else fits
    return Needs(
        accelerator=hardware.target if hardware else None, gpu_type=gpu, memory_bytes=memory,
        weights_bytes=weights.total, install_bytes=installs.total, data_bytes=data.total, disk_bytes=disk,
        unknown_sizes=unknown, fetch_seconds=max(1, disk // RATE) if disk else None,
        computed_from=_computed(weights, installs, data, files), fits=fits, why=why,
    )  # fmt: skip


def _sizes(effects: list[Effect]) -> tuple[_Sizes, _Sizes, _Sizes, _Sizes]:
    """Weights, installs, data sets and other downloads."""
    maps = load().maps
    packages, sets = maps.get("package_bytes", {}), maps.get("dataset_bytes", {})
    weights, installs, data, files = _Sizes(), _Sizes(), _Sizes(), _Sizes()
    for effect in effects:
        if effect.kind == "model" or (effect.kind == "download" and _WEIGHTS.search(effect.target)):
            weights.put(effect.target, weights_bytes(effect.target))
        elif effect.kind == "install" and not effect.target.startswith("apt:"):
            installs.put(effect.target, packages.get(effect.target.removeprefix("pip:")))
        elif effect.kind == "install":
            installs.put(effect.target, None)
        elif effect.kind == "dataset":
            data.put(effect.target, sets.get(effect.target))
        elif effect.kind in ("download", "clone"):
            files.put(effect.target, None)
    return weights, installs, data, files


def _computed(weights: _Sizes, installs: _Sizes, data: _Sizes, files: _Sizes) -> list[str]:
    """In words: what each number comes from, and of how many nothing is known."""
    said: list[str] = []
    for part, name, source in (
        (weights, "models and weights", "their names (parameters, bits)"),
        (installs, "installs", "installed sizes of recent releases, without dependencies"),
        (data, "data sets", "what their catalogues state"),
    ):
        count = len(part.known) + len(part.unknown)
        if not count:
            continue
        if part.known:
            said.append(f"{name}: {_size(part.total or 0)} for {len(part.known)} of {count}, from {source}")
        else:
            said.append(f"{name}: the size of none of {count} is known")
    if files.unknown:
        said.append(f"other downloads and clones: the size of none of {len(files.unknown)} is known")
    if weights.known or installs.known or data.known:
        said.append(f"time: fetching what is known at {RATE >> 20} MiB a second; how long its code runs is not known")
    return said


def _judge(
    accelerator: str | None, kind: str | None, memory: int | None, disk: int | None, why: list[str]
) -> bool | None:
    fits: bool | None = True
    if accelerator == "tpu":
        why.append("It asks for a TPU; this machine has none. A service that lends TPUs would do.")
        fits = False
    elif accelerator == "gpu" and not gpu_present():
        wanted = _GPUS.get(kind or "", 0)
        shown = f" ({kind}, {wanted} GiB)" if wanted else f" ({kind})" if kind else ""
        why.append(f"It asks for a GPU{shown}; this machine has none that can be seen.{_would_do(kind, memory)}")
        fits = False
    here = memory_here()
    if memory and accelerator != "gpu" and here and memory > here:
        why.append(
            f"Its largest model needs about {_size(memory)} of memory; this machine has {_size(here)}. A machine with "
            f"{_size(memory)} would do, or a smaller or quantised model."
        )
        fits = False
    if disk and disk > shutil.disk_usage(".").free:
        why.append(
            f"It brings at least {_size(disk)}; less than that is free on this disk. That much free space would do."
        )
        fits = False
    if fits and not accelerator and memory is None:
        why.append("Nothing in it names an accelerator or weights whose size is known.")
    return fits


def _would_do(kind: str | None, memory: int | None) -> str:
    """The accelerators that notebook services lend and that would hold the largest model."""
    if kind in _GPUS:
        return f" A {kind} or one with more memory would do."
    if not memory:
        return " How much memory it needs is not known."
    fitting = [name for name, gib in _GPUS.items() if gib * 2**30 >= memory]
    if not fitting:
        return f" The largest model needs about {_size(memory)}: more than one of the usual accelerators has."
    return f" One with {_size(memory)} for the largest model would do ({', '.join(fitting[:3])})."


def _size(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{max(1, round(size / 2**20))} MiB"


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
