"""One plan in the making: the values, the machine and the record, and the reading of its cells."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from allmend.notebooks.syntax import CellCode, Special, split
from allmend.nouns.notebook import Cell, Notebook
from allmend.nouns.plan import EffectKind, Unread
from allmend.planning import tables
from allmend.planning.effects import code, credentials, directories, hardware, library, magics
from allmend.planning.evaluation.functions import read_uncalled
from allmend.planning.evaluation.holes import Holes
from allmend.planning.evaluation.python import Python
from allmend.planning.evaluation.salvage import parse
from allmend.planning.evaluation.scope import Journal
from allmend.planning.evaluation.values import Place, Symbol, Value, has_hole, options
from allmend.planning.observer import Observer
from allmend.planning.record import Record
from allmend.planning.shell import Shell
from allmend.planning.world import Clone, World

Reader = Callable[[str, str, "Clone | None", World], str | None]
"""Path, working directory, the clone it lies in, the notebook's machine -> the script's text, or None."""
CELL_BUDGET = 50_000
"""Nodes visited for one cell."""
NOTEBOOK_BUDGET = 200_000
"""Nodes visited for all cells; when they are spent, each further cell still gets a tenth of its own."""


class Session:
    """Reads the cells of one subject in order and collects their effects."""

    def __init__(self, notebook: Notebook | None = None, *, reader: Reader | None = None) -> None:
        self.notebook = notebook or Notebook()
        self.holes = Holes()
        self.journal = Journal()
        self.record = Record(self.holes)
        self.world = World()
        self.tables = tables.load()
        self.observer = Observer(self)
        self.python = Python(self)
        self.reader = reader
        """Gives the text of a foreign script where it is at hand (beside the notebook, or fetched when asked to)."""
        self.followed: set[str] = set()
        self.unreads: list[Unread] = []
        self.specials: dict[int, tuple[Place, list[Special]]] = {}
        self.credentials: set[str] = set()
        """Credentials met so far, to tell entering from later use."""
        self.removals: list[tuple[str, str, Place, int, bool]] = []
        """Recursive deletes: key, target, place, line, literal; judged when all that was made is known."""
        self.modules: set[str] = set()
        self.installed: set[str] = set()
        self.facts: dict[str, Any] = {}
        self.argv: list[str] = []
        """The words after the script that is being followed."""
        self.line = 1
        self.running: set[str] = set()
        self.remaining = NOTEBOOK_BUDGET

    @property
    def start(self) -> str:
        """Where the notebook starts: Colab's folder when it shows that it was written for Colab, else nowhere known."""
        if "start" not in self.facts:
            colab = "colab" in self.notebook.metadata or any(
                "/content/" in cell.source or "google.colab" in cell.source for cell in self.notebook.cells[:60]
            )
            self.facts["start"] = "/content" if colab else "."
        return str(self.facts["start"])

    # -- recording ----------------------------------------------------------------------------------------------------

    def add(
        self,
        kind: EffectKind,
        value: Value,
        *,
        node: ast.AST | None = None,
        literal: bool | None = None,
        prefix: str = "",
        detail: dict[str, Any] | None = None,
        line: int | None = None,
    ) -> list[dict[str, Any]]:
        """Add an effect for each alternative of `value`; the rows that were made or met."""
        from allmend.planning.evaluation.calls import segment

        rows = []
        source = segment(self.python.place, node) if node is not None else ""
        exact = literal if literal is not None else isinstance(node, ast.Constant)
        holed = False
        for _, option in options(value):
            if not isinstance(option, str | int | float) or (isinstance(option, str) and has_hole(option)):
                if holed:
                    continue
                holed = True
            reason = None
            if isinstance(option, str):
                text = option
                if has_hole(text) and source:
                    reason, text = self.holes.reason(text), source
            elif isinstance(option, int | float):
                text = str(option)
            elif isinstance(option, Symbol):
                text, reason = source or option.path, f"{option.path} comes from a library"
            else:
                reason = getattr(option, "reason", None) or "it is made while the notebook runs"
                text = source or getattr(option, "source", "") or "?"
            row = self.record.add(
                kind, text, place=self.python.place, line=line if line is not None else self.line, literal=exact,
                prefix=prefix, reason=reason, detail=detail,
            )  # fmt: skip
            if row is not None:
                rows.append(row)
                if kind == "credential":
                    self.credentials.add(row["target"])
        return rows

    def unread(self, reason: str, cell: int | None = None) -> None:
        """Note something that was not read."""
        found = Unread(cell=self.python.place.cell if cell is None else cell, reason=reason)
        if found not in self.unreads[-200:] and len(self.unreads) < 10_000:
            self.unreads.append(found)

    # -- reading cells ------------------------------------------------------------------------------------------------

    def read(self) -> None:
        """Read every cell of the notebook."""
        hardware.from_metadata(self, self.notebook)
        for index, cell in enumerate(self.notebook.cells):
            if cell.problem:
                self.unread(cell.problem, index)
            if cell.type == "code":
                self.read_cell(index, cell)
        self.finish()

    def read_cell(self, index: int, cell: Cell) -> None:
        """Read one code cell."""
        source = cell.source
        hardware.hidden(self, index, cell)
        if not source.strip():
            return
        if len(source) > 2_000_000:
            cut = source.rfind("\n", 0, 2_000_000)
            source = source[: cut if cut > 0 else 2_000_000]
            self.unread("the cell is longer than 2,000,000 characters; the rest of it was not read", index)
        language = cell.language if cell.language and cell.language != "python" else self.notebook.language
        place = Place(index, 0, tuple(source.split("\n")))
        given = max(CELL_BUDGET // 10, min(CELL_BUDGET, self.remaining))
        self.python.place, self.python.budget = place, given
        self.line = 1
        credentials.literals(self, source)
        if language not in ("python", "bash"):
            self._foreign_language(place, source, language)
            return
        if language == "bash":
            self.shell_text(source, first_line=1, keep=True)
            return
        self.run_code(split(source), place, source)
        self.remaining -= given - max(self.python.budget, 0)
        if self.python.budget <= 0:
            self.unread("the cell holds more work than is followed; the rest of it was not read", index)

    def _foreign_language(self, place: Place, source: str, language: str) -> None:
        code = split(source)
        if code.language == "bash":
            self.run_code(code, place, source)
            return
        for special in code.specials:
            if special.kind == "shell":
                self.line = special.line
                self.shell_line(special.text, special.line)
        self.unread(f"the cell is in {language}, which is not read", place.cell)

    def run_code(self, code: CellCode, place: Place, source: str) -> None:
        """Follow a cell that was taken apart."""
        if code.magics and magics.cell_magic(self, code, place):
            return
        if code.language != "python":
            self.unread(f"the cell is in {code.language}, which is not read", place.cell)
            return
        self.specials[id(place)] = (place, code.specials)
        self.python.place = place
        body, problems = parse(code.body)
        for problem in problems:
            self.unread(problem, place.cell)
        self.python.run(body)

    def python_text(self, text: str, *, above: int = 0, cell: int | None = None, separate: bool = True) -> None:
        """Follow Python text that a cell writes, pipes or passes on (a heredoc, `python -c`, a written script)."""
        if len(self.running) > 8 or text in self.running:
            return
        saved = (self.python.place, self.python.line, self.line, self.python.globals, self.python.scope)
        place = Place(saved[0].cell if cell is None else cell, above, tuple(text.split("\n")))
        self.running.add(text)
        try:
            if separate:
                from allmend.planning.evaluation.scope import Scope

                self.python.globals = self.python.scope = Scope()
            code = split(text)
            self.specials[id(place)] = (place, code.specials)
            self.python.place = place
            body, problems = parse(code.body)
            for problem in problems:
                self.unread(f"in code that the cell writes: {problem}", place.cell)
            self.python.run(body)
        finally:
            self.running.discard(text)
            self.python.place, self.python.line, self.line, self.python.globals, self.python.scope = saved

    def shell_line(self, text: str, line: int) -> None:
        """Follow a `!` line: IPython's substitution first, then the shell."""
        from allmend.planning.substitution import substitute

        for filled in substitute(self.python, text):
            # Text that was put in has lines of its own; what stands in the cell is the line that runs it.
            self.shell_text(filled, first_line=line, one_line=filled.count("\n") != text.count("\n"))

    def shell_text(
        self, text: str, *, first_line: int, keep: bool = False, from_python: bool = False, source: str | None = None,
        cwd: str | None = None, positional: list[str] | None = None, one_line: bool = False,
    ) -> None:  # fmt: skip
        """Follow shell text in a shell of its own; with `keep` its last directory is kept (bash kernels)."""
        if len(self.running) > 12 or ("sh " + text) in self.running:
            return
        self.running.add("sh " + text)
        try:
            shell = Shell(
                self, cwd=self.world.cwd if cwd is None else cwd, from_python=from_python, first_line=first_line
            )
            shell.node_source = source
            shell.positional = positional or []
            shell.one_line = one_line
            line = self.line
            shell.run(text)
            self.line = line
        finally:
            self.running.discard("sh " + text)
        if keep:
            self.journal.set(self.world.state, "<cwd>", shell.cwd)

    def finish(self) -> None:
        """Read what nothing called, then judge what needed the whole notebook."""
        self.python.budget = CELL_BUDGET
        self.python.scope = self.python.globals
        read_uncalled(self.python)
        if self.python.budget <= 0:
            self.unread("functions that nothing calls hold more work than is followed", -1)
        directories.judge_removals(self)
        code.finish(self)
        library.finish(self)

    # -- what is known beside the cells -------------------------------------------------------------------------------

    def shell_value(self, name: str) -> Value:
        """An environment variable that the notebook set, or None."""
        return self.world.environment.get(name)

    def star(self, modules: list[str], name: str) -> str | None:
        """Which of the star-imported `modules` gives `name`, when a table knows."""
        for module in modules:
            if self.tables.has(f"{module}.{name}"):
                return f"{module}.{name}"
        if name in self.tables.sets.get("fastai_names", ()):
            return next((f"{m}.{name}" for m in modules if m.startswith("fastai")), None)
        return None

    def symbol(self, path: str) -> Value:
        """A symbol, or its value where it is a well-known constant."""
        known = self.tables.maps.get("constants", {}).get(path)
        return known if known is not None else Symbol(path)
