"""Evaluating expressions of the constant language: names, strings, containers, attributes, calls."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allmend.notebooks.syntax import MARK
from allmend.planning.pure import MISSING, member_of, pure_call
from allmend.planning.scope import Journal, Scope
from allmend.planning.values import (
    Bound,
    Class,
    Either,
    Function,
    Holes,
    Made,
    Member,
    Object,
    PathText,
    Place,
    Symbol,
    Unknown,
    Value,
    combine,
    has_hole,
    options,
)  # fmt: skip

if TYPE_CHECKING:
    from allmend.planning.session import Session

BUILTINS = frozenset(
    [
        "abs",
        "all",
        "any",
        "ascii",
        "bin",
        "bool",
        "breakpoint",
        "bytearray",
        "bytes",
        "callable",
        "chr",
        "classmethod",
        "compile",
        "complex",
        "delattr",
        "dict",
        "dir",
        "divmod",
        "enumerate",
        "eval",
        "exec",
        "execfile",
        "exit",
        "filter",
        "float",
        "format",
        "frozenset",
        "getattr",
        "globals",
        "hasattr",
        "hash",
        "help",
        "hex",
        "id",
        "input",
        "int",
        "isinstance",
        "issubclass",
        "iter",
        "len",
        "list",
        "locals",
        "map",
        "max",
        "memoryview",
        "min",
        "next",
        "object",
        "oct",
        "open",
        "ord",
        "pow",
        "print",
        "property",
        "quit",
        "range",
        "raw_input",
        "repr",
        "reversed",
        "round",
        "set",
        "setattr",
        "slice",
        "sorted",
        "staticmethod",
        "str",
        "sum",
        "super",
        "tuple",
        "type",
        "unicode",
        "vars",
        "xrange",
        "zip",
        "__import__",
        "get_ipython",
        "display",
    ]
)
WELL_KNOWN = {
    **{name: name for name in ["os", "sys", "subprocess", "shutil", "pickle", "torch", "requests", "json", "glob", "joblib", "gdown", "wandb", "urllib", "gc"]},
    "np": "numpy", "pd": "pandas", "tf": "tensorflow", "drive": "google.colab.drive", "userdata": "google.colab.userdata",
    "tfds": "tensorflow_datasets", "hub": "tensorflow_hub", "load_dataset": "datasets.load_dataset",
    "notebook_login": "huggingface_hub.notebook_login", "hf_hub_download": "huggingface_hub.hf_hub_download",
    "snapshot_download": "huggingface_hub.snapshot_download", "getpass": "getpass.getpass",
}  # fmt: skip
"""What a name means that is used without an import: it came with a star import, or a cell was left out."""
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.Gt: operator.gt, ast.LtE: operator.le,
    ast.GtE: operator.ge,
}  # fmt: skip


class Call:
    """One call as the tables see it: a dotted path and its arguments, values and source nodes."""

    __slots__ = ("args", "keywords", "naming", "node", "path", "receiver")

    def __init__(
        self,
        path: str,
        node: ast.Call,
        args: list[Value],
        keywords: dict[str, Value],
        receiver: Value,
        naming: str | None,
    ) -> None:
        self.path = path
        self.node = node
        self.args = args
        self.keywords = keywords
        self.receiver = receiver
        self.naming = naming
        """The name that the result is assigned to, if it is."""

    def get(self, *places: int | str) -> tuple[Value, ast.expr | None]:
        """The first given argument of `places` (positions and keywords): its value and its node."""
        for place in places:
            if isinstance(place, int):
                if place < len(self.args):
                    nodes = self.node.args
                    node = nodes[place] if place < len(nodes) and not isinstance(nodes[place], ast.Starred) else None
                    return self.args[place], node
            elif place in self.keywords:
                return self.keywords[place], next((k.value for k in self.node.keywords if k.arg == place), None)
        return MISSING, None


def segment(place: Place, node: ast.AST) -> str:
    """The source text of `node`, on one line, shortened."""
    line, end_line = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
    lines = place.lines
    if not 0 < line <= len(lines) or not end_line:
        try:
            return ast.unparse(node)[:200]
        except (ValueError, RecursionError, AttributeError):
            return "?"
    start, end = getattr(node, "col_offset", 0), getattr(node, "end_col_offset", 0)
    if line == end_line:
        text = lines[line - 1]
        piece = text[start:end] if text.isascii() else text.encode()[start:end].decode("utf-8", "replace")
    else:
        first = lines[line - 1].encode()[start:].decode("utf-8", "replace")
        last = lines[min(end_line, len(lines)) - 1].encode()[:end].decode("utf-8", "replace")
        piece = " ".join([first, *(text.strip() for text in lines[line : min(end_line, line + 12) - 1]), last.strip()])
    return piece.strip()[:300]


class Expressions:
    """The evaluator of expressions. `eval` never raises for odd input and returns a value for everything."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.holes: Holes = session.holes
        self.journal: Journal = session.journal
        self.globals = Scope()
        self.scope = self.globals
        self.place = Place(0, 0, ())
        self.line = 1
        self.budget = 0
        self.depth = 0
        self.nesting = 0
        self.stars: list[str] = []
        self.naming: ast.expr | None = None
        self._evaluators: dict[type[ast.AST], Callable[[Any], Value]] = {
            ast.Constant: self._constant, ast.Name: self._name, ast.Attribute: self._attribute, ast.Call: self._call,
            ast.JoinedStr: self._fstring, ast.BinOp: self._binary, ast.List: self._list, ast.Tuple: self._tuple,
            ast.Set: self._list, ast.Dict: self._dict, ast.Subscript: self._subscript, ast.IfExp: self._conditional,
            ast.BoolOp: self._boolean, ast.Compare: self._compare, ast.UnaryOp: self._unary, ast.Lambda: self._lambda,
            ast.ListComp: self._comprehension, ast.SetComp: self._comprehension, ast.GeneratorExp: self._comprehension,
            ast.DictComp: self._dict_comprehension, ast.NamedExpr: self._walrus, ast.Await: self._inner,
            ast.Starred: self._inner, ast.FormattedValue: self._inner, ast.YieldFrom: self._inner, ast.Yield: self._yield,
            ast.Slice: self._slice,
        }  # fmt: skip

    def eval(self, node: ast.expr) -> Value:
        """The value of an expression; effects of calls inside it are recorded on the way."""
        self.budget -= 1
        evaluator = self._evaluators.get(type(node))
        if evaluator is None or self.budget <= 0 or self.nesting > 90:
            return Unknown(segment(self.place, node), "it is too deep or too long to follow")
        self.nesting += 1
        try:
            return evaluator(node)
        finally:
            self.nesting -= 1

    def unknown(self, node: ast.AST, reason: str) -> Unknown:
        """An unknown value for `node`."""
        return Unknown(segment(self.place, node), reason)

    # -- names ------------------------------------------------------------------------------------------------------

    def bind(self, name: str, value: Value) -> None:
        """Assign a name in the current scope."""
        scope = self.globals if name in self.scope.declared_global else self.scope
        self.journal.set(scope.names, name, value)

    def look_up(self, name: str) -> Value:
        """What a name holds, or MISSING."""
        scope: Scope | None = self.scope
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.parent
        return self.globals.names.get(name, MISSING)

    def _constant(self, node: ast.Constant) -> Value:
        return node.value

    def _name(self, node: ast.Name) -> Value:
        value = self.look_up(node.id)
        if value is not MISSING:
            return value
        if node.id in BUILTINS:
            return Symbol(f"builtins.{node.id}")
        if self.stars:
            star = self.session.star(self.stars, node.id)
            if star:
                return Symbol(star)
        if node.id in WELL_KNOWN:
            return Symbol(WELL_KNOWN[node.id])
        if node.id == "__file__":
            return Unknown("__file__", "a notebook has no file name of its own")
        return Unknown(node.id, "the name is not set in the notebook", f"?{node.id}")

    def _attribute(self, node: ast.Attribute) -> Value:
        owner = self.eval(node.value)
        return self.attribute(owner, node.attr, node)

    def attribute(self, owner: Value, name: str, node: ast.AST) -> Value:
        """`owner.name`."""
        if isinstance(owner, Symbol):
            return self.session.symbol(f"{owner.path}.{name}")
        if isinstance(owner, Object):
            if name in owner.attributes:
                return owner.attributes[name]
            found = owner.of.find(name)
            if isinstance(found, Function):
                return Bound(found, owner)
            if found is not None:
                return found
            base = next((b for b in owner.of.bases if isinstance(b, Symbol | Made)), None)
            return Member(f"{base.path if base else '?'}().{name}", owner)
        if isinstance(owner, Class):
            found = owner.find(name)
            if found is None:
                return Member(f"?{owner.name}.{name}", owner)
            return Bound(found, owner) if isinstance(found, Function) and _takes_class(found) else found
        if isinstance(owner, Made):
            if name in owner.attributes:
                return owner.attributes[name]
            return Member(f"{owner.path}.{name}", owner)
        if isinstance(owner, Member):
            return Member(f"{owner.path}.{name}", owner.receiver)
        if isinstance(owner, Unknown):
            return Member(f"{owner.path}.{name}", owner)
        if isinstance(owner, Either):
            return combine([owner], lambda row: self.attribute(row[0], name, node))
        return member_of(owner, name)

    # -- strings and operators ----------------------------------------------------------------------------------------

    def _fstring(self, node: ast.JoinedStr) -> Value:
        values: list[Value] = []
        formats: list[str] = []
        for part in node.values:
            if isinstance(part, ast.Constant):
                values.append(part.value)
                formats.append("")
            elif isinstance(part, ast.FormattedValue):
                values.append(self.settle(self.eval(part.value), part.value))
                spec = self.eval(part.format_spec) if part.format_spec is not None else ""
                formats.append(spec if isinstance(spec, str) and not has_hole(spec) else "")

        def join(row: list[Value]) -> Value:
            pieces = []
            for value, spec in zip(row, formats, strict=True):
                if spec and isinstance(value, int | float | str) and len(spec) < 8 and "9" * 3 not in spec:
                    try:
                        pieces.append(format(value, spec))
                        continue
                    except (ValueError, TypeError):
                        pass
                pieces.append(self.holes.text(value))
            return "".join(pieces)[:200_000]

        return combine(values, join)

    def settle(self, value: Value, node: ast.AST) -> Value:
        """`value` with a source text, so that a hole made from it says what was written."""
        if isinstance(value, Made | Member | Object | Function | Class | Bound):
            reason = value.reason if isinstance(value, Made) else "it is made while the notebook runs"
            return Unknown(segment(self.place, node), reason)
        if isinstance(value, Symbol):
            return Unknown(segment(self.place, node), f"{value.path} comes from a library")
        return value

    def _binary(self, node: ast.BinOp) -> Value:
        left, right = self.eval(node.left), self.eval(node.right)
        return combine([left, right], lambda row: self._operate(node, row[0], row[1]))

    def _operate(self, node: ast.BinOp, left: Value, right: Value) -> Value:
        op = type(node.op)
        if op is ast.Add and (isinstance(left, str) or isinstance(right, str)):
            return (self.holes.text(self.settle(left, node.left)) + self.holes.text(self.settle(right, node.right)))[
                :200_000
            ]
        if op is ast.Div and (isinstance(left, PathText) or isinstance(right, PathText)):
            import posixpath

            a = self.holes.text(self.settle(left, node.left))
            b = self.holes.text(self.settle(right, node.right))
            return PathText(posixpath.join(a, b))
        if op is ast.Div and (isinstance(left, str) or isinstance(right, str)):
            return PathText(
                f"{self.holes.text(self.settle(left, node.left))}/{self.holes.text(self.settle(right, node.right))}"
            )
        if op is ast.Mod and isinstance(left, str):
            return self._percent(left, right, node)
        if op is ast.Add and isinstance(left, list | tuple) and isinstance(right, list | tuple):
            return [*left, *right] if len(left) + len(right) < 5000 else self.unknown(node, "the list is too long")
        if op is ast.Mult and isinstance(left, str | list) and isinstance(right, int):
            return left * right if len(left) * max(right, 0) < 10_000 else self.unknown(node, "it is too long")
        function = _OPERATORS.get(op)
        if function is not None and _number(left) and _number(right):
            try:
                return function(left, right)
            except (ArithmeticError, ValueError):
                pass
        return self.unknown(node, _why(left, right))

    def _percent(self, left: str, right: Value, node: ast.BinOp) -> Value:
        nodes = node.right.elts if isinstance(node.right, ast.Tuple) else [node.right]
        values = list(right) if isinstance(right, tuple | list) and isinstance(node.right, ast.Tuple) else [right]
        if isinstance(right, dict):
            texts: Any = {k: self.holes.text(v) for k, v in right.items()}
        else:
            texts = tuple(
                v if _number(v) else self.holes.text(self.settle(v, nodes[min(i, len(nodes) - 1)]))
                for i, v in enumerate(values)
            )
        if len(left) < 20_000 and not any(width in left for width in ("%9", "%*")):
            try:
                return left % texts
            except (ValueError, TypeError, KeyError, OverflowError):
                pass
        return self.unknown(node, _why(left, right))

    def _boolean(self, node: ast.BoolOp) -> Value:
        values = [self.eval(value) for value in node.values]
        if isinstance(node.op, ast.Or) and not isinstance(values[0], bool):
            # `given or "default"`: either may be used.
            kept = [value for value in values if value not in (None, "") and not isinstance(value, bool)]
            if len(kept) == 1:
                return kept[0]
            if kept and isinstance(kept[0], str):
                return kept[0]
        return self.unknown(node, "it is a condition")

    def _compare(self, node: ast.Compare) -> Value:
        left = self.eval(node.left)
        rights = [self.eval(comparator) for comparator in node.comparators]
        function = _COMPARE.get(type(node.ops[0]))
        if len(rights) == 1 and function and _comparable(left) and _comparable(rights[0]):
            try:
                return bool(function(left, rights[0]))
            except TypeError:
                pass
        return self.unknown(node, "it is a condition")

    def _unary(self, node: ast.UnaryOp) -> Value:
        value = self.eval(node.operand)
        if isinstance(node.op, ast.USub) and _number(value):
            return -value
        if isinstance(node.op, ast.Not) and isinstance(value, bool):
            return not value
        return self.unknown(node, "it is a condition")

    def _conditional(self, node: ast.IfExp) -> Value:
        self.eval(node.test)
        first, second = self.eval(node.body), self.eval(node.orelse)
        branch = 1_000_000 + (id(node) & 0xFFFFFFF)
        found: list[tuple[Any, Value]] = []
        for arm, value in ((0, first), (1, second)):
            found.extend((((branch, arm), *arms), option) for arms, option in options(value))
        from allmend.planning.values import either

        full = [(arms, value) for arms, value in found if value is not None]
        return either(full or found)

    # -- containers ---------------------------------------------------------------------------------------------------

    def _list(self, node: ast.List | ast.Set) -> Value:
        values: list[Value] = []
        for item in node.elts:
            value = self.eval(item)
            if isinstance(item, ast.Starred) and isinstance(value, list | tuple):
                values.extend(value)
            else:
                values.append(value)
        return values

    def _tuple(self, node: ast.Tuple) -> Value:
        return tuple(self.eval(item) for item in node.elts)

    def _dict(self, node: ast.Dict) -> Value:
        made: dict[Any, Value] = {}
        for key_node, value_node in zip(node.keys, node.values, strict=True):
            value = self.eval(value_node)
            if key_node is None:
                if isinstance(value, dict):
                    made.update(value)
                continue
            key = self.eval(key_node)
            if isinstance(key, str | int | float | bool) or key is None:
                made[key] = value
        return made

    def _subscript(self, node: ast.Subscript) -> Value:
        owner, key = self.eval(node.value), self.eval(node.slice)
        return combine([owner, key], lambda row: self._item(row[0], row[1], node))

    def _item(self, owner: Value, key: Value, node: ast.Subscript) -> Value:
        if isinstance(owner, dict):
            if isinstance(key, str | int | float | bool) and key in owner:
                return owner[key]
            if (
                owner
                and isinstance(key, Unknown)
                and len(owner) <= 16
                and all(isinstance(v, str) for v in owner.values())
            ):
                branch = 2_000_000 + (id(node) & 0xFFFFFFF)
                from allmend.planning.values import either

                return either([(((branch, n),), v) for n, v in enumerate(owner.values())])
            return self.unknown(node, "the key is not known")
        if isinstance(owner, list | tuple | str):
            if isinstance(key, slice):
                try:
                    return owner[key]
                except (TypeError, ValueError):
                    return self.unknown(node, "the slice is not known")
            if (
                isinstance(key, int)
                and -len(owner) <= key < len(owner)
                and not (isinstance(owner, str) and has_hole(owner))
            ):
                return owner[key]
            return self.unknown(node, "the place in the list is not known")
        if isinstance(owner, Symbol):
            found = self.session.on_get_item(owner.path, key, node)
            if found is not MISSING:
                return found
            return Symbol(owner.path + "[]")
        if isinstance(owner, Made):
            return Made(owner.path + "[]", [key], {}, owner, {}, segment(self.place, node), owner.reason)
        if isinstance(owner, Member):
            return Made(owner.path + "[]", [key], {}, owner.receiver, {}, segment(self.place, node))
        if isinstance(owner, Unknown):
            return Unknown(segment(self.place, node), owner.reason)
        return self.unknown(node, "it is made while the notebook runs")

    def _slice(self, node: ast.Slice) -> Value:
        parts = [self.eval(p) if p is not None else None for p in (node.lower, node.upper, node.step)]
        if all(p is None or (isinstance(p, int) and not isinstance(p, bool)) for p in parts) and parts[2] != 0:
            return slice(*parts)
        return self.unknown(node, "the slice is not known")

    def iterate(self, value: Value, node: ast.AST) -> list[Value] | None:
        """The items that a loop over `value` would give, or None when they are not known."""
        if isinstance(value, Either):
            value = value.options[0][1]
        if isinstance(value, list | tuple):
            return list(value)
        if isinstance(value, dict):
            return list(value)
        if isinstance(value, range):
            return list(value[:64])
        return None

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> Value:
        made: list[Value] = []
        self._generate(node.generators, 0, lambda: made.append(self.eval(node.elt)))
        return made if self._closed(node.generators) else self.unknown(node, "it loops over values that are not known")

    def _dict_comprehension(self, node: ast.DictComp) -> Value:
        made: dict[Any, Value] = {}

        def put() -> None:
            key, value = self.eval(node.key), self.eval(node.value)
            if isinstance(key, str | int):
                made[key] = value

        self._generate(node.generators, 0, put)
        return made

    def _closed(self, generators: list[ast.comprehension]) -> bool:
        return all(not g.ifs for g in generators) and getattr(self, "_open", 0) == 0

    def _generate(self, generators: list[ast.comprehension], at: int, body: Callable[[], None]) -> None:
        if at == 0:
            self._open = 0
        if at == len(generators):
            body()
            return
        generator = generators[at]
        outer, self.scope = self.scope, Scope(self.scope)
        try:
            items = self.iterate(self.eval(generator.iter), generator.iter)
            if items is None:
                self._open = 1
                items = [
                    Unknown(
                        segment(self.place, generator.target), "it changes in a loop over values that are not known"
                    )
                ]
            for item in items[:200]:
                if self.budget <= 0:
                    return
                self.session.python.assign(generator.target, item, generator.iter)
                for condition in generator.ifs:
                    self.eval(condition)
                self._generate(generators, at + 1, body)
        finally:
            self.scope = outer

    # -- the rest ---------------------------------------------------------------------------------------------------

    def _walrus(self, node: ast.NamedExpr) -> Value:
        value = self.eval(node.value)
        self.bind(node.target.id, value)
        return value

    def _inner(self, node: Any) -> Value:
        return self.eval(node.value)

    def _yield(self, node: ast.Yield) -> Value:
        if node.value is not None:
            self.eval(node.value)
        return self.unknown(node, "it is sent into a generator")

    def _lambda(self, node: ast.Lambda) -> Value:
        return self.session.python.define(node)

    # -- calls ------------------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> Value:
        function = node.func
        if isinstance(function, ast.Name) and function.id == MARK:
            return self._special(node)
        naming, self.naming = self.naming, None
        callee = self.eval(function)
        args: list[Value] = []
        keywords: dict[str, Value] = {}
        for arg in node.args:
            value = self.eval(arg)
            if isinstance(arg, ast.Starred) and isinstance(value, list | tuple):
                args.extend(value)
            else:
                args.append(value)
        for keyword in node.keywords:
            self.naming = ast.Name(id=keyword.arg) if keyword.arg else None
            value = self.eval(keyword.value)
            self.naming = None
            if keyword.arg:
                keywords[keyword.arg] = value
            elif isinstance(value, dict):
                keywords.update({k: v for k, v in value.items() if isinstance(k, str)})
        self.line = node.lineno
        name = _name_of(naming, self)
        results = [self._invoke(option, node, args, keywords, name) for _, option in options(callee)[:6]]
        return results[0]

    def _special(self, node: ast.Call) -> Value:
        number = node.args[0]
        self.line = node.lineno
        if isinstance(number, ast.Constant) and isinstance(number.value, int):
            return self.session.on_special(self.place, number.value)
        return None

    def _invoke(
        self, callee: Value, node: ast.Call, args: list[Value], keywords: dict[str, Value], naming: str | None
    ) -> Value:
        python = self.session.python
        if isinstance(callee, Function):
            return python.call_function(callee, args, keywords)
        if isinstance(callee, Bound):
            return python.call_function(callee.function, args, keywords, callee.receiver)
        if isinstance(callee, Class):
            made = Object(callee)
            start = callee.find("__init__")
            if isinstance(start, Function):
                python.call_function(start, args, keywords, made)
            else:
                base = next((b for b in callee.bases if isinstance(b, Symbol)), None)
                if base is not None:
                    self.session.on_call(Call(base.path, node, args, keywords, None, naming))
            return made
        if isinstance(callee, Object):
            called = callee.of.find("__call__") or callee.of.find("forward")
            return python.call_function(called, args, keywords, callee) if isinstance(called, Function) else None
        receiver = callee.receiver if isinstance(callee, Member) else None
        path = callee.path if isinstance(callee, Symbol | Member | Made | Unknown) else "?"
        if isinstance(callee, Made | Unknown):
            receiver = callee
        call = Call(path, node, args, keywords, receiver, naming)
        value = pure_call(self, call)
        if value is not MISSING:
            return value
        answer = self.session.on_call(call)
        if answer is not MISSING:
            return answer
        reason = self.session.result_reason(call)
        return Made(path + "()", args, keywords, receiver, {}, segment(self.place, node), reason)


def _name_of(naming: ast.expr | None, python: Expressions) -> str | None:
    """The bare name an assignment gives its value: a variable, an attribute, or a constant key."""
    if isinstance(naming, ast.Name):
        return naming.id
    if isinstance(naming, ast.Attribute):
        return naming.attr
    if (
        isinstance(naming, ast.Subscript)
        and isinstance(naming.slice, ast.Constant)
        and isinstance(naming.slice.value, str)
    ):
        return naming.slice.value
    return None


def _takes_class(function: Function) -> bool:
    return any(isinstance(d, ast.Name) and d.id == "classmethod" for d in getattr(function.node, "decorator_list", []))


def _number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _comparable(value: Value) -> bool:
    return value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and not has_hole(value))


def _why(*values: Value) -> str:
    for value in values:
        if isinstance(value, Unknown | Made):
            return value.reason
    return "it is worked out while the notebook runs"
