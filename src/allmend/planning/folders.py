"""Folders: a folder of notebooks, and a repository as a person would start it from its README."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from allmend.errors import AllmendError, InputError
from allmend.notebooks.document import read, read_bytes
from allmend.nouns.plan import Plan, Unread
from allmend.planning.assemble import merge, plan_notebook
from allmend.planning.beside import beside

MOST_FILES = 400
"""Notebooks of one folder that are read."""
_SKIPPED = frozenset(
    {".git", ".ipynb_checkpoints", "node_modules", "__pycache__", ".venv", "venv", "site-packages", ".tox"}
)
_ENTRIES = ("setup.py", "launch.py", "webui.py", "app.py", "main.py", "server.py", "run.py", "gradio_app.py", "demo.py", "train.py",
            "inference.py", "install.py", "install.sh", "setup.sh", "webui.sh", "start.sh", "run.sh", "predict.py", "cli.py")  # fmt: skip
_BLOCK = re.compile(r"^[ \t]*```[ \t]*(?P<name>[\w+-]*)[^\n]*\n(?P<body>.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
_SHELLS = frozenset({"bash", "sh", "shell", "console", "zsh", "terminal", ""})
_COMMAND = re.compile(
    r"^\s*\$?\s*(?:pip3?|uv|conda|mamba|git|python3?|bash|sh|wget|curl|apt|apt-get|sudo|npm|docker|cd|make|\./)\b"
)


def plan_folder(folder: Path) -> Plan:
    """The plan of a folder; raises `InputError` when nothing in it can be planned."""
    notebooks, more = _notebooks(folder)
    parts: list[tuple[str, Plan]] = []
    unread: list[Unread] = []
    for name, piece in _repository(folder):
        parts.append((name, piece))
    for path in notebooks:
        name = path.relative_to(folder).as_posix()
        try:
            parts.append((name, plan_notebook(read(path), path=name, reader=beside(path.parent))))
        except AllmendError as error:
            unread.append(Unread(cell=-1, reason=f"{name}: {error.message}"))
    if more:
        unread.append(Unread(cell=-1, reason=f"{more} more notebooks were not read"))
    if not parts and not unread:
        raise InputError(
            "there is no notebook, README, requirements file or entry script in this folder", where=str(folder)
        )
    return merge(parts, path=str(folder), unread=unread)


def _notebooks(folder: Path) -> tuple[list[Path], int]:
    found: list[Path] = []
    for root, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED and not name.startswith("."))
        found.extend(Path(root) / name for name in sorted(files) if name.endswith(".ipynb"))
        if len(found) > 5 * MOST_FILES:
            break
    return found[:MOST_FILES], max(0, len(found) - MOST_FILES)


def _repository(folder: Path) -> Iterator[tuple[str, Plan]]:
    """README commands, requirement files, entry scripts."""
    readme = next(
        (p for p in sorted(folder.iterdir()) if p.name.lower() in ("readme.md", "readme.rst", "readme.txt", "readme")),
        None,
    )
    if readme is not None:
        commands = readme_commands(_text(readme))
        if commands:
            data = ("%%bash\n" + commands).encode()
            yield (
                readme.name,
                plan_notebook(
                    read_bytes(data, name="README.py"), path=readme.name, kind="script", reader=beside(folder)
                ),
            )
    for path in sorted(folder.glob("requirements*.txt"))[:10]:
        wanted = _requirements(_text(path))
        if wanted:
            data = f"%%bash\n{wanted}".encode()
            yield path.name, plan_notebook(read_bytes(data, name="requirements.py"), path=path.name, kind="script")
    for name in _ENTRIES:
        path = folder / name
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 2_000_000:
            yield name, plan_notebook(read(path), path=name, kind="script")


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(2_000_000).decode("utf-8", "replace")


def readme_commands(text: str) -> str:
    """The shell commands of a README's code blocks, in order."""
    lines: list[str] = []
    for match in _BLOCK.finditer(text):
        if match["name"].lower() not in _SHELLS:
            continue
        body = [re.sub(r"^\s*(?:\$|>|%)\s+", "", line) for line in match["body"].split("\n")]
        if match["name"] or any(_COMMAND.match(line) for line in body):
            lines.extend(line for line in body if not line.strip().startswith("#"))
    return "\n".join(lines)[:400_000]


def _requirements(text: str) -> str:
    lines = [re.sub(r"\s+#.*$", "", line).strip() for line in text.splitlines()]
    return "\n".join(f"pip install {_quoted(line)}" for line in lines if line and not line.startswith("#"))


def _quoted(line: str) -> str:
    return line if line.startswith("-") else "'" + line.replace("'", "") + "'"
