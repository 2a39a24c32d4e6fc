"""What a notebook's code names: modules it imports, and files that lie beside it. Read as text, never run.

Both are hints for a person (which packages to start with, which files to grant); nothing is permitted by them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from allmend.box.document import Document

_IMPORT = re.compile(r"^\s*(?:import\s+([\w.]+(?:\s*,\s*[\w.]+)*)|from\s+(\w[\w.]*)\s+import\b)", re.MULTILINE)
_QUOTED = re.compile(r"""(["'])((?:(?!\1)[^\\\n]){1,200})\1""")
_SAVES = re.compile(r"(?:\bto_\w+|\bsave\w*|\bdump|\bmakedirs|\bmkdir|%%writefile|\bwrite\w*)\s*\(?[^()\n]*$")
_FOR_WRITING = re.compile(r"\s*,\s*(?:mode\s*=\s*)?[\"'][wax]")
_MOST_SOURCE = 1_000_000
_MOST_FILES = 20


def imports(document: Document) -> set[str]:
    """Top-level modules that its cells import; those within `try` are left out, the notebook can do without."""
    found: set[str] = set()
    for source in _sources(document):
        try:
            found |= _imports_of(ast.parse(source))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            for plain, from_ in _IMPORT.findall(source):
                found |= {name.strip().partition(".")[0] for name in (plain or from_).split(",")}
    return {name for name in found if name.isidentifier()}


def _imports_of(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.partition(".")[0])
        elif not isinstance(node, ast.Try):
            pending += ast.iter_child_nodes(node)
    return found


def files(document: Document) -> list[str]:
    """Relative paths that the code writes down and that lie beside the notebook; hidden ones are not offered."""
    folder = document.path.absolute().parent
    named: dict[str, None] = {}
    for source in _sources(document):
        for match in _QUOTED.finditer(source):
            if not _is_written(source, match):
                named[match[2]] = None
        for name in _IMPORT.findall(source):
            named[f"{(name[0] or name[1]).partition('.')[0].partition(',')[0]}.py"] = None
    found = [name for name in named if lies_beside(name, folder, document.path.name)]
    # Outputs of an earlier run are not its inputs.
    return [name for name in found if name.partition("/")[0] != "outputs"][:_MOST_FILES]


def _is_written(source: str, match: re.Match[str]) -> bool:
    """Whether a quoted name stands where a file is written: shown read-only, it would be in the way."""
    before, after = source[max(0, match.start() - 40) : match.start()], source[match.end() : match.end() + 20]
    return _SAVES.search(before) is not None or _FOR_WRITING.match(after) is not None


def lies_beside(name: str, folder: Path, notebook: str) -> bool:
    """Whether `name` is a plain relative path of something in the notebook's own folder."""
    path = PurePosixPath(name)
    if not name.isprintable() or path.is_absolute() or not path.parts or name == notebook:
        return False
    if any(part.startswith((".", "~")) or part == ".." for part in path.parts):
        return False
    try:
        place = (folder / path).resolve(strict=True)
    except (OSError, ValueError):
        return False
    return place.is_relative_to(folder.resolve()) and place != folder.resolve() and (place.is_file() or place.is_dir())


def missing_file(error: str, folder: Path, notebook: str) -> str | None:
    """The file beside the notebook that a cell's error says it did not find; the error's text is hostile."""
    if not error.startswith(("FileNotFoundError", "ModuleNotFoundError", "OSError", "ParserError")):
        return None
    for _, text in _QUOTED.findall(error[:2000]):
        name = f"{text}.py" if error.startswith("ModuleNotFoundError") else text.removeprefix("/content/")
        if lies_beside(name, folder, notebook):
            return name
    return None


def _sources(document: Document) -> Iterator[str]:
    left = _MOST_SOURCE
    for cell in document.content["cells"]:
        if cell["cell_type"] == "code" and left > 0:
            # Lines that are no Python would keep the rest of their cell from being read.
            lines = (re.sub(r"^(\s*)[!%?].*", r"\1pass", line) for line in cell["source"][:left].split("\n"))
            left -= len(cell["source"])
            yield "\n".join(lines)
