"""Parameters of ipywidgets: literal `interact` calls and the widgets in them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from allmend.notebooks.literals import jsonable, number, type_of
from allmend.nouns.plan import FormParameter


def interact(index: int, source: str, section: str | None) -> Iterator[FormParameter]:
    """`interact(f, x=(0, 10, 2), y=["a", "b"])` with literal abbreviations."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or len(node.keywords) > 50:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in ("interact", "interact_manual", "interactive"):
            continue
        for keyword in node.keywords:
            if keyword.arg and isinstance(keyword.value, ast.Call):
                made = _widget(keyword.arg, keyword.value, index, section)
                if made is not None:
                    yield made
                continue
            try:
                value = ast.literal_eval(keyword.value)
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                continue
            if keyword.arg:
                yield _abbreviated(keyword.arg, value, index, node.lineno, section)


_WIDGETS = {
    **dict.fromkeys(["IntSlider", "FloatSlider", "IntRangeSlider", "FloatRangeSlider", "FloatLogSlider"], "slider"),
    **dict.fromkeys(["BoundedIntText", "IntText"], "integer"),
    **dict.fromkeys(["BoundedFloatText", "FloatText"], "number"),
    **dict.fromkeys(["Checkbox", "ToggleButton"], "boolean"),
    **dict.fromkeys(["Text", "Textarea"], "string"),
    **dict.fromkeys(
        ["Dropdown", "RadioButtons", "Select", "ToggleButtons", "SelectMultiple", "SelectionSlider"], "dropdown"
    ),
    "Combobox": "dropdown",
    "DatePicker": "date",
}


def _widget(name: str, call: ast.Call, cell: int, section: str | None) -> FormParameter | None:
    """A widget that is made with literals: `IntSlider(min=0, max=9)`, `Dropdown(options=["a", "b"])`."""
    called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    kind = _WIDGETS.get(called)
    if kind is None:
        return None
    given: dict[str, Any] = {}
    for keyword in call.keywords:
        try:
            given[keyword.arg or ""] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
    options = given.get("options")
    choices = None
    if isinstance(options, dict):
        choices = list(options.values())
    elif isinstance(options, list | tuple):
        choices = [item[1] if isinstance(item, tuple) and len(item) == 2 else item for item in options]
    default = given.get("value", choices[0] if choices else given.get("min"))
    return FormParameter(
        name=name, type=kind, default=jsonable(default), choices=jsonable(choices), minimum=number(given.get("min")),
        maximum=number(given.get("max")), step=number(given.get("step")), section=section,
        description=str(given["description"])[:200] if given.get("description") else None,
        allow_input=called == "Combobox", cell=cell, line=call.lineno,
    )  # fmt: skip


def _abbreviated(name: str, value: Any, cell: int, line: int, section: str | None) -> FormParameter:
    """ipywidgets' abbreviations: a tuple of numbers is a slider, a list or dict a dropdown."""
    if isinstance(value, tuple) and 2 <= len(value) <= 3 and all(isinstance(v, int | float) for v in value):
        low, high = value[0], value[1]
        whole = all(isinstance(v, int) for v in value)
        middle = (low + high) // 2 if whole else (low + high) / 2
        return FormParameter(
            name=name, type="slider", default=middle, minimum=float(low), maximum=float(high),
            step=float(value[2]) if len(value) == 3 else None, section=section, cell=cell, line=line,
        )  # fmt: skip
    if isinstance(value, list | dict):
        choices = jsonable(list(value.values()) if isinstance(value, dict) else value)
        return FormParameter(
            name=name, type="dropdown", default=choices[0] if choices else None, choices=choices, section=section,
            cell=cell, line=line,
        )  # fmt: skip
    return FormParameter(name=name, type=type_of(value), default=jsonable(value), section=section, cell=cell, line=line)
