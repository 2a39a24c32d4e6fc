"""Code as data: programs started from Python, text that is executed, files that are written and later run."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from allmend.planning.evaluation.calls import segment
from allmend.planning.evaluation.values import DERIVED, MISSING, Made, Unknown, Value, has_hole, options, strings

if TYPE_CHECKING:
    from allmend.planning.evaluation.calls import Call
    from allmend.planning.session import Session

_SHELL = frozenset({
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "commands.getoutput",
    "commands.getstatusoutput", "asyncio.create_subprocess_shell", "IPython.utils.process.system", "pexpect.run",
    "builtins.get_ipython().system", "builtins.get_ipython().getoutput", "IPython.get_ipython().system",
    "IPython.get_ipython().getoutput", "builtins.get_ipython().system_raw", "IPython.get_ipython().system_raw",
    "IPython.core.getipython.get_ipython().system", "builtins.get_ipython().system_piped", "os.popen2", "os.popen3",
    "google.colab._system_commands._shell_line_magic", "google.colab._system_commands._run_command",
    "IPython.utils.process.getoutput", "invoke.run", "fabric.*.run",
})  # fmt: skip
_PROGRAMS = frozenset({
    "subprocess.run", "subprocess.call", "subprocess.check_call", "subprocess.check_output", "subprocess.Popen",
    "asyncio.create_subprocess_exec", "pexpect.spawn", "os.execv", "os.execvp", "os.execl", "os.execlp", "os.spawnv",
    "os.spawnl", "os.spawnlp", "pty.spawn", "os.startfile", "plumbum.local", "os.posix_spawn",
})  # fmt: skip
_RUN = frozenset(
    {"builtins.exec", "builtins.eval", "builtins.execfile", "runpy.run_path", "runpy.run_module", "builtins.compile"}
)
_CELL = re.compile(r"get_ipython\(\)\.(run_cell|ex|safe_execfile|safe_execfile_ipy)$|run_cell$|run_cell_async$")
_MAGIC = re.compile(r"get_ipython\(\)\.(magic|run_line_magic|run_cell_magic)$")
_OPEN = frozenset({"builtins.open", "io.open", "codecs.open"})
_DECODERS = ("base64.", "codecs.decode", "binascii.", "zlib.decompress", "marshal.", "bytes.fromhex", "gzip.decompress")


def on_call(session: Session, call: Call) -> Value:
    """Answer calls that start programs or run text; MISSING for all others."""
    path = call.path
    if path in _SHELL:
        return _shell(session, call)
    if path in _PROGRAMS:
        return _program(session, call)
    if path in _RUN:
        return _execute(session, call)
    if "get_ipython()" in path or "run_cell" in path:
        if _MAGIC.search(path):
            return _magic(session, call)
        if _CELL.search(path):
            return _execute(session, call)
    if path in _OPEN:
        _opened(session, call)
        return MISSING
    if path in ("pip.main", "pip._internal.main", "pip._internal.cli.main.main", "pip._internal.main.main"):
        return _pip(session, call)
    if path.endswith((".write", ".writelines", ".write_text", ".write_bytes")):
        _write(session, call)
    return MISSING


def _source(session: Session, node: ast.AST | None) -> str:
    return segment(session.python.place, node) if node is not None else ""


def _result(session: Session, call: Call) -> Made:
    return Made(call.path + "()", call.args, call.keywords, call.receiver, {}, _source(session, call.node),
                "it is the output of a command")  # fmt: skip


def _shell(session: Session, call: Call) -> Value:
    value, node = call.get(0, "cmd", "command", "command_line")
    line = call.node.lineno
    for _, option in options(value):
        if isinstance(option, str):
            text = option if isinstance(node, ast.Constant) else _mark(option)
            session.shell_text(text, first_line=_first_line(node, call), from_python=True, one_line=_elsewhere(node))
        elif option is not MISSING:
            session.line = line
            session.add("process", option, node=node)
    return _result(session, call)


def _first_line(node: ast.AST | None, call: Call) -> int:
    return getattr(node, "lineno", call.node.lineno)


def _elsewhere(node: ast.AST | None) -> bool:
    """Whether a text was written elsewhere than where it is run."""
    return not isinstance(node, ast.Constant | ast.JoinedStr)


def _mark(text: str) -> str:
    return re.sub(r"(?<!\S)(?=\S)", DERIVED, text) if len(text) < 50_000 else text


def _program(session: Session, call: Call) -> Value:
    value, node = call.get(0, "args", "command", "program")
    if call.path.startswith(("os.exec", "os.spawn", "os.posix")) and len(call.args) > 1:
        value, node = call.args[-1] if isinstance(call.args[-1], list) else list(call.args[1:]), None
    elif call.path.endswith("create_subprocess_exec"):
        value, node = list(call.args), None
    cwd_value, _ = call.get("cwd")
    cwd = session.world.resolve(cwd_value).replace(DERIVED, "") if isinstance(cwd_value, str) else None
    shell_value, _ = call.get("shell")
    given, _ = call.get("input")
    for _, option in options(value):
        if isinstance(option, str):
            text = option if isinstance(node, ast.Constant) else _mark(option)
            session.shell_text(
                text, first_line=_first_line(node, call), from_python=True, cwd=cwd, one_line=_elsewhere(node)
            )
        elif isinstance(option, list | tuple) and option:
            if shell_value is True:
                session.shell_text(
                    session.holes.text(option[0]), first_line=call.node.lineno, from_python=True, cwd=cwd
                )
            else:
                _words(session, call, list(option), node, cwd, given if isinstance(given, str) else None)
        elif option is not MISSING:
            session.line = call.node.lineno
            session.add("process", option, node=node)
    return _result(session, call)


def _words(
    session: Session,
    call: Call,
    values: list[Value],
    node: ast.AST | None,
    cwd: str | None,
    stdin: str | None,
    started: bool = True,
) -> None:
    """A program's words as a list; `started` is false where no process of its own begins."""
    from allmend.planning.shell import Shell
    from allmend.planning.shell_words import Command

    elements = node.elts if isinstance(node, ast.List | ast.Tuple) and len(node.elts) == len(values) else None
    words, literal = [], []
    for place, value in enumerate(values):
        element = elements[place] if elements else None
        settled = session.python.settle(value, element or call.node)
        words.append(session.holes.text(settled, _source(session, element)))
        literal.append(isinstance(element, ast.Constant))
    shell = Shell(
        session, cwd=session.world.cwd if cwd is None else cwd, from_python=started, first_line=call.node.lineno
    )
    command = Command(words, literal, call.node.lineno, shell.cwd, stdin=stdin, from_python=started)
    session.observer.on_command(command, shell)


