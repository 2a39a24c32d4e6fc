"""Line and cell magics."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from allmend.planning.evaluation.values import DERIVED, Place, Unknown, Value

if TYPE_CHECKING:
    from allmend.notebooks.syntax import CellCode, Special
    from allmend.planning.session import Session

_PROGRAMS = frozenset({"pip", "pip3", "conda", "mamba", "micromamba", "uv", "mkdir", "rm", "cp", "mv", "cat", "ls", "rmdir",
                       "git", "wget", "curl", "apt", "apt-get", "man", "less", "more", "bash", "npm", "npx", "python", "python3"})  # fmt: skip


_KNOWN = frozenset(
    [
        "alias",
        "alias_magic",
        "autoawait",
        "autocall",
        "automagic",
        "autosave",
        "bookmark",
        "colors",
        "config",
        "connect_info",
        "debug",
        "dhist",
        "dirs",
        "doctest_mode",
        "ed",
        "edit",
        "gui",
        "hist",
        "history",
        "killbgscripts",
        "ldir",
        "lf",
        "lk",
        "ll",
        "loadpy",
        "logoff",
        "logon",
        "logstart",
        "logstate",
        "logstop",
        "lsmagic",
        "lx",
        "macro",
        "magic",
        "matplotlib",
        "notebook",
        "page",
        "pastebin",
        "pdb",
        "pdef",
        "pdoc",
        "pfile",
        "pinfo",
        "pinfo2",
        "pprint",
        "precision",
        "prun",
        "psearch",
        "psource",
        "pwd",
        "pycat",
        "pylab",
        "qtconsole",
        "quickref",
        "recall",
        "rehashx",
        "reload_ext",
        "rep",
        "rerun",
        "reset",
        "reset_selective",
        "save",
        "sc",
        "store",
        "tb",
        "time",
        "timeit",
        "unalias",
        "unload_ext",
        "who",
        "who_ls",
        "whos",
        "xdel",
        "xmode",
        "autoreload",
        "aimport",
        "tensorflow_version",
        "watermark",
        "memit",
        "mprun",
        "lprun",
        "snakeviz",
        "capture",
        "config_inline",
        "nb_black",
        "lab_black",
        "load_ext",
        "load",
        "popd",
        "dist_init",
        "scalene",
        "pip3",
        "html",
        "javascript",
        "js",
        "latex",
        "markdown",
    ]
)
"""Magics that touch nothing outside the kernel."""


def line_magic(session: Session, special: Special) -> Value:
    """Follow one `%magic`."""
    from allmend.planning.effects import directories, scripts
    from allmend.planning.substitution import substitute

    name, text = special.name, special.text.strip()
    session.line = special.line
    if name in _PROGRAMS:
        session.shell_line(f"{name} {text}", special.line)
        return Unknown("%" + name, "it is the output of a command") if special.captured else None
    if name in ("sx", "system", "!", "shell", "sh", "bash_line"):
        session.shell_line(text, special.line)
        return Unknown("%" + name, "it is the output of a command")
    if name in ("cd", "pushd"):
        for filled in substitute(session.python, _unquoted(text))[:1]:
            target = filled.strip().replace("\\ ", " ") or "~"
            if not target.startswith("-"):
                directories.go(session, target)
        return None
    if name == "popd":
        return None
    if name in ("env", "set_env"):
        _environment(session, text)
        return None
    if name == "run":
        for filled in substitute(session.python, text):
            words = filled.split()
            words = [w for w in words if not w.startswith("-")] if words and words[0].startswith("-") else words
            if words:
                path = words[0].strip("\"'")
                scripts.script(
                    session, path, session.world.cwd, literal=DERIVED not in path, words=words[1:], magic=True
                )
        return None
    if name == "load_ext":
        session.modules.add(text.split(".")[0])
        if text == "wandb":
            return None
        return None
    if name == "tensorboard":
        from allmend.planning.effects import serving

        serving.tensorboard(session, text)
        return None
    if name == "load":
        match = re.search(r"https?://\S+", text)
        if match:
            session.add("download", match[0], literal=True, detail=_host(match[0]))
        return None
    if name == "wandb":
        session.add("send", "wandb", literal=True)
    elif name not in _KNOWN and not name.startswith("%"):
        _unknown(session, name, text)
    return None


def _unknown(session: Session, name: str, text: str) -> None:
    """A magic that some extension or script defined: an address given to it is fetched, the rest is not read."""
    from allmend.planning.effects.targets import host_of, is_url
    from allmend.planning.substitution import substitute

    for filled in substitute(session.python, text):
        for word in filled.split():
            clean = word.replace(DERIVED, "").strip("\"'<>,")
            if is_url(clean):
                mark = DERIVED if DERIVED in word else ""
                session.add("download", mark + clean, literal=not mark, detail={"host": host_of(clean)})
    session.unread(f"%{name} is a magic that is not known here; what it does was not read")


def _host(url: str) -> dict[str, str]:
    from allmend.planning.effects.targets import host_of

    return {"host": host_of(url)}


def _unquoted(text: str) -> str:
    text = text.split(" #")[0].strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _environment(session: Session, text: str) -> None:
    from allmend.planning.effects import credentials
    from allmend.planning.substitution import substitute

    match = re.match(r"([A-Za-z_]\w*)(?:\s*=\s*|\s+)(.+)$", text, re.DOTALL)
    if not match:
        return
    value = substitute(session.python, match[2].strip())[0]
    session.journal.set(session.world.environment, match[1], value)
    credentials.shell_variable(session, match[1], value)


def cell_magic(session: Session, code: CellCode, place: Place) -> bool:
    """Follow a cell whose language is not Python; True when nothing is left to do."""
    names = [name for name, _, _ in code.magics]
    last_name, last_text, _ = code.magics[-1]
    below = Place(place.cell, place.above, place.lines)
    if code.language == "bash":
        session.python.place = below
        text = code.body
        if names[-1] in ("!", "sx", "system"):
            session.shell_line(text, code.first_line + 1)
        else:
            session.shell_text(text, first_line=code.first_line + 1, positional=_given(session, last_text))
        return True
    if code.language == "file":
        session.python.place = below
        _file(session, code, last_text)
        return True
    if code.language == "none":
        return True
    if last_name in ("python", "python3", "python2", "pypy") and code.language == "python":
        session.python_text(code.body)
        return True
    return last_name == "run"


def _given(session: Session, text: str) -> list[str]:
    """The arguments of `%%bash -s ARGUMENTS`, with IPython's variables filled in."""
    import shlex

    from allmend.planning.substitution import substitute

    if "-s" not in text.split():
        return []
    filled = substitute(session.python, text)[0].replace(DERIVED, "")
    try:
        words = shlex.split(filled)
    except ValueError:
        words = filled.split()
    return words[words.index("-s") + 1 :] if "-s" in words else []


def _file(session: Session, code: CellCode, text: str) -> None:
    from allmend.planning.effects import directories
    from allmend.planning.substitution import substitute

    words = [word for word in substitute(session.python, text)[0].split() if not word.startswith("-")]
    if not words:
        return
    path = words[0].replace(DERIVED, "").strip("\"'")
    append = " -a" in f" {text}"
    session.line = code.first_line
    directories.written(session, path, cwd=None, literal=DERIVED not in words[0])
    key = session.world.key(path)
    earlier = session.world.texts.get(key) if append else None
    before = earlier[0] if earlier else ""
    lines = "" if before else "\n" * code.first_line
    session.world.texts[key] = (before + lines + code.body, session.python.place.cell)
