"""Environments that hold what an extra brings and nothing else, made of the packages that are here.

The environment of the tests has every extra, so a package that one of them forgot to name is there all the same. A
virtual environment linked from the closure of an extra's requirements is what a stranger gets from
`pip install 'allmend[extra]'`, without fetching anything.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tomllib
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


def environment(folder: Path, *extras: str) -> Path:
    """A virtual environment of allmend with these extras; the path of its Python."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / Path(sys.executable).name
    site = next((folder / "lib").iterdir()) / "site-packages"
    for name in sorted(closure(*extras)):
        _link(distribution(name), site, folder / "bin", python)
    _link(distribution("allmend"), site, folder / "bin", python)
    (site / "allmend_source.pth").write_text(f"{ROOT / 'src'}\n")
    return python if python.exists() else folder / "bin" / "python3"


def closure(*extras: str) -> set[str]:
    """Names of all packages that allmend with these extras requires here, directly or not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    offered = project["optional-dependencies"]
    waiting = [(Requirement(line), "") for line in project["dependencies"]]
    waiting += [(Requirement(f"allmend[{','.join(extras)}]"), "")] if extras else []
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) in seen:
                continue
            seen.add((name, wanted))
            if name == "allmend":
                waiting += [(Requirement(line), "") for line in offered.get(wanted, ())]
            else:
                waiting += [(Requirement(line), wanted) for line in distribution(name).requires or ()]
    return {name for name, _ in seen} - {"allmend"}


def _link(package: Distribution, site: Path, programs: Path, python: Path) -> None:
    origin, scripts = Path(sysconfig.get_path("purelib")).resolve(), Path(sysconfig.get_path("scripts")).resolve()
    for file in package.files or ():
        source = Path(os.path.normpath(str(package.locate_file(file))))
        if source.is_relative_to(origin):
            target = site / source.relative_to(origin)
        elif source.is_relative_to(scripts):
            target = programs / source.name
        else:
            continue
        if source.suffix in (".pth", ".pyc") or target.exists() or not source.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.parent == programs and source.read_bytes()[:2] == b"#!":
            _, _, rest = source.read_text().partition("\n")
            target.write_text(f"#!{python}\n{rest}")
            target.chmod(0o755)
            continue
        try:
            os.link(source, target)
        except OSError:  # another file system
            shutil.copy2(source, target)
