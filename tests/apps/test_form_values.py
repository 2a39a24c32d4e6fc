"""Values are what the form says, whoever sends them and however."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allmend.apps.parameters import WrongParameters, check, from_text, schema, settable
from allmend.nouns.plan import FormParameter

SLIDER = FormParameter(name="swing", type="slider", default=3, minimum=1, maximum=10, step=1)
CHOICE = FormParameter(name="colour", type="dropdown", default="blue", choices=["blue", "red"])
OPEN = FormParameter(name="style", type="dropdown", default="solid", choices=["solid"], allow_input=True)
FORM = [
    SLIDER,
    CHOICE,
    OPEN,
    FormParameter(name="name", type="string", default="x"),
    FormParameter(name="grid", type="boolean", default=True),
    FormParameter(name="day", type="date", default="2026-01-31"),
    FormParameter(name="count", type="integer", default=1),
    FormParameter(name="ratio", type="number", default=0.5),
    FormParameter(name="list", type="raw", default=[1]),
    FormParameter(name="copy", type="string", default=""),
]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("swing", 11, "between 1 and 10"),
        ("swing", 2.5, "whole number"),
        ("swing", True, "whole number"),
        ("colour", "pink", "one of 'blue', 'red'"),
        ("grid", "yes", "true or false"),
        ("grid", 1, "true or false"),
        ("day", "31.1.2026", "2026-01-31"),
        ("count", 1.5, "whole number"),
        ("ratio", float("nan"), "finite"),
        ("name", 7, "a text"),
        ("swnig", 3, "'swing'"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_do(name: str, value: Any, why: str) -> None:
    with pytest.raises(WrongParameters) as caught:
        check(FORM, {"count": 2, name: value})
    assert set(caught.value.fields) == {name} and why in caught.value.fields[name]


def test_every_wrong_field_is_told_at_once_and_names_of_builtins_are_names() -> None:
    with pytest.raises(WrongParameters) as caught:
        check(FORM, {"swing": 0, "day": 3, "list": [2], "copy": "y"})
    assert set(caught.value.fields) == {"swing", "day"}
    assert check(FORM, {"list": [2], "copy": "y"}) == {"list": [2], "copy": "y"}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [("swing", "4", 4), ("colour", "red", "red"), ("style", "dotted", "dotted"), ("grid", "off", False), ("count", "-3", -3),
     ("ratio", "1e-3", 0.001), ("list", "[1, 'a']", [1, "a"]), ("list", '{"a": null}', {"a": None}), ("name", " kept ", " kept ")],
)  # fmt: skip
def test_text_becomes_the_value_it_means(name: str, text: str, value: Any) -> None:
    parameter = next(each for each in FORM if each.name == name)
    assert check(FORM, {name: from_text(parameter, text)}) == {name: value}


@given(st.text(max_size=200))
def test_text_for_a_raw_value_is_a_literal_or_refused_and_never_runs(text: str) -> None:
    raw = FormParameter(name="r", type="raw", default=[1])
    try:
        value = from_text(raw, text)
    except ValueError:
        return
    assert isinstance(value, str | int | float | complex | bool | list | dict | tuple | set | bytes | None)


def test_the_schema_refuses_what_the_check_refuses() -> None:
    made = schema(FORM)
    assert made["additionalProperties"] is False
    assert made["properties"]["swing"] == {"type": "integer", "minimum": 1.0, "maximum": 10.0, "default": 3}
    assert made["properties"]["colour"]["enum"] == ["blue", "red"] and "enum" not in made["properties"]["style"]


def test_a_name_that_is_no_plain_name_cannot_be_set() -> None:
    odd = [FormParameter(name="config['x']", type="string"), FormParameter(name="a.b", type="string"), CHOICE, CHOICE]
    assert [parameter.name for parameter in settable(odd)] == ["colour"]
