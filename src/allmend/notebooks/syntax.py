"""A code cell as IPython sees it: Python with calls standing for its shell lines, magics and help requests.

`!cmd`, `x = !cmd`, `%magic` and `cmd?` become `__special__(n)` at the same place and indentation, so that line
numbers and blocks stay as they were; `CellCode.specials[n]` holds what was written there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MARK = "__special__"


@dataclass(frozen=True, slots=True)
class Special:
    """One shell line or line magic."""

    kind: str
    """`shell` (with IPython's `{}` and `$` substitution) or `magic`."""
    name: str
    """The magic's name; empty for shell."""
    text: str
    """The shell command, or the magic's argument text; continuation lines included."""
    line: int
    """1-based line in the cell."""
    captured: bool = False
    """The output goes to a Python variable."""


@dataclass(slots=True)
class CellCode:
    """What a cell holds once its cell magics are taken off."""

    body: str
    """Python text (with `__special__` calls), or the text in the language of the cell magic."""
    language: str = "python"
    """`python`, `bash`, `file`, `none` (nothing runs) or another language's name."""
    magics: list[tuple[str, str, int]] = field(default_factory=list)
    """Cell magics from outermost to innermost: name, argument text, line."""
    specials: list[Special] = field(default_factory=list)
    first_line: int = 0
    """How many lines of the cell stand before `body` (when they were not kept as blank lines)."""


SHELL_MAGICS = frozenset({"bash", "sh", "shell", "!", "sx", "system", "zsh"})
SILENT_MAGICS = frozenset({"html", "HTML", "javascript", "js", "svg", "SVG", "latex", "markdown", "css", "mermaid"})
OTHER_LANGUAGES = {
    "R": "r", "ruby": "ruby", "perl": "perl", "julia": "julia", "cython": "cython", "sql": "sql", "bigquery": "sql",
    "cu": "cuda", "cuda": "cuda", "nvcc": "cuda", "cpp": "c++", "gcc": "c", "fortran": "fortran", "node": "javascript",
    "cmd": "batch", "powershell": "powershell", "script": "script", "sparksql": "sql", "octave": "octave",
}  # fmt: skip

_CELL_MAGIC = re.compile(r"^%%(?P<name>[!\w.]+)[ \t]*(?P<rest>[^\n]*)$")
_SKIPPABLE = re.compile(r"^\s*(#.*)?$")

_SHELL_LINE = re.compile(r"^(?P<indent>\s*)(?P<mark>!{1,2})(?!=)(?P<rest>.*)$", re.DOTALL)
_MAGIC_LINE = re.compile(r"^(?P<indent>\s*)%(?P<name>[A-Za-z_][\w.]*)(?:[ \t]+(?P<rest>.*)|[ \t]*)$", re.DOTALL)
_MAGIC_SHELL = re.compile(r"^(?P<indent>\s*)%(?P<rest>!.*)$", re.DOTALL)
_ASSIGN = re.compile(
    r"^(?P<indent>\s*)(?P<left>\(?\*?[A-Za-z_][\w.]*(?:\[[^\]\n]*\])*(?:\s*,\s*\*?[A-Za-z_][\w.]*(?:\[[^\]\n]*\])*)*\)?)\s*=\s*(?P<mark>!|%)(?P<rest>(?=[\w{$./(\"'\\~@ ]).*)$",
    re.DOTALL,
)
_HELP = re.compile(r"^(?P<indent>\s*)(?:\?{1,2}[%\w.*]+|%{0,2}[A-Za-z_][\w.*]*(?:\[[^\]]*\])?\?{1,2})\s*;?\s*(#.*)?$")
_AUTOMAGIC = re.compile(
    r"^(?P<indent>\s*)(?P<name>pip3?|conda|mamba|uv)(?P<rest>[ \t]+(?:install|uninstall|pip|add|update|remove|list|show"
    r"|freeze)\b(?![ \t]*[=(]).*)$"
    r"|^(?P<indent2>)(?P<name2>cd|ls|mkdir|cp|mv|rm|cat|rmdir|run|wget|git|apt|apt-get|curl|bash)"
    r"(?P<rest2>[ \t]+(?!in\b|is\b|and\b|or\b|not\b|if\b|for\b|as\b)[\w./~$-][^=(]*)$",
    re.DOTALL,
)
_INLINE_BLOCK = re.compile(
    r"^(?P<head>\s*(?:if|elif|else|for|while|with|try|except|finally)\b[^#]*?:)\s*(?P<rest>[!%]\w.*)$"
)

# Strings, comments and brackets: what decides whether a line begins a statement.
_LEX = re.compile(
    r"""(?P<triple>[rbfuRBFU]{0,2}(?:\"{3}|'{3}))|(?P<string>[rbfuRBFU]{0,2}(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))"""
    r"""|(?P<comment>\#.*)|(?P<open>[\[({])|(?P<close>[\])}])|(?P<continued>\\$)"""
)


def split(source: str) -> CellCode:
    """Take a code cell apart. Never raises; what is no Python at all is found by the reader of `body`."""
    code = _cell_magics(source)
    if code.language != "python":
        return code
    code.body = _transform(code.body, code.specials)
    return code


def _cell_magics(source: str) -> CellCode:
    """Strip cell magics from the top; each becomes a blank line, so that line numbers hold."""
    magics: list[tuple[str, str, int]] = []
    if "%%" not in source:
        return CellCode(source)
    lines = source.split("\n")
    at = 0
    while at < len(lines):
        line = lines[at]
        match = _CELL_MAGIC.match(line.strip())
        if not match:
            if _SKIPPABLE.match(line):
                at += 1
                continue
            break
        name, rest = match["name"], match["rest"].strip()
        magics.append((name, rest, at + 1))
        below = "\n".join(lines[at + 1 :])
        first = at + 1
        word = rest.split()[0].rsplit("/", 1)[-1] if rest else ""
        if name in SHELL_MAGICS or (name == "script" and word in ("bash", "sh", "zsh")):
            return CellCode(below, "bash", magics, first_line=first)
        if name in ("writefile", "file", "writetemplate", "writefilev"):
            return CellCode(below, "file", magics, first_line=first)
        if name in SILENT_MAGICS:
            return CellCode(below, "none", magics, first_line=first)
        if name == "script" and word.startswith("python"):
            name = "python"
        if name in OTHER_LANGUAGES:
            return CellCode(below, OTHER_LANGUAGES[name], magics, first_line=first)
        if name in ("time", "timeit", "prun") and rest and not rest.startswith("-"):
            # `%%timeit setup` runs its argument too.
            lines[at] = rest
            return CellCode("\n".join([""] * at + lines[at:]), "python", magics)
        lines[at] = ""
        at += 1
    return CellCode("\n".join(lines), "python", magics)


def _transform(source: str, specials: list[Special]) -> str:
    lines = source.split("\n")
    if not any(sign in source for sign in "!%?") and not _AUTOMAGIC_HINT.search(source):
        return source
    out: list[str] = []
    state = _State()
    at = 0
    while at < len(lines):
        line = lines[at]
        replaced: str | None = None
        used = 1
        if state.triple is None and not state.continued:
            replaced, used = _special_line(lines, at, state.depth, specials)
        if replaced is None:
            state.feed(line)
            out.append(line)
        else:
            state.depth = 0
            out.append(replaced)
            out.extend([""] * (used - 1))
        at += used
    return "\n".join(out)


_AUTOMAGIC_HINT = re.compile(
    r"^\s*(?:pip3?|conda|mamba|uv|cd|ls|mkdir|cp|mv|rm|cat|rmdir|run|wget|git|apt|apt-get|curl|bash)[ \t]", re.MULTILINE
)


class _State:
    """Where a reader of Python's tokens stands between two lines."""

    __slots__ = ("continued", "depth", "triple")

    def __init__(self) -> None:
        self.triple: str | None = None
        self.depth = 0
        self.continued = False

    def feed(self, line: str) -> None:
        """Read one line."""
        position = 0
        self.continued = False
        while True:
            if self.triple is not None:
                end = _closing(line, self.triple, position)
                if end < 0:
                    return
                position = end
                self.triple = None
            match = _LEX.search(line, position)
            if match is None:
                return
            position = match.end()
            kind = match.lastgroup
            if kind == "triple":
                self.triple = match[0][-3:]
            elif kind == "open":
                self.depth += 1
            elif kind == "close":
                self.depth = max(0, self.depth - 1)
            elif kind == "comment":
                return
            elif kind == "continued":
                self.continued = True


def _closing(line: str, quote: str, position: int) -> int:
    """Where the triple-quoted string that is open at `position` ends in `line`, or -1."""
    while True:
        end = line.find(quote, position)
        if end < 0:
            return -1
        slashes = 0
        while end - slashes - 1 >= position and line[end - slashes - 1] == "\\":
            slashes += 1
        if slashes % 2 == 0:
            return end + 3
        position = end + 1


def _special_line(lines: list[str], at: int, depth: int, specials: list[Special]) -> tuple[str | None, int]:
    """What line `at` becomes if it is not Python: (replacement, lines used); (None, 1) when it is Python."""
    line = lines[at]
    stripped = line.lstrip()
    first = stripped[:1]
    if first == "!":
        match = _SHELL_LINE.match(line)
        if match and (depth == 0 or re.match(r"!\s*[\w{$./(\"'~]", stripped)):
            text, used = _joined(lines, at, match["rest"])
            return _put(specials, match["indent"], Special("shell", "", text, at + 1)), used
        return None, 1
    if depth:
        return None, 1
    if first == "%":
        return _percent_line(lines, at, specials)
    if first == "?" or line.rstrip().endswith("?") or "?" in line:
        match = _HELP.match(line)
        if match:
            return match["indent"] + "pass", 1
    if "!" in line or "%" in line:
        match = _ASSIGN.match(line)
        if match:
            text, used = _joined(lines, at, match["rest"])
            if match["mark"] == "!":
                special = Special("shell", "", text, at + 1, captured=True)
            else:
                name, _, rest = text.strip().partition(" ")
                special = Special("magic", name, rest.strip(), at + 1, captured=True)
            return _put(specials, f"{match['indent']}{match['left']} = ", special), used
        match = _INLINE_BLOCK.match(line)
        if match:
            rest = match["rest"]
            text, used = _joined(lines, at, rest[1:])
            if rest[0] == "!":
                return _put(specials, match["head"] + " ", Special("shell", "", text, at + 1)), used
            name, _, tail = text.partition(" ")
            return _put(specials, match["head"] + " ", Special("magic", name, tail.strip(), at + 1)), used
    match = _AUTOMAGIC.match(line) if _AUTOMAGIC_HINT.match(line) else None
    if match:
        indent, name = match["indent"] or "", match["name"] or match["name2"]
        rest = match["rest"] or match["rest2"] or ""
        text, used = _joined(lines, at, name + rest)
        if name in ("cd", "run"):
            return _put(specials, indent, Special("magic", name, text[len(name) :].strip(), at + 1)), used
        return _put(specials, indent, Special("shell", "", text, at + 1)), used
    return None, 1


def _percent_line(lines: list[str], at: int, specials: list[Special]) -> tuple[str | None, int]:
    line = lines[at]
    match = _MAGIC_SHELL.match(line)
    if match:
        text, used = _joined(lines, at, match["rest"][1:])
        return _put(specials, match["indent"], Special("shell", "", text, at + 1)), used
    if line.lstrip().startswith("%%"):
        # A cell magic below the first line does not run as one; IPython reports an error. Read as a comment.
        name = line.strip()[2:].split(" ")[0]
        return _put(specials, line[: len(line) - len(line.lstrip())], Special("magic", "%" + name, "", at + 1)), 1
    match = _MAGIC_LINE.match(re.sub(r"^(\s*)%\s+(?=[A-Za-z_])", r"\1%", line))
    if not match:
        return None, 1
    text, used = _joined(lines, at, match["rest"] or "")
    if match["name"] in ("time", "timeit", "prun", "memit", "debug") and text.strip():
        statement = re.sub(r"^(?:-\w+\s*\d*\s+)+", "", text.strip())
        if statement.startswith("!"):
            return _put(specials, match["indent"], Special("shell", "", statement[1:], at + 1)), used
        if used == 1:
            nested, _ = _special_line([match["indent"] + statement], 0, 0, specials)
            if nested is not None:
                return nested, 1
            return match["indent"] + statement, 1
    return _put(specials, match["indent"], Special("magic", match["name"], text, at + 1)), used


def _joined(lines: list[str], at: int, rest: str) -> tuple[str, int]:
    """`rest` with its continuation lines (a trailing backslash), and how many lines that took."""
    used = 1
    parts = [rest]
    while parts[-1].rstrip().endswith("\\") and at + used < len(lines):
        parts[-1] = parts[-1].rstrip()
        parts.append(lines[at + used])
        used += 1
    return "\n".join(parts), used


def _put(specials: list[Special], before: str, special: Special) -> str:
    specials.append(special)
    return f"{before}{MARK}({len(specials) - 1})"
