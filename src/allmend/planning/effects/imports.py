"""Imports: which modules are met, and which of them come from a clone rather than from the package index."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from allmend.planning import following

if TYPE_CHECKING:
    from allmend.planning.session import Session

_PYTHON_2 = frozenset(
    {"urllib2", "urlparse", "httplib", "cookielib", "cPickle", "cStringIO", "StringIO", "ConfigParser", "Queue",
     "Tkinter", "tkMessageBox", "SocketServer", "SimpleHTTPServer", "BaseHTTPServer", "HTMLParser", "commands", "md5",
     "sets", "thread", "__builtin__", "copy_reg", "exceptions", "imp", "distutils", "asyncore", "smtpd"}
)  # fmt: skip
"""Modules of standard libraries older than the running one."""

_ALWAYS = _PYTHON_2 | frozenset(
    {"google", "IPython", "mpl_toolkits", "pip", "setuptools", "pkg_resources", "ipykernel", "portpicker"}
)


def on_import(session: Session, module: str) -> None:
    """One module is imported; relative imports are a package's own business."""
    if not module or module.startswith("."):
        return
    top = module.partition(".")[0]
    session.modules.add(top)
    if session.world.texts and _own(session, top):
        return
    if top in sys.stdlib_module_names or top in _ALWAYS:
        return
    if session.world.fetched and _fetched(session, top):
        return
    if not session.world.clones and not session.world.search:
        return
    if _installed(session, top):
        return
    folder = _folder(session, top)
    if folder is None:
        return
    clone = session.world.clone_of(folder, "")
    pinned = clone.pinned if clone else False
    session.facts.setdefault("foreign", set()).add(top)
    session.add("foreign_code", top, literal=True, detail={"pinned": pinned, "from": folder or top})
    following.module(session, top, folder, clone)


def _fetched(session: Session, top: str) -> bool:
    """A module whose file was fetched into the working folder, or into a folder put on `sys.path`."""
    world = session.world
    for folder in ("", *world.search[-20:]):
        notebook = (f"{top}.ipynb",) if "import_ipynb" in session.modules else ()
        for name in (f"{top}.py", f"{top}/__init__.py", *notebook):
            if world.key(f"{folder}/{name}" if folder else name) in world.fetched:
                session.facts.setdefault("foreign", set()).add(top)
                session.add("foreign_code", top, literal=True, detail={"pinned": False, "from": name})
                return True
    return False


def _own(session: Session, top: str) -> bool:
    """A module that the notebook wrote itself: its text is followed as part of the writing cell."""
    key = session.world.key(top + ".py")
    known = session.world.texts.get(key)
    if known is None or f"import {key}" in session.facts:
        return known is not None
    session.facts[f"import {key}"] = True
    text, cell = known
    session.python_text(text, cell=cell)
    return True


def _installed(session: Session, top: str) -> bool:
    word = top.lower().replace("_", "-")
    return (
        top.lower() in session.tables.sets.get("known_modules", ())
        or word in session.installed
        or session.tables.maps.get("module_packages", {}).get(top, "") in session.installed
    )


def _folder(session: Session, top: str) -> str | None:
    """The folder inside a clone that the module would be found in, as the notebook names it."""
    world = session.world
    if world.clone_of(world.cwd or ".", "") is not None and world.cwd:
        return world.cwd
    inside = [path for path in world.search if world.clone_of(path, "") is not None]
    for path in inside:
        if path.rsplit("/", 1)[-1].replace("-", "_").lower().startswith(top.lower()):
            return path
    if inside:
        return inside[-1]
    clone = world.clones.get(top)
    return "" if clone is not None else None
