"""Jinja for chat templates: what transformers gives its templates, in a sandbox with bounds on time and text.

Templates come from model folders. The sandbox keeps them from Python's internals; the bounds keep them from running or
writing without end. Memory that a single filter asks for (`center`, `format`) is not bounded here.
"""

from __future__ import annotations

import json
import time
from contextvars import ContextVar
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from allmend.errors import InputError

if TYPE_CHECKING:
    from jinja2 import Template as JinjaTemplate

LONGEST_RENDERING = 64 * 2**20
"""Characters; a template that writes more is refused."""

LONGEST_SECONDS = 5.0
"""Looked at whenever the template writes, and in every turn of a loop and call of a macro."""

_TICK = "0tick"
"""The name of the clock's call. A template cannot say it or take its place: names do not begin with a digit."""

_until: ContextVar[float] = ContextVar("until")


def rendered(text: str, values: dict[str, Any], name: str) -> str:
    """`text` rendered with `values`; raises Jinja's own errors, and `InputError` when it goes over the bounds."""
    template = compiled(text)
    mark = _until.set(time.monotonic() + LONGEST_SECONDS)
    parts, length = [], 0
    try:
        for part in template.generate(values):
            parts.append(part)
            length += len(part)
            if length > LONGEST_RENDERING:
                raise InputError("the chat template writes without end", where=name)
            _tick()
    finally:
        _until.reset(mark)
    return "".join(parts)


def _tick() -> None:
    import jinja2

    if time.monotonic() > _until.get():
        raise jinja2.exceptions.SecurityError(f"it takes longer than {LONGEST_SECONDS:g} seconds")


@lru_cache(maxsize=32)
def compiled(text: str) -> JinjaTemplate:
    """The template ready to render; raises `jinja2.TemplateSyntaxError`."""
    template: JinjaTemplate = _environment().from_string(text)
    return template


@lru_cache(maxsize=1)
def _environment() -> Any:
    """The settings and names of transformers (`utils/chat_template_utils.py`), with the bounds put in."""
    import jinja2
    import jinja2.ext
    from jinja2 import nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """`{% generation %}` marks the assistant's text for masks; here its body is simply written."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    class Environment(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"*", "**"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            length = max((len(side) for side in (left, right) if isinstance(side, str | list | tuple)), default=0)
            times = max((side for side in (left, right) if isinstance(side, int)), default=1)
            if (operator == "*" and length * times > LONGEST_RENDERING) or (
                operator == "**" and isinstance(right, int | float) and abs(right) > 64
            ):
                raise jinja2.exceptions.SecurityError("a product in the template is too large")
            return super().call_binop(context, operator, left, right)

        def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
            tree = super()._parse(source, name, filename)
            kinds = (nodes.For, nodes.Macro, nodes.CallBlock)
            repeated: list[Any] = [node for kind in kinds for node in tree.find_all(kind)]
            for node in repeated:
                call = nodes.Call(nodes.Name(_TICK, "load"), [], [], None, None)
                node.body.insert(0, nodes.ExprStmt(call).set_lineno(node.lineno))
            return tree

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    def tojson(
        x: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def strftime_now(form: str) -> str:
        return datetime.now().strftime(form)

    extensions = [Generation, jinja2.ext.loopcontrols]
    environment = Environment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.filters["tojson"] = tojson
    environment.globals.update({"raise_exception": raise_exception, "strftime_now": strftime_now, _TICK: _tick})
    return environment
