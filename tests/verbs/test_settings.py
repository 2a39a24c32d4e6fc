"""One settings class a verb: the same names and defaults as its function, and values as people write them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

import allmend.verbs
from allmend.errors import UsageError
from allmend.verbs.settings import Duration, Settings, Size, parse_duration, parse_size
from allmend.verbs.tune import TuneSettings

HANDS = {"watch", "progress", "note"}
"""Keywords through which a caller listens; they are no settings."""


def verbs() -> list[tuple[str, type[Settings], Callable[..., Any]]]:
    modules = [
        importlib.import_module(info.name) for info in pkgutil.iter_modules(allmend.verbs.__path__, "allmend.verbs.")
    ]
    found = []
    for module in modules:
        for kind in vars(module).values():
            own = isinstance(kind, type) and issubclass(kind, Settings) and kind.__module__ == module.__name__
            if own and not kind.__subclasses__():  # those with subclasses are what several verbs share
                name = module.__name__.rpartition(".")[2]
                found.append((name, kind, getattr(module, name)))
    return found


def test_every_verb_with_settings_was_found() -> None:
    assert {name for name, _, _ in verbs()} >= {"tune", "verdict", "serve", "chat", "data_check"}


@pytest.mark.parametrize(
    ("name", "kind", "function"), verbs(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_signature_and_settings_are_equal(name: str, kind: type[Settings], function: Callable[..., Any]) -> None:
    first, *rest = inspect.signature(function).parameters.values()
    if first.kind is inspect.Parameter.KEYWORD_ONLY:
        rest.insert(0, first)  # a verb without a subject, like tour
    else:
        assert first.default is inspect.Parameter.empty
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in rest)
    keywords = {parameter.name: parameter.default for parameter in rest if parameter.name not in HANDS}
    assert keywords == {field: info.get_default() for field, info in kind.model_fields.items()}
    shared = [field for field in kind.model_fields if field not in inspect.get_annotations(kind)]
    assert list(keywords) == [field for field in kind.model_fields if field not in shared] + shared


@pytest.mark.parametrize(
    ("name", "kind", "function"), verbs(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_setting_is_explained(name: str, kind: type[Settings], function: Callable[..., Any]) -> None:
    for field, info in kind.model_fields.items():
        assert info.description and info.description.rstrip().endswith((".", ")")), f"{name}.{field}"


def test_settings_are_frozen_and_unknown_keys_name_the_nearest() -> None:
    settings = TuneSettings.of({"budget": "15m", "rank": 8})
    assert (settings.budget, settings.rank) == (900.0, 8)
    with pytest.raises(ValidationError):
        settings.rank = 9  # type: ignore[misc]
    with pytest.raises(UsageError, match="there is no setting 'learnin_rate'") as caught:
        TuneSettings.of({"learnin_rate": 1})
    assert caught.value.hint == "Did you mean 'learning_rate'?"
    with pytest.raises(UsageError) as caught:
        TuneSettings.of({"rank": 0})
    assert caught.value.where == "--rank"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("250ms", 0.25), ("15m", 900), ("1h30m", 5400), (" 1 h 30 min ", 5400), ("2.5s", 2.5), ("1d", 86400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "15 parsecs", "-3m", "1h 30", "m", "0", "0s", "1e3", "nan", "inf", "١s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Duration).validate_python(text)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_numbers_that_are_no_duration(value: float) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Duration).validate_python(value)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1024", 1024),
        ("8G", 8 << 30),
        ("512 MiB", 512 << 20),
        ("1.5k", 1536),
        ("2tb", 2 << 40),
        ("7b", 7),
        ("3 MB", 3 << 20),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "8 Q", "-8G", "8G4", "ib", "8 ib", "8 bb"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Size).validate_python(text)


@given(st.text(max_size=30))
def test_any_text_is_a_value_or_an_error_in_words(text: str) -> None:
    for kind in (Duration, Size):
        try:
            value = TypeAdapter(kind).validate_python(text)
        except ValidationError:
            continue
        assert 0 <= value < float("inf")
