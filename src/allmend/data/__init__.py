"""Rows of a person's own data: read, checked, divided, rendered, tokenised. No tensors.

    load(source, prompt_column=, completion_column=, skip_bad=, seed=, select=, held_out=,
         held_out_source=, most=) -> Dataset
        Dataset.examples (the noun), .train, .select, .held_out (lists of Row), .labels
    read_rows(source, …) -> Iterator[Row]          a stream; Reading(source, …) also tells shape, notes, skipped
    Row(prompt, completion, messages, text, place)  .kind, .given, .is_empty, .as_messages()
    split(rows, seed=, select=, held_out=) -> Split; overlap(train, held_out) -> places that leak; labels_of(rows)
    check(source, held_out=, tokenizer=, context=) -> DataReport
    Template.render(messages, add_generation_prompt=, bos_token=, eos_token=, tools=)
        .parts(row, bos_token=, eos_token=) -> (prompt, completion), .name, .text, .digest, .write(folder)
        PLAIN, template(name), read_template(folder or file), of_tokenizer(tokenizer)
    encode_rows(rows, tokenizer, template, context=) -> Iterator[Tokens]; encode(row, …)
    encode_prompt(messages, tokenizer, template, tools=) -> ids to generate from
        Tokens.ids, .mask (bytes, 1 where learned), .labels_from, .learned, .cut, .place

Names are imported on first use; numpy comes with `split` and `load`, Jinja with rendering.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allmend.data.checks import check
    from allmend.data.loading import load
    from allmend.data.reading import Reading, read_rows
    from allmend.data.rows import Dataset, Row, labels_of
    from allmend.data.splits import Split, overlap, split
    from allmend.data.templates import PLAIN, Template, of_tokenizer, template
    from allmend.data.templates import read as read_template
    from allmend.data.tokens import Tokens, encode, encode_prompt, encode_rows

_HOMES = {
    "check": "checks.check",
    "load": "loading.load",
    "Reading": "reading.Reading",
    "read_rows": "reading.read_rows",
    "Dataset": "rows.Dataset",
    "Row": "rows.Row",
    "labels_of": "rows.labels_of",
    "Split": "splits.Split",
    "overlap": "splits.overlap",
    "split": "splits.split",
    "PLAIN": "templates.PLAIN",
    "Template": "templates.Template",
    "of_tokenizer": "templates.of_tokenizer",
    "template": "templates.template",
    "read_template": "templates.read",
    "Tokens": "tokens.Tokens",
    "encode": "tokens.encode",
    "encode_prompt": "tokens.encode_prompt",
    "encode_rows": "tokens.encode_rows",
}

__all__ = [
    "PLAIN", "Dataset", "Reading", "Row", "Split", "Template", "Tokens", "check", "encode",
    "encode_prompt",
    "encode_rows",    "labels_of", "load", "of_tokenizer", "overlap", "read_rows", "read_template", "split", "template",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name in _HOMES:
        module, _, attribute = _HOMES[name].partition(".")
        value = getattr(importlib.import_module(f"allmend.data.{module}"), attribute)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'allmend.data' has no attribute {name!r}")
