"""`allmend data check`: what is wrong with a data file, before any training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from allmend.errors import UsageError
from allmend.verbs.settings import Settings

if TYPE_CHECKING:
    from allmend.nouns.data_report import DataReport


class DataCheckSettings(Settings):
    """Settings of `allmend data check`."""

    held_out: Path | None = None
    """Another file that must share no rows with this one."""

    prompt_column: str | None = None
    """Column or field that is the prompt, where it cannot be told."""

    completion_column: str | None = None
    """Column or field that is the completion."""

    model: str | None = None
    """Count tokens as this model does, with its chat template; without it tokens are not counted."""

    context: int | None = Field(None, ge=8)
    """Longest row in tokens; needs a model."""

    preview: Annotated[int, Field(ge=0, le=100)] = 4
    """Rows to show as training sees them: the first, one that the context cuts, the longest, one of each label."""

    fix: Path | None = None
    """Write a cleaned copy here (.jsonl or .csv): without exact duplicates, empty and unreadable rows."""


def data_check(
    source: str | Path,
    *,
    held_out: str | Path | None = None,
    prompt_column: str | None = None,
    completion_column: str | None = None,
    model: str | None = None,
    context: int | None = None,
    preview: int = 4,
    fix: str | Path | None = None,
) -> DataReport:
    """Check the rows of `source`; see `DataCheckSettings` for the keywords.

    Raises `NotFound`, `UsageError`, and `InputError` when no row can be read.
    """
    from allmend.data.checks import check
    from allmend.data.cleaning import check_target, write_clean

    if fix is not None:
        if str(source) == "-":
            raise UsageError("a pipe cannot be read again to clean it", where="--fix", hint="Save it as a file.")
        check_target(fix)
    if context is not None and model is None:
        raise UsageError("tokens are counted by a model", where="--context", hint="Name it with --model.")
    report = check(source, held_out=held_out, prompt_column=prompt_column, completion_column=completion_column,
                   tokenizer=_tokenizer(model), context=context, preview=preview)  # fmt: skip
    if fix is None:
        return report
    rows = write_clean(source, fix, prompt_column=prompt_column, completion_column=completion_column)
    return report.model_copy(update={"fixed": str(fix) if rows else None, "fixed_rows": rows})


def _tokenizer(model: str | None) -> Any:
    if model is None:
        return None
    from allmend.models import resolve
    from allmend.models.loading import load_tokenizer

    return load_tokenizer(resolve(model))
