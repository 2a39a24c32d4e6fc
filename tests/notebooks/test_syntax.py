"""Cells as IPython sees them."""

from __future__ import annotations

import ast

import pytest

from allmend.notebooks import split


def specials(source: str) -> list[tuple[str, str, str, int]]:
    code = split(source)
    ast.parse(code.body)
    return [(s.kind, s.name, s.text, s.line) for s in code.specials]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("!ls -l", [("shell", "", "ls -l", 1)]),
        ("x = 1\n  \n!a \\\n  b", [("shell", "", "a \\\n  b", 3)]),
        ("files = !ls", [("shell", "", "ls", 1)]),
        ("if a:\n    !x\nelse:\n    %cd y", [("shell", "", "x", 2), ("magic", "cd", "y", 4)]),
        ("%timeit !slow", [("shell", "", "slow", 1)]),
        ("%%time\n!b", [("shell", "", "b", 2)]),
        ("pip install a", [("shell", "", "pip install a", 1)]),
        ("text = '''\n!not a command\n'''", []),
        ("a = [\n  1,\n  !2\n] if 0 else 1".replace("!2", "2"), []),
        ("b = 5 % 3\nc = a != b", []),
        ("len?\n?len\nx??", []),
    ],
)
def test_shell_lines_and_magics(source: str, found: list[tuple[str, str, str, int]]) -> None:
    assert specials(source) == found


@pytest.mark.parametrize(
    ("source", "language"),
    [("%%bash\nls", "bash"), ("# note\n%%bash\nls", "bash"), ("%%writefile a.py\nx", "file"), ("%%javascript\nx", "none"),
     ("%%capture out\nx = 1", "python"), ("%%R\nx", "r"), ("%%script bash\nls", "bash"), ("%%html\n<b>", "none")],
)  # fmt: skip
def test_cell_magics(source: str, language: str) -> None:
    assert split(source).language == language
