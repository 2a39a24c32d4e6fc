"""`allmend doctor`: what this machine can do, and why."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from pydantic import Field

from allmend import __version__
from allmend.home import home
from allmend.nouns.noun import Noun, Part

_EXTRAS = {"tune": ("torch", "transformers", "safetensors"), "serve": ("fastapi", "uvicorn", "torch")}
_ISA = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm", "sve")


class Fact(Part):
    """One thing about this machine."""

    name: str
    value: str
    good: bool | None = None
    """Whether it is as it should be; None where there is no such thing."""
    hint: str | None = None
    """What to do to get it."""


class Diagnosis(Noun):
    """All of it."""

    schema_: str = Field("allmend.diagnosis/1", alias="schema")
    facts: list[Fact]


def doctor() -> Diagnosis:
    """Look at processor, memory, disk, GPU and installed extras. Imports torch only if it is installed."""
    return Diagnosis(facts=[*_machine(), *_disk(), *_box(), *_torch(), *_extras()])


def _box() -> list[Fact]:
    """The level a notebook would be run at, and what is missing for more."""
    from allmend.box import levels
    from allmend.box.probe import probe
    from allmend.errors import Unavailable

    machine = probe()
    try:
        level, why = levels.choose(machine=machine)
    except Unavailable as error:
        return [Fact(name="box", value=error.message, good=False, hint=error.hint)]
    full = level == "A"
    hint = None if full else machine.how_to_get_a()
    value = f"level {level} ({levels.NAMES[level]}): {'; '.join(why)}"
    facts = [Fact(name="box", value=value, good=full, hint=hint)]
    groups = machine.cgroup != "none"
    note = None if groups else "Memory is bounded for each process, not for all together, unless run as root."
    return [*facts, Fact(name="box limits", value=f"control group {machine.cgroup}", good=groups, hint=note)]


def _machine() -> list[Fact]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    isa = [flag for flag in _ISA if flag in _cpu_flags()]
    bf16 = bool({"avx512_bf16", "amx_bf16", "bf16"} & set(isa))
    memory = _memory()
    return [
        Fact(name="allmend", value=__version__),
        Fact(name="python", value=platform.python_version(), good=sys.version_info >= (3, 11)),
        Fact(name="system", value=f"{platform.system()} {platform.release()} {platform.machine()}"),
        Fact(name="cores", value=str(cores)),
        Fact(name="instruction sets", value=" ".join(isa) or "unknown"),
        Fact(
            name="bf16",
            value="native" if bf16 else "not native",
            good=bf16,
            hint=None if bf16 else "Models run in float32: twice the memory, and slower.",
        ),
        Fact(name="memory", value=f"{memory / 2**30:.1f} GiB" if memory else "unknown"),
    ]


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text().lower()
    except OSError:
        return set()
    return set(text[: text.find("\n\n") if "\n\n" in text else None].split())


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def _disk() -> list[Fact]:
    folder = home()
    free = shutil.disk_usage(folder).free
    return [
        Fact(name="home", value=str(folder)),
        Fact(
            name="disk free",
            value=f"{free / 2**30:.1f} GiB",
            good=free > 2 << 30,
            hint=None
            if free > 2 << 30
            else "The default model needs about 1.1 GiB here; ALLMEND_HOME names another disk.",
        ),
    ]


def _torch() -> list[Fact]:
    if find_spec("torch") is None:
        return [Fact(name="torch", value="not installed", good=False, hint="pip install 'allmend[tune]'")]
    import torch

    cuda = torch.cuda.is_available()
    gpu = torch.cuda.get_device_name() if cuda else "none that torch can use"
    return [
        Fact(name="torch", value=f"{torch.__version__}, {torch.get_num_threads()} threads", good=True),
        Fact(name="gpu", value=gpu, good=cuda or None),
    ]


def _extras() -> list[Fact]:
    facts = []
    for extra, modules in _EXTRAS.items():
        missing = [name for name in modules if find_spec(name) is None]
        facts.append(
            Fact(
                name=f"[{extra}]",
                value="installed" if not missing else f"missing {', '.join(missing)}",
                good=not missing,
                hint=f"pip install 'allmend[{extra}]'" if missing else None,
            )
        )
    facts.append(Fact(name="transformers", value=_version("transformers")))
    return facts


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
