"""Norms: what a model must and must not say, in its owner's own words, checked with every verdict.

A TOML file of `[[must]]` and `[[must_not]]` cases. Each asks something (`prompt`, `prompts`, or `on = "held-out"`) and
decides by one of: `pattern`, a regular expression; `classifier`, a Python function `file.py:function`; `judge`, a
sentence that a judge model decides.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from allmend.data import Row, Template
from allmend.errors import InputError, NotFound, UsageError, nearest
from allmend.models.loading import Loaded
from allmend.nouns.noun import Part
from allmend.nouns.verdict import ChangedRow, NormResult, Norms
from allmend.verdicts.changes import short
from allmend.verdicts.free_text import reply
from allmend.verdicts.metrics import Fault
from allmend.verdicts.metrics.judge_model import JudgeModel
from allmend.verdicts.metrics.own import is_own, own_function
from allmend.verdicts.question import Answers

FILE_NAME = "norms.toml"
"""The file beside an adapter that remembers its norms."""

ANY_JUDGE = JudgeModel("http://127.0.0.1/v1", "any")
"""To read norms with where they are not asked."""

_ANSWER_TOKENS = 96
_SHOWN = 3
_LARGEST = 1 << 20


class Case(Part):
    """One norm."""

    name: str
    prompt: str | None = None
    prompts: tuple[str, ...] = ()
    on: Literal["held-out"] | None = None
    """Look at the free-text answers to the held-out rows."""
    system: str | None = None
    """A system message in front of the prompts."""
    pattern: str | None = None
    classifier: str | None = None
    threshold: float = Field(0.5, ge=0, le=1)
    """Of a classifier that returns a probability: from here on it says yes."""
    judge: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Case:
        if sum(value is not None for value in (self.pattern, self.classifier, self.judge)) != 1:
            raise ValueError("it is decided by exactly one of pattern, classifier, judge")
        if not self.asked and self.on is None:
            raise ValueError('it asks nothing: give prompt, prompts or on = "held-out"')
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"the pattern is no regular expression: {error}") from None
        if self.classifier is not None and not is_own(self.classifier):
            raise ValueError("a classifier is named file.py:function")
        return self

    @property
    def asked(self) -> tuple[str, ...]:
        """All prompts."""
        return ((self.prompt,) if self.prompt is not None else ()) + self.prompts


class _File(Part):
    must: tuple[Case, ...] = ()
    must_not: tuple[Case, ...] = ()


@dataclass(frozen=True)
class NormsFile:
    """Norms that were read, ready to ask."""

    path: str
    text: str
    cases: tuple[tuple[Literal["must", "must_not"], Case], ...]
    functions: dict[str, Callable[..., Any]]
    judge: JudgeModel | None

    @property
    def sha256(self) -> str:
        """Of the file's bytes."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read(path: str | Path, judge: JudgeModel | None = None) -> NormsFile:
    """Read a file of norms; everything that can be wrong with it is said here, before any model is asked.

    Raises:
        NotFound, InputError: no such file; not TOML, an unknown key, a pattern that is none, a missing function.
        UsageError: a case needs a judge, and none is named.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFound("there is no such file of norms", where=str(path))
    if path.stat().st_size > _LARGEST:
        raise InputError("a file of norms has at most 1 MiB", where=str(path))
    try:
        text = path.read_text("utf-8")
        found = _File.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"not TOML: {error}", where=str(path)) from None
    except ValidationError as error:
        raise InputError(_first_problem(error), where=str(path), hint="docs/verdict.md has an example.") from None
    cases = (*(("must", case) for case in found.must), *(("must_not", case) for case in found.must_not))
    if not cases:
        raise InputError("it holds no norms", where=str(path), hint="Write [[must]] or [[must_not]] cases.")
    for _, case in cases:
        if case.judge is not None and judge is None:
            raise UsageError(
                f"the norm {case.name!r} needs a judge", where=str(path), hint="--judge http://…/v1 --judge-model NAME"
            )
    functions = {}
    for _, case in cases:
        if case.classifier is not None:
            file, _, name = case.classifier.rpartition(":")
            functions[case.classifier] = own_function(f"{path.parent / file}:{name}")
    return NormsFile(str(path), text, cases, functions, judge)  # type: ignore[arg-type]


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part + 1) if isinstance(part, int) else part for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = [*Case.model_fields, *_File.model_fields]
        return f"{place}: unknown key. {nearest(str(first['loc'][-1]), known)}".rstrip()
    return f"{place}: {first['msg'].removeprefix('Value error, ')}"


def remember(asked: NormsFile, folder: Path, note: Callable[[str], None]) -> None:
    """Put norms beside an adapter, for its next verdicts; what they import by a relative path is not taken along."""
    target = folder / FILE_NAME
    if Path(asked.path).resolve() == target.resolve():
        return
    if asked.functions:
        note("Norms with a classifier of your own are not remembered: its file stays where it is.")
        return
    hidden = target.with_name(f".{target.name}.new")
    hidden.write_text(asked.text, "utf-8")
    hidden.replace(target)


def ask(loaded: Loaded, norms: NormsFile, template: Template, answers: Answers) -> None:
    """Ask the model all prompts at once and decide each case; the results go into `answers`."""
    wanted = [(case.system, prompt) for _, case in norms.cases for prompt in case.asked]
    talks = [
        [*([{"role": "system", "content": system}] if system else []), {"role": "user", "content": prompt}]
        for system, prompt in wanted
    ]
    replies = iter(reply(loaded, talks, template, min(_ANSWER_TOKENS, loaded.context // 2)))
    for kind, case in norms.cases:
        texts = [next(replies) for _ in case.asked]
        prompts = list(case.asked)
        if case.on is not None:
            texts += answers.texts
            prompts += [row.given for row in answers.sample]
        says = decided(norms, case, prompts, texts)
        held = [None if said is None else said is (kind == "must") for said in says]
        answers.norms.append(held)
        answers.norm_texts.append(texts)


def decided(norms: NormsFile, case: Case, prompts: Sequence[str], texts: Sequence[str]) -> list[bool | None]:
    """Whether each answer is what the case is about; None where that could not be decided."""
    if case.pattern is not None:
        pattern = re.compile(case.pattern)
        return [pattern.search(text) is not None for text in texts]
    if case.classifier is not None:
        function = norms.functions[case.classifier]
        takes_prompt = len(inspect.signature(function).parameters) > 1
        pairs = zip(prompts, texts, strict=True)
        return [_classified(function, (text, prompt) if takes_prompt else (text,), case) for prompt, text in pairs]
    assert norms.judge is not None and case.judge is not None
    judge = replace(norms.judge, criterion=f"10 if this is true of the answer, 0 if it is not: {case.judge}")
    grades = judge.grades(texts, [Row(prompt=prompt) for prompt in prompts])
    return [None if isinstance(grade, Fault) else grade >= 0.5 for grade in grades]


def _classified(function: Callable[..., Any], given: tuple[str, ...], case: Case) -> bool | None:
    try:
        value = function(*given)
        number = float(value)
    except Exception:
        return None
    if isinstance(value, bool):
        return value
    return None if math.isnan(number) else number >= case.threshold


def results(norms: NormsFile, base: Answers, tuned: Answers) -> Norms:
    """What the norms came to for both models."""
    made = []
    for number, (kind, case) in enumerate(norms.cases):
        before, after = base.norms[number], tuned.norms[number]
        prompts = [*case.asked, *([row.given for row in tuned.sample] if case.on else [])]
        broken = [place for place, held in enumerate(after) if not held]
        how = "pattern" if case.pattern is not None else "classifier" if case.classifier is not None else "judge"
        made.append(
            NormResult(
                name=case.name,
                kind=kind,
                how=f"{how}: {short(case.pattern or case.classifier or case.judge or '', 120)}",
                asked=len(after),
                base_held=sum(held is True for held in before),
                tuned_held=sum(held is True for held in after),
                undecided=sum(held is None for held in after),
                broken=[
                    ChangedRow(
                        place=f"{Path(norms.path).name}: {case.name}",
                        prompt=short(prompts[place]),
                        expected=f"{kind.replace('_', ' ')}: {case.name}",
                        base=short(base.norm_texts[number][place]),
                        tuned=short(tuned.norm_texts[number][place]),
                    )
                    for place in broken[:_SHOWN]
                ],
            )
        )
    return Norms(file=norms.path, sha256=norms.sha256, results=made)
