"""The Python a notebook runs with: an interpreter and its packages read-only, a thin layer of the run's own on top.

The layer is a virtual environment whose packages come before the ones beneath it, so that `pip` and `uv` install into
it and leave what is shared alone. An environment without pip (uv makes such) gets the one that Python carries for new
environments, straight from its wheel: notebooks say `!pip install` everywhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from allmend.errors import Unavailable

_ASK = """
import glob, importlib.util, json, os, site, sys, sysconfig
pip = importlib.util.find_spec("pip") is not None
wheels = []
if not pip and (ensurepip := importlib.util.find_spec("ensurepip")):
    folders = [os.path.dirname(ensurepip.origin) + "/_bundled", sysconfig.get_config_var("WHEEL_PKG_DIR")]
    wheels = [wheel for folder in folders if folder for wheel in sorted(glob.glob(folder + "/pip-*.whl"))][:1]
own = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
print(json.dumps({
    "version": ".".join(map(str, sys.version_info[:3])),
    "executable": os.path.realpath(sys.executable),
    "prefix": sys.prefix, "base": sys.base_prefix,
    "sites": [p for p in sys.path if p and os.path.isdir(p) and p not in own and not p.endswith("lib-dynload")]
             + wheels,
    "kernel": importlib.util.find_spec("ipykernel") is not None,
    "pip": pip or bool(wheels),
}))
"""


@dataclass(frozen=True)
class Environment:
    """An interpreter with its packages."""

    profile: str
    version: str
    """`3.11.7`."""
    executable: str
    """The base interpreter, links resolved."""
    roots: tuple[str, ...]
    """Folders to show read-only so that it runs."""
    sites: tuple[str, ...]
    """Package folders, first wins; pip's own wheel among them where nothing else has pip."""
    pip: bool
    dated: str = ""
    """The day the list of packages was fixed, empty where it is this machine's own environment."""
    notes: tuple[str, ...] = field(default=())

    @property
    def short(self) -> str:
        """`python3.11`."""
        return "python" + ".".join(self.version.split(".")[:2])


@lru_cache(maxsize=8)
def of(python: str = sys.executable, profile: str = "this") -> Environment:
    """The environment of an interpreter; raises `Unavailable` when it cannot run a kernel."""
    try:
        # Not in the folder we were started in: `-c` would import modules that lie there, beside the notebook.
        done = subprocess.run([python, "-c", _ASK], cwd="/", capture_output=True, text=True, timeout=60, check=True)
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        raise Unavailable(f"{python} does not run", hint="Name a Python 3.9 or later.") from None
    if not found["kernel"]:
        raise Unavailable(
            f"{python} has no ipykernel, so it cannot run a notebook",
            hint="Install it (`pip install ipykernel`), or use `--profile base`.",
        )
    # Folders of projects installed for editing are among them: they are packages of this environment too.
    sites = tuple(dict.fromkeys(found["sites"]))
    roots = [found["base"], found["prefix"], *sites]
    outer = [root for root in dict.fromkeys(os.path.realpath(r) for r in roots) if not root.startswith("/usr")]
    kept = [root for root in outer if not any(root != other and root.startswith(f"{other}/") for other in outer)]
    return Environment(profile, found["version"], found["executable"], tuple(kept), sites, found["pip"])


def make_layer(
    environment: Environment, folder: Path, inside: str, stand_ins: str, below: tuple[str, ...] = ()
) -> None:
    """Write the run's own layer into `folder`, which appears at `inside`.

    The stand-ins appear at `stand_ins` (empty without a box); `below` are package folders beneath the layer.
    """
    packages = folder / "lib" / environment.short / "site-packages"
    packages.mkdir(parents=True)
    programs = folder / "bin"
    programs.mkdir()
    (folder / "pyvenv.cfg").write_text(
        f"home = {Path(environment.executable).parent}\n"
        f"include-system-site-packages = false\nversion = {environment.version}\n"
    )
    (programs / "python").symlink_to(environment.executable)
    for name in ("python3", environment.short):
        (programs / name).symlink_to("python")
    lines = [f"import site; site.addsitedir({site!r})\n" for site in (*below, *environment.sites)]
    if stand_ins:
        # What their own .pth files add beyond what is shown could not be entered, and pip would stumble over it.
        shown = ("/usr/", f"{inside}/", stand_ins, *below, *environment.sites, *environment.roots)
        kept = f"[path for path in sys.path if path.startswith({shown!r})]"
        lines.append(f"import sys; sys.path[:] = {kept}\n")
    (packages / "_beneath.pth").write_text("".join(lines))
    if environment.pip:
        text = f"#!{inside}/bin/python\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"
        for name in ("pip", "pip3"):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)


TUNNELS = ("ngrok", "cloudflared", "lt", "localtunnel", "npx")
"""Programs that would make a port public: here it becomes one that is shown on this machine."""


def put_programs(folder: Path, inside: str, stand_ins: str) -> None:
    """Write the stand-ins for `apt-get`, `apt`, `sudo` and for the tunnels into the layer."""
    for name in ("apt-get", "apt", "sudo"):
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {inside}/bin/python -I -S {stand_ins}/apt.py {name} "$@"\n')
        program.chmod(0o755)
    for name in TUNNELS:
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {inside}/bin/python -I -S {stand_ins}/tunnels.py {name} "$@"\n')
        program.chmod(0o755)


def unreachable_for(environment: Environment, uid: int, gid: int) -> str | None:
    """The first folder on the way to the interpreter or its packages that `uid` cannot pass, or None.

    Without a mount namespace (level B) the run's own uid has to reach them by their real paths.
    """
    for root in (*environment.roots, str(Path(environment.executable).parent)):
        for folder in [*reversed(Path(root).parents), Path(root)]:
            status = folder.stat()
            bits = status.st_mode >> (6 if status.st_uid == uid else 3 if status.st_gid == gid else 0)
            if not bits & 1:
                return str(folder)
    return None
