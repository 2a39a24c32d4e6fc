"""Form parameters of every kind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from allmend.notebooks import read_bytes
from allmend.notebooks.parameters import parameters
from allmend.nouns.notebook import Cell
from allmend.nouns.plan import FormParameter


def of(source: str, **metadata: Any) -> list[FormParameter]:
    cell = {"cell_type": "code", "source": source, "metadata": metadata, "outputs": []}
    data = json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4}).encode()
    return parameters(read_bytes(data).cells)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('a = "x" #@param {type:"string"}', {"type": "string", "default": "x"}),
        ("a = x + 1 #@param {type:\"raw\"}", {"type": "raw", "default": "x + 1"}),
        ("a = True #@param {type:\"boolean\"}", {"type": "boolean", "default": True}),
        ("a = 3 #@param {type:\"integer\"}", {"type": "integer", "default": 3}),
        ("a = 0.5 #@param {type:\"number\"}", {"type": "number", "default": 0.5}),
        ("a = 5 #@param {type:\"slider\", min:0, max:10, step:0.5}",
         {"type": "slider", "minimum": 0.0, "maximum": 10.0, "step": 0.5}),
        ('a = "2026-01-02" #@param {type:"date"}', {"type": "date"}),
        ('a = "x" #@param ["x", "y"]', {"type": "dropdown", "choices": ["x", "y"], "allow_input": False}),
        ('a = "x" #@param ["x", "y"] {allow-input: true}', {"type": "dropdown", "choices": ["x", "y"], "allow_input": True}),
        ('a = "x" # @param [\'x\', \'y\'] {"allow-input":true}', {"choices": ["x", "y"], "allow_input": True}),
        ("    a = 1 #@param {type:\"integer\"}", {"type": "integer"}),
        ('a = "" #@param {"type":"string","placeholder":"a name"}', {"type": "string", "description": "a name"}),
        ("a = 7 #@param", {"type": "integer", "default": 7}),
    ],
)  # fmt: skip
def test_a_line_of_a_form(line: str, wanted: dict[str, Any]) -> None:
    (found,) = of(line)
    assert found.name == "a"
    assert {key: getattr(found, key) for key in wanted} == wanted


def test_titles_are_sections_and_markdown_describes() -> None:
    first, second = of(
        '#@title Set up\n#@markdown How many\nn = 1 #@param {type:"integer"}\nm = 2 #@param {type:"integer"}'
    )
    assert (first.section, first.description, first.line) == ("Set up", "How many", 3)
    assert (second.section, second.description) == ("Set up", None)


def test_papermills_tag_with_type_comments() -> None:
    found = of("alpha: float = 0.1\nn = 3  # int how many\nname = 'x'", tags=["parameters"])
    assert [(p.name, p.type, p.default) for p in found] == [
        ("alpha", "number", 0.1),
        ("n", "integer", 3),
        ("name", "string", "x"),
    ]
    assert found[1].description == "how many"


def test_literal_interact() -> None:
    found = of("from ipywidgets import interact\ninteract(f, x=(0, 10, 2), y=['a', 'b'], z=True)")
    assert [(p.name, p.type, p.default) for p in found] == [
        ("x", "slider", 5),
        ("y", "dropdown", "a"),
        ("z", "boolean", True),
    ]
    assert (found[0].minimum, found[0].maximum, found[0].step) == (0.0, 10.0, 2.0)


def _tagged(source: str) -> list[FormParameter]:
    return parameters([Cell(type="code", source=source, tags=["parameters"])])


def test_a_hash_inside_a_string_is_no_comment() -> None:
    [found] = _tagged('text = "a # b"  # str what to say')
    assert (found.default, found.type, found.description) == ("a # b", "string", "what to say")


def test_type_comments_in_both_spellings() -> None:
    assert [p.type for p in _tagged("a = None  # type: str\nb = None  # int how many")] == ["string", "integer"]


def test_a_template_field_says_so() -> None:
    [found] = parameters([Cell(type="code", source='a = "x" #@param {type:"string", isTemplate: true}')])
    assert found.template is True


def test_widgets_made_with_literals() -> None:
    source = (
        "interact(f, n=widgets.IntSlider(min=-10, max=30, step=2, value=4, description='How many'),\n"
        "         c=Dropdown(options=[('One', 1), ('Two', 2)], value=2), m=widgets.Combobox(options=['a']), u=some(x))"
    )
    slider, dropdown, combo = parameters([Cell(type="code", source=source)])
    assert (slider.type, slider.minimum, slider.maximum, slider.step, slider.default) == ("slider", -10, 30, 2, 4)
    assert slider.description == "How many"
    assert (dropdown.type, dropdown.choices, dropdown.default) == ("dropdown", [1, 2], 2)
    assert combo.allow_input is True
