"""One level out: scripts, modules and requirement files of clones whose text is at hand are read too."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from allmend.errors import AllmendError
from allmend.nouns.notebook import Cell, Notebook
from allmend.planning.evaluation.values import DERIVED

if TYPE_CHECKING:
    from allmend.planning.session import Session
    from allmend.planning.world import Clone

MOST = 50
"""Files of one plan that are followed."""


def script(session: Session, path: str, cwd: str, clone: Clone | None) -> None:
    """A script that runs: read when its text is at hand, else named as unread."""
    text = _text(session, path, cwd, clone)
    if text is None:
        session.unread(f"{path} is code from outside; it was not read")
    else:
        _read(session, session.world.resolve(path, cwd).replace(DERIVED, ""), text)


def module(session: Session, top: str, folder: str, clone: Clone | None) -> None:
    """A module of a clone that is imported."""
    if session.reader is None:
        return
    for name in (f"{top}.py", f"{top}/__init__.py"):
        path = posixpath.join(folder, name) if folder else name
        text = _text(session, path, "", clone)
        if text is not None:
            _read(session, path, text)
            return


def requirements(session: Session, path: str, cwd: str, clone: Clone | None) -> None:
    """What a clone's requirement file installs."""
    text = _text(session, path, cwd, clone)
    if text is None:
        return
    lines = [re.sub(r"(?:^|\s+)#.*$", "", line).strip() for line in text.splitlines()]
    wanted = [
        "pip install " + (line if line.startswith("-") else "'" + line.replace("'", "") + "'") for line in lines if line
    ]
    _read(session, session.world.resolve(path, cwd).replace(DERIVED, ""), "%%bash\n" + "\n".join(wanted), bash=True)


def _text(session: Session, path: str, cwd: str, clone: Clone | None) -> str | None:
    return session.reader(path, cwd, clone, session.world) if session.reader is not None else None


def _read(session: Session, full: str, text: str, *, bash: bool = False) -> None:
    """Read one followed file in a session of its own; a file that was met before is not read again."""
    if full in session.followed:
        return
    if len(session.followed) >= MOST:
        session.unread(f"{full} was not read: more than {MOST} files of others would be followed")
        return
    session.followed.add(full)
    notebook = _notebook(full, text, bash=bash)
    if notebook is None:
        session.unread(f"{full} is code from outside in a language that is not followed; it was not read")
        return
    inner = type(session)(notebook)
    inner.followed = session.followed
    inner.read()
    for effect in inner.record.effects():
        if effect.kind != "hidden_code":
            session.record.add(
                effect.kind, effect.target, place=session.python.place, line=session.line, literal=False,
                reason=effect.reason, detail={**effect.detail, "via": full},
            )  # fmt: skip
    for item in inner.unreads:
        session.unread(f"in {full}: {item.reason}")


def _notebook(full: str, text: str, *, bash: bool) -> Notebook | None:
    """A followed file as cells: Python, a notebook, or shell."""
    if full.endswith(".ipynb"):
        from allmend.notebooks.document import read_bytes

        try:
            return read_bytes(text.encode(), name=full)
        except AllmendError:
            return None
    first = text.split("\n", 1)[0]
    if full.endswith((".py", ".pyw")) or ("python" in first and first.startswith("#!")):
        return Notebook(cells=[Cell(type="code", source=text)])
    if bash or full.endswith((".sh", ".bash")) or re.match(r"#!.*\b(?:ba|z|da)?sh\b", first):
        source = text if bash else "%%bash\n" + text
        return Notebook(cells=[Cell(type="code", source=source)])
    return None
