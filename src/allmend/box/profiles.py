"""Named sets of packages a notebook starts with, each built once and shared read-only.

A profile is a dated list: the same list, date and interpreter give the same folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path

from allmend.box import environment as environments
from allmend.box import interpreters, named
from allmend.box.document import Document
from allmend.box.environment import Environment
from allmend.box.installing import DATED, cache, install, key
from allmend.box.owner import Operator
from allmend.errors import Unavailable, UsageError, nearest

BASE = ("ipykernel>=6.29", "pip>=24", "setuptools>=70", "wheel", "matplotlib-inline")
COLAB = (
    *BASE,
    "numpy>=2,<3",
    "pandas>=2.2",
    "matplotlib>=3.9",
    "pillow>=10",
    "requests>=2.32",
    "scipy>=1.14",
    "scikit-learn>=1.5",
    "seaborn>=0.13",
    "tqdm>=4.66",
    "ipywidgets>=8",
    "torch==2.13.0",
    "transformers>=4.56",
    "huggingface-hub>=0.34",
    "safetensors>=0.5",
    "tokenizers>=0.20",
    "pyyaml>=6",
    "beautifulsoup4>=4.12",
    "gdown>=5",
    "portpicker>=1.6",
)
"""The commonest imports of Colab notebooks that they never install."""

_IMPORTED_AS = {
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "huggingface-hub": "huggingface_hub",
    "pyyaml": "yaml",
    "beautifulsoup4": "bs4",
    "matplotlib-inline": "matplotlib_inline",
}
LISTS = {"base": BASE, "colab": COLAB}
PROFILES = ("auto", "this", *LISTS)


@dataclass(frozen=True)
class Choice:
    """A profile that was chosen and not built yet."""

    profile: str
    python: str | None
    """The interpreter, None for this one."""
    why: str


def choose(profile: str, document: Document, python: str | None = None, installs: Sequence[str] = ()) -> Choice:
    """The profile and interpreter for a notebook; `python` is a minor version that was asked for.

    `auto` is this environment where it can run a kernel and has what the notebook imports without installing it first
    (`installs` are the names it installs); else `colab`, where that holds more of it or the notebook was made for Colab
    and this environment has no kernel; else `base`. Raises `UsageError`, `Unavailable`.
    """
    if profile not in PROFILES:
        raise UsageError(f"there is no profile {profile!r}", where="--profile", hint=nearest(profile, PROFILES) or None)
    version = python or interpreters.wanted(document)
    other = version is not None and version != ".".join(map(str, sys.version_info[:2]))
    path = interpreters.find(version) if version is not None and other else None
    if profile == "this":
        if path is not None:
            raise Unavailable(
                f"this environment has Python {sys.version_info[0]}.{sys.version_info[1]}, and {version} is asked for",
                hint="Leave --profile out, or use --profile base or colab, which are built for that version.",
            )
        environments.of()
        return Choice("this", None, "asked for")
    if profile != "auto":
        return Choice(profile, path, "asked for")
    needed = named.imports(document) - set(sys.stdlib_module_names) - {"google"}
    needed -= {text.replace("-", "_") for text in installs} | {_module(text) for text in installs}
    needed -= {name for name in needed if named.lies_beside(f"{name}.py", document.path.absolute().parent, "")}
    of_colab = needed & {_module(text) for text in COLAB}
    if path is not None:
        fitting = "colab" if of_colab or document.colab else "base"
        return Choice(fitting, path, f"Python {version} is asked for")
    try:
        lacking = _lacking(needed, environments.of())
    except Unavailable:
        return Choice("colab" if document.colab or of_colab else "base", None, "this environment has no ipykernel")
    if lacking & of_colab:
        shown = ", ".join(sorted(lacking & of_colab)[:5])
        return Choice("colab", None, f"this environment lacks {shown}, which the notebook imports")
    why = "it has what the notebook imports"
    if lacking:
        why = f"{', '.join(sorted(lacking)[:5])} is not installed here, and no profile has it"
    return Choice("this", None, why)


def _module(requirement: str) -> str:
    name = requirement.replace("<", ">").replace("=", ">").partition(">")[0].partition("[")[0].lower()
    return _IMPORTED_AS.get(name, name.replace("-", "_"))


def _lacking(modules: set[str], chosen: Environment) -> set[str]:
    """The modules that an environment does not have; looked up by path, nothing is imported."""
    return {name for name in modules if PathFinder.find_spec(name, [*chosen.sites]) is None}


def environment(choice: Choice, operator: Operator) -> Environment:
    """The environment of a choice, built on first use. Raises `Unavailable`, `NotInstallable`."""
    if choice.profile == "this":
        return environments.of()
    return build(choice.profile, LISTS[choice.profile], operator, choice.python)


def built(choice: Choice, operator: Operator) -> bool:
    """Whether the choice can be used at once."""
    return choice.profile == "this" or _folder(choice.profile, LISTS[choice.profile], operator, choice.python).exists()


def _folder(name: str, requirements: Sequence[str], operator: Operator, python: str | None) -> Path:
    base = os.path.realpath(python or sys.executable)
    version = _version(base)
    return (
        cache() / f"{name}-{DATED}-py{version}-{key(base, version, requirements, operator.settings)}" / "site-packages"
    )


def build(name: str, requirements: Sequence[str], operator: Operator, python: str | None = None) -> Environment:
    """Build (once) a folder of packages for an interpreter with uv; returns its environment."""
    base = os.path.realpath(python or sys.executable)
    site = _folder(name, requirements, operator, python)
    if not site.exists():
        install(requirements, site, base, operator, f"the packages of the profile {name}")
        made = {"requirements": list(requirements), "dated": DATED}
        (site.parent / "made.json").write_text(json.dumps(made, indent=1))
    roots = [str(site)] + ([] if base.startswith("/usr/") else [str(Path(base).parent.parent)])
    return Environment(name, _version(base), base, tuple(roots), (str(site),), pip=True, dated=DATED)


@lru_cache(maxsize=8)
def _version(python: str) -> str:
    done = subprocess.run(
        [python, "-I", "-S", "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        raise Unavailable(f"{python} does not run", hint="Name a Python 3.10 or later.")
    return done.stdout.strip()
