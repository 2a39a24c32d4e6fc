"""What can be known about a data file before training on it: `check`, one small function a finding."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from allmend.data.findings import finding
from allmend.data.lengths import character_lengths, token_findings
from allmend.data.likeness import Likeness, key, likeness
from allmend.data.reading import Reading
from allmend.data.rows import Row, labels_of
from allmend.data.sensitive import sensitive_findings
from allmend.data.templates import PLAIN, Template, of_tokenizer
from allmend.data.tokens import stretches_of
from allmend.errors import InputError
from allmend.nouns.data_report import DataProblem, DataReport, Preview, ProblemId, ProblemSeverity, Unchecked
from allmend.redaction import redact

FEWEST_ROWS = 20
"""Below this a verdict on held-out rows says next to nothing."""

FEWEST_OF_LABEL = 10
_LOPSIDED = 0.9
_PREVIEW = 2000
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
) -> DataReport:
    """Look for everything that makes tuning on `source` fail, or its verdict wrong.

    Args:
        source: what `Reading` takes. Bad rows do not stop the check; they are findings.
        held_out: another file; rows of `source` that (nearly) repeat one of its rows are findings.
        prompt_column, completion_column: as for `Reading`.
        tokenizer: a transformers-like tokenizer; without one, tokens are not counted and the report says so.
        template: the chat template to count and preview with; the tokenizer's, or the plain one.
        context: longest row in tokens; needs a tokenizer.

    Raises `NotFound`, `UsageError`, and `InputError` when no row at all can be read.
    """
    reading = Reading(source, prompt_column=prompt_column, completion_column=completion_column, skip_bad=True,
                      allow_empty=True)  # fmt: skip
    rows = list(reading)
    if reading.shape is None:
        reasons = "; ".join(f"{skipped.place}: {skipped.reason}" for skipped in reading.skipped_rows)
        raise InputError("no row of it can be read", where=reading.name, hint=reasons or None)
    full = [row for row in rows if not row.is_empty]
    template = template or (PLAIN if tokenizer is None else of_tokenizer(tokenizer))
    labels = labels_of(full)
    alike = likeness([row.given for row in full])
    problems = [
        *_reading_findings(reading, rows, full),
        *_label_findings(full, labels),
        *_repeats(full, labels, alike),
    ]
    unchecked = []
    if held_out is None:
        unchecked.append(Unchecked(what="leakage into other files", why="no held-out file was named"))
    else:
        other = Reading(held_out, prompt_column=prompt_column, completion_column=completion_column, skip_bad=True)
        problems += _leaks(full, list(other))
        if other.skipped:
            why = f"they cannot be read; the first, {other.skipped_rows[0].place}: {other.skipped_rows[0].reason}"
            unchecked.append(Unchecked(what=f"{other.skipped} rows of the held-out file", why=why))
    problems += sensitive_findings(full)
    lengths = character_lengths(full)
    if tokenizer is None:
        unchecked.append(Unchecked(what="tokens, context, special tokens", why="no model was named to count with"))
    else:
        found, counted = token_findings(full, tokenizer, template, context)
        problems += found
        lengths += counted
        if context is None:
            unchecked.append(Unchecked(what="rows longer than the context", why="no context was given"))
    counts = Counter(row.completion for row in full) if labels is not None else None
    return DataReport(
        source=reading.source,
        sha256=reading.sha256(),
        kind=reading.shape.kind,
        rows=len(rows),
        columns=reading.shape.columns,
        labels=None if counts is None else dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        lengths=lengths,
        problems=sorted(problems, key=lambda problem: _ORDER[problem.severity]),
        unchecked=unchecked,
        preview=_preview(full, template, tokenizer),
        notes=reading.notes,
        held_out_source=None if held_out is None else str(held_out),
    )


def _reading_findings(reading: Reading, rows: list[Row], full: list[Row]) -> list[DataProblem]:
    bad = [Row(place=row.place) for row in reading.skipped_rows]
    found = []
    if bad:
        why = f"cannot be read; the first: {reading.skipped_rows[0].reason}"
        unreadable = finding("unreadable-rows", "blocking", why, bad, "Mend them, or leave them out with --skip-bad.")
        found += [one.model_copy(update={"count": reading.skipped}) for one in unreadable]
    empty = [row for row in rows if row.is_empty]
    fix = "--fix OUT leaves them out; so does --skip-bad when tuning."
    found += finding("empty-rows", "blocking", "the prompt, the completion or the text is empty", empty, fix)
    if len(full) < 3:
        why = "too few usable rows to divide them into training and held-out rows"
        found.append(_about_all("too-few-rows", "blocking", why, len(full), "Bring more rows."))
    elif len(full) < FEWEST_ROWS:
        why = "few usable rows: the interval of a verdict will be very wide"
        found.append(_about_all("too-few-rows", "warning", why, len(full), "Bring more; a hundred already help."))
    return found


def _about_all(name: ProblemId, severity: ProblemSeverity, message: str, count: int, fix: str) -> DataProblem:
    """A problem of the set as a whole, which names no rows."""
    return DataProblem(id=name, severity=severity, message=message, count=count, fix=fix)


def _label_findings(rows: list[Row], labels: list[str] | None) -> list[DataProblem]:
    if labels is None:
        return []
    by_label = defaultdict(list)
    for row in rows:
        by_label[row.completion].append(row)
    if len(labels) == 1:
        why = "every row has the same completion, so there is nothing to tell apart"
        return [_about_all("one-class", "blocking", why, len(rows), "Add rows of the other classes.")]
    found = []
    largest = max(len(by_label[label]) for label in labels)
    if largest > _LOPSIDED * len(rows):
        why = f"have one and the same label: always saying it is right {largest / len(rows):.0%} of the time"
        found.append(_about_all("class-balance", "warning", why, largest, "Add rows of the rarer classes."))
    rare = [row for label in labels if len(by_label[label]) < FEWEST_OF_LABEL for row in by_label[label]]
    why = f"have a label that fewer than {FEWEST_OF_LABEL} rows have"
    found += finding("rare-classes", "warning", why, rare, "Add rows of these labels, or merge them.")
    spellings = defaultdict(set)
    for label in labels:
        spellings[" ".join(label.casefold().split())].add(label)
    doubled = {label for group in spellings.values() if len(group) > 1 for label in group}
    written = [row for row in rows if row.completion in doubled]
    why = "have labels that differ only in letter case or spaces"
    return found + finding("label-variants", "warning", why, written, "Write each label one way.")


def _repeats(rows: list[Row], labels: list[str] | None, alike: Likeness) -> list[DataProblem]:
    """Duplicates, near duplicates, and the same prompt with other answers."""
    # Digests instead of texts: a million rows would otherwise be held twice.
    seen: set[int] = set()
    answers: dict[int, int] = {}
    again, differing, near = [], [], []
    first_of: dict[int, int] = {}
    for row, group, own in zip(rows, alike.groups.tolist(), alike.keys.tolist(), strict=True):
        question, answer = exact(row)
        asked, answered, both = key(question), key(answer), key(f"{question}\0{answer}")
        first = first_of.setdefault(group, own)
        if both in seen:
            again.append(row)
        elif answers.setdefault(asked, answered) != answered and row.text is None:
            differing.append(row)
        elif first != own:
            near.append(row)
        seen.add(both)
    why = "repeat an earlier row exactly (letter case and spaces aside)"
    found = finding("duplicates", "warning", why, again, "--fix OUT leaves them out.")
    if labels is not None:
        why = "give another label to a prompt that came before"
        fix = "Decide for one; at most one of them can be right."
        found += finding("conflicting-labels", "warning", why, differing, fix)
    else:
        found += finding("several-answers", "note", "answer a prompt that came before differently", differing)
    fix = "Nothing: they stay on one side of the split."
    return found + finding("near-duplicates", "note", "nearly repeat an earlier row", near, fix)


def _leaks(rows: list[Row], held_out: list[Row]) -> list[DataProblem]:
    alike = likeness([row.given for row in (*rows, *held_out)])
    keys, groups = alike.keys.tolist(), alike.groups.tolist()
    held_keys, held_groups = set(keys[len(rows) :]), set(groups[len(rows) :])
    exactly = [row for row, own in zip(rows, keys, strict=False) if own in held_keys]
    nearly = [row for row, own, group in zip(rows, keys, groups, strict=False)
              if own not in held_keys and group in held_groups]  # fmt: skip
    fix = "tune leaves them out of training when it gets the held-out file."
    return [
        *finding("leakage", "warning", "also stand in the held-out file", exactly, fix),
        *finding("near-leakage", "warning", "nearly repeat a row of the held-out file", nearly, fix),
    ]


def exact(row: Row) -> tuple[str, str]:
    """What makes two rows the same row: prompt (or text) and completion, letter case and spaces aside."""
    return " ".join(row.given.casefold().split()), " ".join(row.completion.split())


def _preview(rows: Sequence[Row], template: Template, tokenizer: Any) -> Preview | None:
    if not rows:
        return None
    row = rows[0]
    if row.text is not None:
        learned = redact(row.text)[:_PREVIEW]
        return Preview(place=row.place, template="none", given="", learned=learned, parts=[(learned, True)])
    bos = getattr(tokenizer, "bos_token", None) or ""
    eos = getattr(tokenizer, "eos_token", None) or "<end of text>"
    try:
        given, learned = template.parts(row, bos_token=bos, eos_token=eos)
        parts = [(given, False), (learned, True)] if tokenizer is None else stretches_of(row, tokenizer, template)
    except InputError:
        return None
    return Preview(place=row.place, template=template.name, given=redact(given)[-_PREVIEW:],
                   learned=redact(learned)[:_PREVIEW],
                   parts=[(redact(text)[:_PREVIEW], learns) for text, learns in parts if text])  # fmt: skip
