"""Programs that run other code: python, bash, launchers, other interpreters, build tools, notebooks."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from allmend.planning import following
from allmend.planning.effects.flags import arguments, flags
from allmend.planning.effects.launchers import launched
from allmend.planning.effects.scripts import ran, script, web_ui
from allmend.planning.effects.targets import hub_name, is_url, plain
from allmend.planning.evaluation.values import DERIVED, has_hole

if TYPE_CHECKING:
    from allmend.planning.effects.line import Line
    from allmend.planning.session import Session


def python(session: Session, line: Line) -> None:
    """`python script.py`, `python -m module`, `python -c text`, `python < text`."""
    words = line.words
    at = 1
    while at < len(words):
        word = words[at]
        if word == "-c":
            if at + 1 < len(words):
                _text(session, line, at + 1)
            return
        if word == "-m" or (word.startswith("-m") and len(word) > 2 and not word.startswith("--")):
            place = at + 1 if word == "-m" else at
            if place < len(words):
                module(session, line, place)
            return
        if word in ("-W", "-X", "-Q"):
            at += 2
        elif word == "-":
            break
        elif word.startswith("-"):
            at += 1
        else:
            break
    if at >= len(words) or words[at] in ("-", "/dev/stdin"):
        _piped(session, line)
        return
    if not from_substitution(session, line, words[at]):
        ran(session, line, at)


def _text(session: Session, line: Line, at: int) -> None:
    text = line.words[at]
    if from_substitution(session, line, text):
        return
    if not has_hole(text):
        session.python_text(text, above=line.command.line - 1)
    else:
        session.python_text(re.sub("\U000f0000\\d+\U000f0001", "_", text), above=line.command.line - 1)


def _piped(session: Session, line: Line) -> None:
    """A program reads its text from a pipe or a heredoc."""
    text = _given(line)
    if text is not None:
        session.python_text(text, above=line.command.line)
        return
    for at, url in _fetched_before(session, line):
        session.add("foreign_code", url, literal=at, detail={"pinned": False}, line=line.command.line)


def _given(line: Line) -> str | None:
    """The text that a program is given: a heredoc of its own, or one passed on by `cat`; words that `echo` passes on."""
    if line.command.stdin is not None:
        return line.command.stdin
    before = line.command.before
    if before is None:
        return None
    name = posixpath.basename(plain(before.program))
    if name in ("cat", "tee") and before.stdin is not None:
        return before.stdin
    if name in ("echo", "printf"):
        words = [plain(word) for word in before.words[1:] if not re.fullmatch(r"-[neE]+", word)]
        text = " ".join(words)
        return text.replace("\\n", "\n") if words and not has_hole(text) else None
    return None


def _fetched_before(session: Session, line: Line) -> list[tuple[bool, str]]:
    """URLs fetched by the commands that are piped into this one."""
    found = []
    before = line.command.before
    for _ in range(6):
        if before is None:
            break
        name = posixpath.basename(before.program.replace(DERIVED, ""))
        if name in ("curl", "wget", "aria2c") or before.program in ("sudo",):
            for number, word in enumerate(before.words[1:], start=1):
                clean = plain(word)
                if is_url(clean) or re.match(r"(?:[\w-]+\.)+[a-z]{2,}/", clean):
                    found.append((before.literal[number] and DERIVED not in word, word))
        elif name in ("cat",):
            for word in before.words[1:]:
                origin = session.world.source_of(plain(word), before.cwd)
                if origin:
                    found.append((False, session.world.resolve(plain(word), before.cwd)))
        before = before.before
    return found


def module(session: Session, line: Line, at: int) -> None:
    name = line.words[at].removeprefix("-m") if line.words[at].startswith("-m") else line.words[at]
    top = name.partition(".")[0]
    if name in ("pip", "pip3", "uv", "streamlit", "gdown", "spacy", "huggingface_hub.commands.huggingface_cli", "wandb", "ipython",
                "uvicorn", "flask", "gunicorn", "vllm", "tensorboard", "yt_dlp", "youtube_dl", "IPython", "jupyter", "kaggle",
                "easy_install", "poetry", "conda", "papermill", "pipx"):  # fmt: skip
        inner = line.command.tail(at)
        inner.words = [
            {"yt_dlp": "yt-dlp", "youtube_dl": "youtube-dl", "IPython": "ipython"}.get(name, name),
            *inner.words[1:],
        ]
        inner.from_python = False
        from allmend.planning.effects import commands

        commands.run(session, inner, line.shell)
        return
    if name == "http.server" or name == "SimpleHTTPServer":
        number = next((w for w in line.words[at + 1 :] if w.isdigit()), "8000")
        line.fixed("serve", f"port:{number}", public="no")
        return
    if name in (
        "torch.distributed.launch",
        "torch.distributed.run",
        "accelerate.commands.launch",
        "torch.distributed.elastic",
    ):
        launched(session, line, at + 1)
        return
    if name == "accelerate" or name == "accelerate.launch":
        return
    if name == "nltk.downloader":
        for place in line.positional(("-d",), at + 1):
            line.add("dataset", place, prefix="nltk:")
        return
    if name.startswith("vllm.entrypoints"):
        given = line.option("--model")
        if given and hub_name(given[1]):
            line.add("model", given[0], given[1], prefix="hf:")
        from allmend.planning.effects import serving

        line.fixed("serve", serving.port(line, 8000), public="no")
        return
    arguments(session, line, at + 1)
    world = session.world
    clone = world.clone_of(".", line.cwd)
    if clone is not None and not _known_module(session, top):
        path = world.resolve(name.replace(".", "/") + ".py", line.cwd)
        line.add("foreign_code", at, path, pinned=clone.pinned)
        following.script(session, name.replace(".", "/") + ".py", line.cwd, clone)
        web_ui(session, path, line.words[at + 1 :], outside=True, line=line.command.line)
        return
    key = world.key(name.replace(".", "/") + ".py", line.cwd)
    if key in world.texts:
        session.python_text(world.texts[key][0], cell=world.texts[key][1])


def _known_module(session: Session, top: str) -> bool:
    import sys

    from allmend.planning.effects.imports import _installed

    return top in sys.stdlib_module_names or _installed(session, top)


def bash(session: Session, line: Line) -> None:
    """`bash script.sh`, `bash -c text`, `curl .. | bash`."""
    words = line.words
    at = 1
    while at < len(words) and words[at].startswith("-") and words[at] != "-":
        if "c" in words[at][1:] and not words[at].startswith("--"):
            if at + 1 < len(words) and not from_substitution(session, line, words[at + 1]):
                session.shell_text(
                    line.raw[at + 1], first_line=line.command.line, cwd=line.cwd, positional=words[at + 3 :]
                )
            return
        at += 1
    if at >= len(words) or words[at] in ("-", "/dev/stdin"):
        flags(session, words[at + 1 :])
        text = _given(line)
        if text is not None:
            session.shell_text(text, first_line=line.command.line + 1, cwd=line.cwd)
        for exact, url in _fetched_before(session, line):
            session.add("foreign_code", url, literal=exact, detail={"pinned": False}, line=line.command.line)
        return
    if from_substitution(session, line, words[at]):
        return
    script(session, words[at], line.cwd, literal=line.exact(at), words=words[at + 1 :], at_line=line.command.line)
    flags(session, words[at + 1 :])


def from_substitution(session: Session, line: Line, word: str) -> bool:
    """Whether `word` is what a command prints (`$(curl URL)`, `<(curl URL)`); an address in it is code that runs."""
    if not has_hole(word) or "output of a command" not in session.holes.reason(word):
        return False
    for url in re.findall(r"https?://[^\s)\"'`|]+", session.holes.shown(word))[:4]:
        session.add("foreign_code", url, literal=True, detail={"pinned": False}, line=line.command.line)
    return True


def source(session: Session, line: Line) -> None:
    """`source script.sh`."""
    if len(line.words) > 1 and not from_substitution(session, line, line.words[1]):
        script(session, line.words[1], line.cwd, literal=line.exact(1), at_line=line.command.line, quiet=True)


def interpreter(session: Session, line: Line) -> None:
    """Another language's interpreter with a script."""
    places = line.positional(("-e", "-cp", "-classpath"))
    given = line.option("-jar")
    at = given[0] if given else places[0] if places else None
    if at is not None:
        script(
            session,
            line.words[at],
            line.cwd,
            literal=line.exact(at),
            words=line.words[at + 1 :],
            at_line=line.command.line,
        )