def _pip(session: Session, call: Call) -> Value:
    value = call.args[0] if call.args else []
    if isinstance(value, list):
        _words(session, call, ["pip", *value], None, None, None, started=False)
    return _result(session, call)


def _execute(session: Session, call: Call) -> Value:
    value, node = call.get(0, "source", "object", "raw_cell", "path_name", "mod_name", "fname")
    last = call.path.rpartition(".")[2]
    if value is MISSING:
        return None
    if isinstance(node, ast.Call) and _compiled(node):
        return _result(session, call)
    if last in ("execfile", "run_path", "safe_execfile", "safe_execfile_ipy"):
        from allmend.planning.effects import scripts

        if isinstance(value, str):
            scripts.script(session, value, session.world.cwd, literal=isinstance(node, ast.Constant))
        return _result(session, call)
    if last == "run_module":
        return _result(session, call)
    origin = fetched_from(session, value)
    for url in origin:
        session.add("foreign_code", url, literal=False, detail={"pinned": False})
    if isinstance(node, ast.Constant):
        if isinstance(value, str):
            session.python_text(value, separate=False)
        return _result(session, call)
    session.line = call.node.lineno
    source = _source(session, node)
    known = isinstance(value, str) and not has_hole(value)
    reason = None if known else getattr(value, "reason", None) or "the text is made while the notebook runs"
    session.record.add("dynamic_code", source or "?", place=session.python.place, line=session.line, reason=reason,
                       detail=_how(session, value))  # fmt: skip
    if isinstance(value, str) and known and last != "compile":
        session.python_text(value.replace(DERIVED, ""), separate=False)
    return _result(session, call)


def _compiled(node: ast.Call) -> bool:
    """`exec(compile(..))` was listed at `compile`."""
    return isinstance(node.func, ast.Name) and node.func.id == "compile"


