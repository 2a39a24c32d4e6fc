"""What the evaluator and the shell meet on their way, and which families of effects hear of it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from allmend.planning import command_lines
from allmend.planning.effects import code, commands, credentials, directories, hardware, imports, library, magics
from allmend.planning.evaluation.values import MISSING, Place, Unknown, Value, derived

if TYPE_CHECKING:
    from allmend.planning.evaluation.calls import Call
    from allmend.planning.session import Session
    from allmend.planning.shell import Shell
    from allmend.planning.shell_words import Command


class Observer:
    """Told of everything that is not the evaluator's own to settle; asks the families in turn.

    Where an answer is asked for, MISSING is "nobody knows".
    """

    def __init__(self, session: Session) -> None:
        self.session = session

    def on_special(self, place: Place, number: int) -> Value:
        """A `!` line or a magic."""
        known = self.session.specials.get(id(place))
        if known is None or number >= len(known[1]):
            return None
        special = known[1][number]
        self.session.line = special.line
        if special.kind == "shell":
            self.session.shell_line(special.text, special.line)
            if special.captured:
                return Unknown("!" + special.text.strip()[:100], "it is the output of a command")
            return None
        return magics.line_magic(self.session, special)

    def on_call(self, call: Call) -> Value:
        """A call that is neither the notebook's own function nor pure."""
        self.session.line = self.session.python.line
        for asked in (code.on_call, command_lines.on_call):
            answer = asked(self.session, call)
            if answer is not MISSING:
                return answer
        answer = credentials.on_call(self.session, call)
        directories.on_call(self.session, call)
        hardware.on_call(self.session, call)
        library.on_call(self.session, call)
        return answer

    def on_command(self, command: Command, shell: Shell) -> None:
        """One simple shell command."""
        self.session.line = command.line
        commands.run(self.session, command, shell)

    def on_change_directory(self, path: str, line: int) -> None:
        """A shell went to `path`."""
        self.session.line = line
        directories.entered(self.session, path)

    def on_assign(self, name: str, value: Value, source: ast.expr) -> None:
        """A variable was assigned."""
        self.session.line = self.session.python.line
        credentials.on_assign(self.session, name, value, source)

    def on_set_attribute(self, path: str, value: Value, source: ast.expr) -> None:
        """`module.attribute = value`."""
        self.session.line = self.session.python.line
        credentials.on_set_attribute(self.session, path, value, source)

    def on_set_item(self, path: str, key: Value, value: Value, source: ast.expr, key_node: ast.expr) -> None:
        """`symbol[key] = value`."""
        self.session.line = self.session.python.line
        if path == "os.environ":
            credentials.set_environment(self.session, key, value, source, key_node)
        elif path == "sys.path" and isinstance(value, str):
            self.session.world.search.append(self.session.world.key(value))

    def on_get_item(self, path: str, key: Value, node: ast.Subscript) -> Value:
        """`symbol[key]`."""
        if path == "sys.argv" and isinstance(key, int) and 0 < key <= len(self.session.argv):
            return derived(self.session.argv[key - 1])
        if path == "os.environ":
            self.session.line = node.lineno
            return credentials.read_environment(self.session, key, node.slice)
        return MISSING

    def on_import(self, module: str) -> None:
        """A module is imported."""
        self.session.line = self.session.python.line
        imports.on_import(self.session, module)

    def on_shell_variable(self, name: str, value: str, line: int) -> None:
        """A shell variable is set."""
        self.session.line = line
        credentials.shell_variable(self.session, name, value)
