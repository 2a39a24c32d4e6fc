"""Named sets of packages a notebook starts with, and the sets a notebook installs, each built once and shared
read-only.

A profile is a dated list: the same list, date and interpreter give the same folder. What a notebook's plan says it
will install is resolved against the profile and built in a box of its own (a package's build script is foreign
code),
so that a second run finds it there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from allmend.box import environment as environments
from allmend.box import owner
from allmend.box.document import Document
from allmend.box.environment import Environment
from allmend.box.owner import Operator
from allmend.errors import FetchError, Unavailable, UsageError, nearest

DATED = "2026-11-01"
"""The day the lists below were fixed; an index that knows upload times is asked for nothing newer."""

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

LISTS = {"base": BASE, "colab": COLAB}
PROFILES = ("auto", "this", *LISTS)


def environment(profile: str, document: Document, operator: Operator) -> Environment:
    """The environment of a profile, built on first use. `auto` is this environment where it can run a kernel
    and has what
    the notebook imports first, else `colab` for notebooks made for Colab and `base` for others.

    Raises `UsageError`, `Unavailable`, `FetchError`.
    """
    if profile not in PROFILES:
        raise UsageError(f"there is no profile {profile!r}", where="--profile", hint=nearest(profile, PROFILES) or None)
    check_interpreter(document)
    if profile == "auto":
        try:
            return environments.of()
        except Unavailable:
            profile = "colab" if document.colab else "base"
    if profile == "this":
        return environments.of()
    return build(profile, LISTS[profile], operator)


def check_interpreter(document: Document) -> None:
    """Raises `Unavailable` where the notebook asks for an interpreter version that is not this one."""
    kernel = document.content["metadata"].get("kernelspec")
    name = str(kernel.get("name", "")) if isinstance(kernel, dict) else ""
    language = str(kernel.get("language", "python")) if isinstance(kernel, dict) else "python"
    if language.lower() not in ("python", "ipython", "") or name.lower() in (
        "ir",
        "julia",
        "bash",
        "javascript",
        "python2",
    ):
        raise Unavailable(
            f"this notebook wants the kernel {name or language!r}; only Python 3 kernels run in the box",
            where=str(document.path),
        )


def cache() -> Path:
    """Where profiles and requirement sets are kept."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "allmend" / "environments"


