"""A script that runs: which came from outside, which the notebook wrote, which is a web UI."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from allmend.planning import following
from allmend.planning.effects.flags import arguments, flags
from allmend.planning.effects.targets import is_url, plain
from allmend.planning.evaluation.values import DERIVED, has_hole

if TYPE_CHECKING:
    from allmend.planning.effects.line import Line
    from allmend.planning.session import Session

_WEB_UI = re.compile(
    r"(?:^|/)(?:launch|webui|web|gui|kohya_gui|infer-web|infer_web|entry_with_update|relauncher|gradio_\w+|\w*_?webui\w*|\w*gradio\w*|"
    r"web_demo\w*|\w*_?gui|invoke|server|run_gradio\w*|webgui|start_web\w*|\w*_web_demo|webui[-_]\w+)\.(?:py|sh)$",
    re.IGNORECASE,
)

_MAYBE_UI = re.compile(r"(?:^|/)(?:app\w*|main|start|run|demo|inference_demo)\.(?:py|sh)$", re.IGNORECASE)

_UI_FLAGS = frozenset({"--share", "--listen", "--port", "--server_port", "--server-port", "--gradio", "--webui", "--colab",
                       "--dont-print-server", "--ngrok", "--enable-insecure-extension-access", "--is_share", "--public"})  # fmt: skip


def again(session: Session, line: Line, at: int) -> None:
    """What stands from word `at` on is a command of its own."""
    from allmend.planning.effects import commands

    inner = line.command.tail(at)
    inner.from_python = False
    commands.run(session, inner, line.shell)


def ran(session: Session, line: Line, at: int) -> None:
    """The script at word `at` runs with the words after it."""
    given = line.command.environment.get("COMMANDLINE_ARGS", "")
    if not given:
        known = session.world.environment.get("COMMANDLINE_ARGS")
        given = known if isinstance(known, str) else ""
    words = [*line.words[at + 1 :], *plain(given).split()]
    script(session, line.words[at], line.cwd, literal=line.exact(at), words=words, at_line=line.command.line)
    if given:
        flags(session, plain(given).split())
    arguments(session, line, at + 1)


def script(
    session: Session, path: str, cwd: str, *, literal: bool, words: list[str] | None = None, quiet: bool = False,
    magic: bool = False, at_line: int | None = None,
) -> None:  # fmt: skip
    """A script runs: its own text is followed if the notebook wrote it, else it is listed if it came from outside."""
    world = session.world
    path = plain(path).strip("\"'")
    if not path:
        return
    mark = "" if literal else DERIVED
    if is_url(path):
        session.add("foreign_code", mark + path, literal=literal, detail={"pinned": False}, line=at_line)
        if magic:
            from allmend.planning.effects.targets import host_of

            session.add("download", mark + path, literal=literal, detail={"host": host_of(path)}, line=at_line)
        return
    key = world.key(path, cwd)
    if key in world.texts:
        text, cell = world.texts[key]
        run_own(session, path, text, cell, cwd, words or [])
        return
    clone = world.clone_of(path, cwd)
    origin = world.source_of(path, cwd)
    full = mark + world.resolve(path, cwd)
    if has_hole(path):
        if clone is not None or (world.clones and _WEB_UI.search(path)):
            session.add(
                "foreign_code", full, literal=False, detail={"pinned": bool(clone and clone.pinned)}, line=at_line
            )
    elif clone is not None or origin is not None:
        session.add(
            "foreign_code", full, literal=literal, detail={"pinned": bool(clone and clone.pinned)}, line=at_line
        )
        following.script(session, path, cwd, clone)
    if not quiet:
        web_ui(session, path, words or [], outside=clone is not None or origin is not None, line=at_line)


def run_own(session: Session, path: str, text: str, cell: int, cwd: str, words: list[str]) -> None:
    saved = session.python.place
    from allmend.planning.evaluation.values import Place

    if path.endswith((".sh", ".bash")) or text.lstrip().startswith(("#!/bin/bash", "#!/bin/sh", "#!/usr/bin/env bash")):
        session.python.place = Place(cell, 0, tuple(text.split("\n")))
        session.shell_text(text, first_line=1, cwd=cwd, positional=words)
        session.python.place = saved
    elif path.endswith(".ipynb"):
        return
    else:
        before = session.world.state["<cwd>"]
        given, session.argv = session.argv, [plain(word) for word in words]
        session.python_text(text, cell=cell)
        session.argv = given
        session.world.state["<cwd>"] = before


def web_ui(session: Session, path: str, words: list[str], *, outside: bool, line: int | None) -> None:
    """A local web page that a script starts, by its name and flags."""
    given = {word.partition("=")[0] for word in words}
    looks: object = _WEB_UI.search(path) or (_MAYBE_UI.search(path) and given & _UI_FLAGS) or "--share" in given
    comfy = re.search(r"comfy", path, re.IGNORECASE) or re.search(r"comfy", session.world.cwd, re.IGNORECASE)
    looks = looks or (comfy and path.endswith("main.py"))
    if not looks or not (outside or given & _UI_FLAGS) or "--exit" in given:
        return
    if any(word.partition("=")[0] == "--share" and not word.lower().endswith("=false") for word in words):
        session.add("serve", "gradio-share", literal=True, detail={"public": "yes"}, line=line)
        return
    number = None
    for at, word in enumerate(words):
        head, sign, tail = word.partition("=")
        value = tail if sign else words[at + 1] if at + 1 < len(words) else ""
        if head in ("--port", "--server_port", "--server-port", "--listen-port", "--api-port") and re.fullmatch(
            r"\d{2,5}", value
        ):
            number = value
    session.add("serve", f"port:{number}" if number else "launch", literal=True, detail={"public": "no"}, line=line)
