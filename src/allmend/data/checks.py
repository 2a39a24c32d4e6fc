"""What can be known about a data file before training on it: `check`.

The rows go by once. Each check sees them one by one and keeps counts, digests and the first few places, so that a
million rows need no more memory than a laptop has to spare: some 180 bytes a row, however long the rows are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from allmend.data.classes import Classes
from allmend.data.findings import Found, about_all, finding
from allmend.data.lengths import CharacterLengths, TokenLengths
from allmend.data.previews import MOST, Previews
from allmend.data.reading import Reading
from allmend.data.repeats import Repeats
from allmend.data.sensitive import Sensitive
from allmend.data.templates import PLAIN, Template, of_tokenizer
from allmend.errors import InputError
from allmend.nouns.data_report import DataProblem, DataReport, Unchecked

FEWEST_ROWS = 20
"""Below this a verdict on held-out rows says next to nothing."""

_AS_UTF8 = "Save it as UTF-8; from Windows usually: iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW."
_ORDER = {"blocking": 0, "warning": 1, "note": 2}


def check(
    source: str | Path,
    *,
    held_out: str | Path | None = None,
    prompt_column: str | None = None,
    completion_column: str | None = None,
    tokenizer: Any = None,
    template: Template | None = None,
    context: int | None = None,
    preview: int = MOST,
) -> DataReport:
    """Look for everything that makes tuning on `source` fail, or its verdict wrong.

    Args:
        source: what `Reading` takes. Bad rows do not stop the check; they are findings.
        held_out: another file; rows of `source` that (nearly) repeat one of its rows are findings.
        prompt_column, completion_column: as for `Reading`.
        tokenizer: a transformers-like tokenizer; without one, tokens are not counted and the report says so.
        template: the chat template to count and preview with; the tokenizer's, or the plain one.
        context: longest row in tokens; needs a tokenizer.
        preview: rows to show as training sees them.

    Raises `NotFound`, `UsageError`, `InputError` when no row at all can be read, and `DoesNotFit` when there is no
    room for temporary files.
    """
    reading = Reading(source, prompt_column=prompt_column, completion_column=completion_column, skip_bad=True,
                      allow_empty=True)  # fmt: skip
    named = template is not None or tokenizer is not None
    template = template or (PLAIN if tokenizer is None else of_tokenizer(tokenizer))
    rows, empty = 0, Found()
    undescribed = Found()
    previews = Previews(template, tokenizer, context, preview)
    classes, sensitive, characters = Classes(), Sensitive(), CharacterLengths()
    repeats = Repeats(reading.name)
    tokens = None if tokenizer is None else TokenLengths(tokenizer, template, context, previews)
    for row in reading:
        rows += 1
        if row.is_empty:
            empty.add(row.place)
            continue
        if row.tools and not template.writes_tools:
            undescribed.add(row.place)
        for each in (classes, repeats, sensitive, characters, tokens or previews):
            each.look(row)
    if reading.shape is None:
        hint = _AS_UTF8 if any("not UTF-8" in bad.reason for bad in reading.skipped_rows) else None
        raise InputError(f"no row of it can be read{_first_of(reading)}", where=reading.name, hint=hint)
    labels = classes.labels
    problems = [
        *_reading_findings(reading, empty, rows - empty.count),
        *classes.findings(),
        *repeats.findings(labels is not None),
    ]
    unchecked: list[Unchecked] = []
    for found, left in (
        _tools(template, undescribed, named),
        _leaks(repeats, held_out, prompt_column, completion_column),
        (sensitive.findings(), []),
        _lengths(tokens, context),
    ):
        problems += found
        unchecked += left
    return DataReport(
        source=reading.source,
        sha256=reading.sha256(),
        kind=reading.shape.kind,
        rows=rows,
        columns=reading.shape.columns,
        labels=labels,
        lengths=characters.lengths() + (tokens.lengths() if tokens is not None else []),
        problems=sorted(problems, key=lambda problem: _ORDER[problem.severity]),
        unchecked=unchecked,
        previews=previews.chosen(labels is not None),
        notes=reading.notes,
        held_out_source=None if held_out is None else str(held_out),
    )


Seen = tuple[list[DataProblem], list[Unchecked]]
"""What was found, and what was not looked at."""


def _tools(template: Template, undescribed: Found, named: bool) -> Seen:
    if named:
        why = f"describe tools, which the chat template {template.name} does not write: the model never sees them"
        fix = "Name a template that does with --template."
        return finding("undescribed-tools", "warning", why, undescribed, fix), []
    if undescribed.count:
        return [], [Unchecked(what="whether the chat template writes the tools", why="no model was named")]
    return [], []


def _leaks(
    repeats: Repeats, held_out: str | Path | None, prompt_column: str | None, completion_column: str | None
) -> Seen:
    if held_out is None:
        return [], [Unchecked(what="leakage into other files", why="no held-out file was named")]
    other = Reading(held_out, prompt_column=prompt_column, completion_column=completion_column, skip_bad=True)
    found = repeats.leaks(other)
    if not other.skipped:
        return found, []
    why = f"they cannot be read; the first, {other.skipped_rows[0].place}: {other.skipped_rows[0].reason}"
    return found, [Unchecked(what=f"{other.skipped} rows of the held-out file", why=why)]


def _lengths(tokens: TokenLengths | None, context: int | None) -> Seen:
    if tokens is None:
        return [], [Unchecked(what="tokens, context, special tokens", why="no model was named to count with")]
    unknown = (
        [] if context is not None else [Unchecked(what="rows longer than the context", why="no context was given")]
    )
    return tokens.findings(), unknown


def _first_of(reading: Reading) -> str:
    first = next(iter(reading.skipped_rows), None)
    return f"; the first, {first.place}: {first.reason}" if first else ""


def _reading_findings(reading: Reading, empty: Found, usable: int) -> list[DataProblem]:
    found = []
    if reading.skipped:
        bad = Found()
        for skipped in reading.skipped_rows:
            bad.add(skipped.place)
        bad.count = reading.skipped
        why = f"cannot be read; the first: {reading.skipped_rows[0].reason}"
        fix = "Mend them, or leave them out with --skip-bad."
        if "not UTF-8" in reading.skipped_rows[0].reason:
            fix = f"{_AS_UTF8} Or leave them out with --skip-bad."
        found += finding("unreadable-rows", "blocking", why, bad, fix)
    fix = "--fix OUT leaves them out; so does --skip-bad when tuning."
    found += finding("empty-rows", "blocking", "the prompt, the completion or the text is empty", empty, fix)
    if usable < 3:
        why = "too few usable rows to divide them into training and held-out rows"
        found.append(about_all("too-few-rows", "blocking", why, usable, "Bring more rows."))
    elif usable < FEWEST_ROWS:
        why = "few usable rows: the interval of a verdict will be very wide"
        found.append(about_all("too-few-rows", "warning", why, usable, "Bring more; a hundred already help."))
    return found