def _how(session: Session, value: Value, depth: int = 6) -> dict[str, str]:
    decoded = session.facts.get("decoded", ())
    if isinstance(value, str) and any(text and text in value for text in decoded):
        return {"encoded": "yes"}
    while isinstance(value, Made) and depth:
        if value.path.startswith(_DECODERS) or ".b64decode" in value.path:
            return {"encoded": "yes"}
        value = value.receiver if value.receiver is not None else (value.args[0] if value.args else None)
        depth -= 1
    return {}


def fetched_from(session: Session, value: Value, depth: int = 8) -> list[str]:
    """The URLs that a value was fetched from: `requests.get(u).text`, `urlopen(u).read()`, `open(fetched).read()`."""
    found: list[str] = []
    pending: list[Value] = [value]
    while pending and depth > 0 and len(found) < 8:
        depth -= 1
        item = pending.pop()
        for _, option in options(item):
            if isinstance(option, Made):
                path = option.path
                if path.startswith(("requests.", "urllib", "httpx.", "urllib2.", "urllib3.")) and option.args:
                    texts = [t for t in option.args[:2] if isinstance(t, str) and "://" in t]
                    found.extend(t.replace(DERIVED, "") for t in texts if not has_hole(t))
                if path == "builtins.open()" and option.args and isinstance(option.args[0], str):
                    origin = session.world.source_of(option.args[0])
                    if origin:
                        found.append(origin)
                pending.extend(option.args[:2])
                if option.receiver is not None:
                    pending.append(option.receiver)
            elif hasattr(option, "receiver"):
                pending.append(option.receiver)
    return list(dict.fromkeys(found))


def _magic(session: Session, call: Call) -> Value:
    from allmend.notebooks.syntax import Special, split
    from allmend.planning.effects import magics
    from allmend.planning.evaluation.values import Place

    texts = [session.holes.text(value) for value in call.args[:3]]
    last = call.path.rpartition(".")[2]
    if last == "run_cell_magic" and texts:
        body = f"%%{texts[0]} {texts[1] if len(texts) > 1 else ''}\n{texts[2] if len(texts) > 2 else ''}"
        place = session.python.place
        inner = Place(place.cell, place.above + call.node.lineno - 1, tuple(body.split("\n")))
        saved = place
        session.run_code(split(body), inner, body)
        session.python.place = saved
        return None
    if not texts:
        return None
    name, _, rest = texts[0].lstrip("%").partition(" ")
    text = texts[1] if last == "run_line_magic" and len(texts) > 1 else rest
    return magics.line_magic(session, Special("magic", name, text, call.node.lineno))


def _opened(session: Session, call: Call) -> None:
    path, _ = call.get(0, "file")
    mode, _ = call.get(1, "mode")
    if not isinstance(mode, str) or not set(mode) & set("wax"):
        return
    from allmend.planning.effects import directories

    for text in strings(path):
        if has_hole(text):
            continue
        full = session.world.resolve(text).replace(DERIVED, "")
        if directories.SYSTEM.search(full):
            directories.written(session, text, cwd=None)
        session.world.make(text)
        if "w" in mode:
            session.world.texts.pop(session.world.key(text), None)


def _write(session: Session, call: Call) -> None:
    owner = call.receiver
    text = call.args[0] if call.args else None
    if call.path.endswith("write_text") and isinstance(owner, str):
        path: Value = owner
    elif isinstance(owner, Made) and owner.path in ("builtins.open()", "io.open()", "codecs.open()") and owner.args:
        path = owner.args[0]
    else:
        _fetched_write(session, owner, text)
        return
    if not isinstance(path, str) or has_hole(path):
        return
    origin = fetched_from(session, text)
    key = session.world.key(path)
    if origin:
        session.world.fetched[key] = origin[0]
        return
    if isinstance(text, list):
        text = "".join(session.holes.text(item) for item in text[:5000])
    if isinstance(text, str) and len(text) < 400_000:
        earlier = session.world.texts.get(key)
        before = earlier[0] if earlier else ""
        if len(before) < 400_000:
            session.world.texts[key] = (before + text.replace(DERIVED, ""), session.python.place.cell)
    elif isinstance(text, Unknown | Made):
        session.world.make(path)


def _fetched_write(session: Session, owner: Value, text: Value) -> None:
    """`f.write(response.content)` where `f` is not known: nothing to note."""


def finish(session: Session) -> None:
    """Nothing is left over: scripts that are written are followed when they are run."""
