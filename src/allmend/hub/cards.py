"""The front matter of a README: YAML from strangers, read with bounds, checked for what clients will stumble over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

_LONGEST = 256 * 1024
_FRONT = re.compile(r"\A(?:﻿)?\s*---[ \t]*\r?\n(.*?)(?:\r?\n)?---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_LISTS = ("tags", "datasets", "metrics", "language", "license", "base_model", "task_categories", "size_categories")
_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+ _-]{0,79}")


class CardError(ValueError):
    """The front matter cannot be read; the message says why."""


def front_matter(text: str) -> dict[str, Any]:
    """The metadata of a README; empty where there is none.

    Raises:
        CardError: it is no YAML mapping, too long, or refers to itself.
    """
    import yaml

    match = _FRONT.match(text)
    if match is None:
        return {}
    if len(match[1]) > _LONGEST:
        raise CardError(f"the metadata has more than {_LONGEST >> 10} KiB")
    try:
        values = yaml.load(match[1], Loader=_loader())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 2}" if mark is not None else ""
        raise CardError(f"the metadata is not YAML{where}: {getattr(error, 'problem', None) or error}") from None
    except (RecursionError, ValueError, OverflowError) as error:
        raise CardError(f"the metadata cannot be read: {type(error).__name__}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise CardError("the metadata is no mapping of names to values")
    plain = _plain(values, 0)
    assert isinstance(plain, dict)
    return plain


def _loader() -> Any:
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Without references: a few of them unfold to gigabytes."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise CardError("the metadata refers to itself with *, which is not read")
            return super().compose_node(parent, index)

    return Loader


def _plain(value: object, depth: int) -> Any:
    """JSON's values of YAML's."""
    if depth > 40:
        raise CardError("the metadata is nested too deeply")
    if isinstance(value, dict):
        return {str(key)[:500]: _plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each, depth + 1) for each in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return value.isoformat() if isinstance(value, date) else str(value)


def problems(text: str, kind: str) -> tuple[list[str], list[str]]:
    """What is wrong with a README's metadata, and what is missing: errors and warnings."""
    try:
        card = front_matter(text)
    except CardError as error:
        return [str(error)], []
    errors: list[str] = []
    if not card:
        return [], ["empty or missing yaml metadata in repo card"]
    for name in _LISTS:
        if name in card and not _words(card[name]) and card[name] is not None:
            errors.append(f'"{name}" must be a string or a list of strings')
    for licence in _as_list(card.get("license")):
        if not _LICENCE.fullmatch(str(licence)):
            errors.append('"license" must be the identifier of a licence, like apache-2.0')
    if "model-index" in card and not isinstance(card["model-index"], list):
        errors.append('"model-index" must be an array')
    if kind == "space" and "sdk" in card and not isinstance(card["sdk"], str):
        errors.append('"sdk" must be a string')
    return errors, []


def _words(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))


def _as_list(value: object) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def tags(card: Mapping[str, Any]) -> list[str]:
    """What listings filter by: the card's own tags, its licence, languages, data sets and base models."""
    found = [str(tag) for tag in _as_list(card.get("tags"))]
    for name in ("library_name", "pipeline_tag"):
        if isinstance(card.get(name), str):
            found.append(card[name])
    found += [str(each) for each in _as_list(card.get("language"))]
    for name, prefix in (("license", "license"), ("datasets", "dataset"), ("base_model", "base_model"),
                         ("task_categories", "task_categories"), ("size_categories", "size_categories")):  # fmt: skip
        found += [f"{prefix}:{each}" for each in _as_list(card.get(name)) if isinstance(each, str)]
    return [tag for tag in dict.fromkeys(found) if tag]
