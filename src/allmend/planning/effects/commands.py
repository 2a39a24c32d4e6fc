"""One simple shell command: what stands before the program is taken off, then the program's family is asked."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allmend.planning.effects import (
    cloning,
    fetching,
    filing,
    hub_commands,
    installing,
    launchers,
    node_packages,
    programs,
    running,
    serving,
    system_packages,
)  # fmt: skip
from allmend.planning.effects.line import Line
from allmend.planning.evaluation.values import DERIVED, has_hole

if TYPE_CHECKING:
    from allmend.planning.session import Session
    from allmend.planning.shell import Shell
    from allmend.planning.shell_words import Command

_BEFORE: dict[str, frozenset[str]] = {
    "sudo": frozenset({"-u", "-g", "-p", "-C", "-h"}), "env": frozenset({"-u", "-C", "-S"}), "nohup": frozenset(),
    "time": frozenset({"-f", "-o"}), "exec": frozenset({"-a"}), "command": frozenset(), "nice": frozenset({"-n"}),
    "timeout": frozenset({"-s", "-k"}), "stdbuf": frozenset(), "xvfb-run": frozenset({"-s", "-n", "-e"}), "setsid": frozenset(),
    "ionice": frozenset({"-c", "-n"}), "builtin": frozenset(), "proxychains4": frozenset(), "unbuffer": frozenset(),
    "do": frozenset(), "then": frozenset(), "else": frozenset(), "%%capture": frozenset(), "proot": frozenset(),
}  # fmt: skip
_SILENT = frozenset(
    [
        "echo",
        "printf",
        "ls",
        "cat",
        "pwd",
        "head",
        "tail",
        "true",
        "false",
        "test",
        "[",
        "[[",
        "sleep",
        "which",
        "whereis",
        "whoami",
        "date",
        "df",
        "du",
        "free",
        "uname",
        "lscpu",
        "lspci",
        "nproc",
        "grep",
        "egrep",
        "awk",
        "sort",
        "uniq",
        "wc",
        "tr",
        "cut",
        "env",
        "printenv",
        "type",
        "read",
        "set",
        "unset",
        "shift",
        "return",
        "exit",
        "wait",
        "clear",
        "file",
        "stat",
        "tree",
        "basename",
        "dirname",
        "ps",
        "top",
        "htop",
        "id",
        "groups",
        "hostname",
        "history",
        "alias",
        "unalias",
        "ulimit",
        "lsb_release",
        "ffprobe",
        "identify",
        "column",
        "seq",
        "diff",
        "cmp",
        "md5sum",
        "sha256sum",
        "sha1sum",
        "xxd",
        "od",
        "strings",
        ":",
        "man",
        "help",
        "jq",
        "tac",
        "rev",
        "yes",
        "hash",
        "bc",
        "expr",
    ]
)
_QUIET_PROCESS = frozenset(
    {"cd", ":", "export", "set", "[", "test", "true", "exit", "source", ".", "read", "shift", "unset"}
)


def run(session: Session, command: Command, shell: Shell) -> None:
    """List the effects of one simple command."""
    if session.python.budget <= 0:
        return
    session.python.budget -= 3
    command = _strip(session, command)
    if not command.words:
        filing.redirections(session, Line(session, command, shell))
        return
    line = Line(session, command, shell)
    name = line.name
    for key, value in command.environment.items():
        session.line = command.line
        if key not in ("COMMANDLINE_ARGS",):
            session.observer.on_shell_variable(key, value, command.line)
    if command.from_python:
        _process(session, command, name)
    filing.redirections(session, line)
    if not name or has_hole(name):
        programs.program(session, line)
        return
    handler = _PROGRAMS.get(name) or next((found for shape, found in _SHAPES if shape.match(name)), None)
    if handler is not None:
        handler(session, line)
    elif name not in _SILENT:
        programs.program(session, line)
    filing.drive_words(session, line)


def _process(session: Session, command: Command, name: str) -> None:
    if not name or name in _QUIET_PROCESS:
        return
    if has_hole(name):
        session.add("process", command.words[0], literal=False, line=command.line)
        return
    literal = DERIVED not in command.words[0] and bool(command.literal[:1] and command.literal[0])
    session.add("process", name, literal=literal, line=command.line)


def _strip(session: Session, command: Command) -> Command:
    for _ in range(6):
        name = posixpath.basename(command.program.replace(DERIVED, ""))
        values = _BEFORE.get(name)
        if values is None:
            return command
        if name == "env" and len(command.words) == 1:
            return command
        at = 1
        while at < len(command.words):
            word = command.words[at].replace(DERIVED, "")
            if word in values:
                at += 2
            elif word.startswith("-"):
                at += 1
            elif re.match(r"[A-Za-z_]\w*=", word):
                key, _, value = word.partition("=")
                command.environment[key] = value
                at += 1
            elif name in ("timeout", "nice") and re.fullmatch(r"[\d.]+[smhd]?", word):
                at += 1
            else:
                break
        command = command.tail(at)
    return command


def _export(session: Session, line: Line) -> None:
    """`export` without an assignment does nothing; assignments are met in the shell itself."""
    for word in line.words[1:]:
        name, sign, value = word.partition("=")
        if sign and name.isidentifier():
            session.observer.on_shell_variable(name, value, line.command.line)


def _eval(session: Session, line: Line) -> None:
    text = " ".join(line.raw[1:])
    if text and not has_hole(text):
        session.shell_text(text, first_line=line.command.line, cwd=line.cwd)
    elif text and re.search(r"curl|wget", session.holes.shown(text)) and running.from_substitution(session, line, text):
        return
    elif text and not re.search(r"conda|shellenv|ssh-agent|hook", session.holes.shown(text)):
        session.add("dynamic_code", text, literal=False)


def _xargs(session: Session, line: Line) -> None:
    at = 1
    words = line.words
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at] in ("-n", "-I", "-P", "-L", "-d", "-a", "-s", "-i") and len(words[at]) == 2 else 1
    inner = line.command.tail(at)
    if inner.words:
        from allmend.planning.evaluation.values import Unknown

        before = line.command.before
        if inner.words[0] in ("rm",) or not before:
            pass
        mark = session.holes.mark(Unknown("xargs", "it is the output of a command"))
        inner.words = [w for w in inner.words if w not in ("{}", "%")] + [mark]
        inner.literal = (inner.literal + [False] * len(inner.words))[: len(inner.words)]
        run(session, inner, line.shell)


def _nothing(session: Session, line: Line) -> None:
    """No effect of its own."""


_PROGRAMS: dict[str, Callable[[Any, Any], None]] = {
    "uv": installing.uv, "uvx": installing.uvx, "pipx": installing.pipx, "easy_install": installing.easy,
    "conda": system_packages.conda, "mamba": system_packages.conda, "micromamba": system_packages.conda, "apt": system_packages.apt,
    "apt-get": system_packages.apt, "aptitude": system_packages.apt, "apt-fast": system_packages.apt, "npm": node_packages.npm,
    "yarn": node_packages.npm, "pnpm": node_packages.npm, "npx": node_packages.npx, "poetry": installing.poetry, "dpkg": system_packages.dpkg,
    "gdebi": system_packages.dpkg, "pip-sync": _nothing, "bun": node_packages.npm, "pixi": system_packages.conda,
    "git": cloning.git, "gh": cloning.gh, "svn": cloning.svn, "git-lfs": _nothing,
    "wget": fetching.wget, "curl": fetching.curl, "aria2c": fetching.aria2c, "gdown": fetching.gdown, "axel": fetching.axel,
    "gsutil": fetching.gsutil, "gcloud": fetching.gcloud, "aws": fetching.aws, "rclone": fetching.rclone,
    "kaggle": hub_commands.kaggle, "huggingface-cli": hub_commands.hub, "hf": hub_commands.hub, "wandb": hub_commands.wandb,
    "yt-dlp": fetching.video, "youtube-dl": fetching.video, "ollama": hub_commands.ollama, "roboflow": _nothing,
    "spacy": hub_commands.spacy, "scp": fetching.scp, "rsync": fetching.scp, "wget2": fetching.wget, "xget": fetching.axel,
    "modelscope": hub_commands.modelscope, "dvc": hub_commands.dvc, "tfds": hub_commands.tfds, "tune": hub_commands.tune, "mc": _nothing,
    "ipython": running.python, "bash": running.bash, "sh": running.bash, "zsh": running.bash,
    "source": running.source, ".": running.source, "accelerate": launchers.accelerate, "torchrun": launchers.launcher,
    "deepspeed": launchers.launcher, "horovodrun": launchers.launcher, "mpirun": launchers.launcher, "mpiexec": launchers.launcher,
    "make": programs.make, "cmake": programs.make, "ninja": programs.make, "meson": programs.make, "papermill": programs.papermill,
    "jupyter": programs.jupyter, "jupyter-nbconvert": _nothing, "perl": running.interpreter, "node": running.interpreter,
    "ruby": running.interpreter, "Rscript": running.interpreter, "julia": running.interpreter, "lua": running.interpreter,
    "java": running.interpreter, "nvidia-smi": programs.nvidia, "nvcc": programs.nvidia, "nvtop": programs.nvidia,
    "export": _export, "eval": _eval, "xargs": _xargs, "go": programs.golang, "cargo": programs.golang, "docker": programs.docker,
    "rm": filing.rm, "rmdir": _nothing, "cp": filing.cp, "mv": filing.mv, "mkdir": filing.mkdir, "touch": filing.mkdir,
    "ln": filing.ln, "tee": filing.tee, "sed": filing.sed, "tar": filing.tar, "unzip": filing.unzip, "7z": filing.seven,
    "7za": filing.seven, "7zz": filing.seven, "unrar": filing.unrar, "gunzip": filing.gunzip, "gzip": filing.gunzip,
    "find": filing.find, "install": filing.cp, "chmod": _nothing, "chown": _nothing, "kill": filing.kill, "pkill": filing.kill,
    "killall": filing.kill, "fuser": _nothing, "patch": filing.patch, "dd": filing.dd, "shred": filing.rm, "zip": filing.zipped,
    "unlink": _nothing, "truncate": _nothing, "cat": filing.cat, "ls": filing.cat, "head": filing.cat, "tail": filing.cat,
    "ngrok": serving.ngrok, "cloudflared": serving.cloudflared, "lt": serving.localtunnel, "localtunnel": serving.localtunnel,
    "ssh": serving.ssh, "autossh": serving.ssh, "streamlit": serving.streamlit, "gradio": serving.gradio,
    "tensorboard": serving.tensorboard_command, "vllm": serving.vllm, "uvicorn": serving.web, "flask": serving.web,
    "gunicorn": serving.web, "hypercorn": serving.web, "mlflow": serving.mlflow, "bore": serving.tunnel, "zrok": serving.tunnel,
    "frpc": serving.tunnel, "pinggy": serving.tunnel, "jupyter-lab": serving.notebook, "jupyter-notebook": serving.notebook,
    "code-server": serving.code_server, "ffmpeg": filing.converted, "convert": filing.converted, "sox": filing.converted, "tailscale": serving.tunnel, "localxpose": serving.tunnel, "loclx": serving.tunnel,
    "text-generation-launcher": serving.vllm, "lmdeploy": serving.vllm, "tmole": serving.tunnel, "playit": serving.tunnel,
    "chainlit": serving.streamlit, "panel": serving.streamlit, "voila": serving.notebook, "fiftyone": serving.fiftyone,
}  # fmt: skip
_SHAPES: tuple[tuple[re.Pattern[str], Callable[[Any, Any], None]], ...] = (
    (re.compile(r"^pip[\d.]*$"), installing.pip),
    (re.compile(r"^(?:python|pypy)[\d.]*w?$"), running.python),
    (re.compile(r"^cloudflared[\w.-]*$"), serving.cloudflared),
    (re.compile(r"^ngrok[\w.-]*$"), serving.ngrok),
)