def key(*parts: object) -> str:
    """A short digest naming a built folder."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:24]


def build(name: str, requirements: Sequence[str], operator: Operator, python: str | None = None) -> Environment:
    """Build (once) a folder of packages for this interpreter with uv; returns its environment."""
    base = os.path.realpath(python or sys.executable)
    version = _version(base)
    folder = cache() / f"{name}-{DATED}-py{version}-{key(base, version, requirements, operator.settings)}"
    site = folder / "site-packages"
    if not (folder / "complete").exists():
        _install(requirements, site, base, operator, f"profile {name}")
        (folder / "complete").write_text(json.dumps({"requirements": list(requirements), "dated": DATED}, indent=1))
    roots = [str(site)] + ([] if base.startswith("/usr/") else [str(Path(base).parent.parent)])
    return Environment(name, version, base, tuple(roots), (str(site),), pip=True, dated=DATED)


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


_KEPT = (
    *("PATH", "HOME", "XDG_CACHE_HOME", "UV_CACHE_DIR", "SSL_CERT_DIR", "TMPDIR"),
    *("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"),
)


def uv_command(python: str, site: Path, operator: Operator) -> tuple[list[str], dict[str, str]]:
    """uv's command and environment for filling `site`: this machine's index settings passed on, wheels only.

    Wheels only, because this runs outside a box: a source distribution's build script would be foreign code.
    """
    uv = shutil.which("uv") or _bundled_uv()
    command = [
        uv,
        "pip",
        "install",
        "--python",
        python,
        "--target",
        str(site),
        "--only-binary",
        ":all:",
        "--no-config",
        "--compile-bytecode",
    ]
    command += ["--exclude-newer", f"{DATED}T23:59:59Z"] if _knows_times(operator) else []
    variables = owner.uv_variables(operator.settings)
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return command, {**kept, **variables, **operator.certificates}


def _knows_times(operator: Operator) -> bool:
    """Only the public index is known to tell upload times; uv refuses packages of an index that does not."""
    settings = operator.settings
    plain = settings.get("index-url") in (None, [owner.DEFAULT_INDEX])
    return plain and not settings.get("extra-index-url") and not settings.get("find-links")


def uv_program() -> str | None:
    """The uv that is shown inside for `!uv pip install`, if there is one."""
    try:
        return os.path.realpath(shutil.which("uv") or _bundled_uv())
    except Unavailable:
        return None


def _bundled_uv() -> str:
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        raise Unavailable("uv is not installed", hint="pip install uv") from None


def _install(
    requirements: Sequence[str],
    site: Path,
    python: str,
    operator: Operator,
    what: str,
    left_out: Sequence[str] = (),
) -> None:
    """Fill `site` by rename, so that a stopped build leaves nothing half-made."""
    site.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=site.parent))
    try:
        command, variables = uv_command(python, temporary, operator)
        if left_out:
            listed = temporary.with_name(f"{temporary.name}.excludes")
            listed.write_text("\n".join(left_out) + "\n")
            command += ["--excludes", str(listed)]
        done = subprocess.run(
            [*command, *requirements], env=variables, capture_output=True, text=True, check=False, timeout=3600
        )
        if done.returncode != 0:
            said = done.stderr.strip()[-800:]
            raise FetchError(
                f"the packages of the {what} could not be installed: {said}", hint="Check pip's index settings."
            )
        temporary.chmod(0o755)
        if site.exists():
            shutil.rmtree(site)
        temporary.rename(site)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.with_name(f"{temporary.name}.excludes").unlink(missing_ok=True)


def requirement_set(requirements: Sequence[str], chosen: Environment, operator: Operator) -> tuple[str, ...]:
    """Package folders, beneath the run's own layer, that hold what the notebook installs; built once for each set.

    Only plain names with versions are built ahead (`name`, `name==1.2`); URLs, files and options stay for the
    notebook's own
    cell. A set that cannot be built from wheels is left to the notebook as well: then nothing is cached.
    """
    there = installed(chosen)
    plain = sorted({text for text in requirements if _is_plain(text) and not _satisfied(text, there)})
    if not plain:
        return ()
    folder = (
        cache()
        / f"set-py{chosen.version}-{key(chosen.executable, chosen.sites, chosen.dated, plain, operator.settings)}"
    )
    site = folder / "site-packages"
    if not site.exists():
        try:
            asked = {_name(text) for text in plain}
            # What the profile holds is not fetched again; where its version is too old, the notebook's own
            # cell adds another.
            left_out = [name for name in there if name not in asked]
            _install(plain, site, chosen.executable, operator, "notebook's own installs", left_out)
        except FetchError:
            return ()
    return (str(site),)


def installed(chosen: Environment) -> dict[str, str]:
    """Distribution names (PEP 503) of an environment with their versions."""
    found: dict[str, str] = {}
    for site in chosen.sites:
        for folder in Path(site).glob("*.dist-info"):
            name, _, version = folder.name.removesuffix(".dist-info").partition("-")
            found.setdefault(_name(name), version)
    return found


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>~!\[]", text)[0]).lower()


def _satisfied(text: str, there: dict[str, str]) -> bool:
    """Whether pip would say that a requirement is already there (a name alone, or that very version)."""
    version = there.get(_name(text))
    return version is not None and (text in (f"{_name(text)}=={version}",) or not re.search(r"[=<>~!]", text))


def _is_plain(text: str) -> bool:
    return bool(text) and all(c.isalnum() or c in "._-=<>~!,[]" for c in text) and text[0].isalnum()


def with_folder(chosen: Environment, folders: Sequence[str]) -> Environment:
    """An environment with more package folders in front."""
    return replace(chosen, sites=(*folders, *chosen.sites), roots=(*chosen.roots, *folders))
