"""From a row to token ids with a mask: which tokens are learned from, and which are only read.

Text that is given and text that is learned are tokenised apart, so the boundary between them is where generation
will find it: the ids of the given part are exactly those of the prompt at answering time. One beginning-of-text
mark if the tokenizer uses one, an end mark after each answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

from allmend.data.rows import Message, Row
from allmend.data.templates import Template
from allmend.errors import DoesNotFit, InputError

_AT_ONCE = 512
_TEMPLATE_HINT = "Mend the template, or name another with --template; allmend-plain/1 is always there."


@dataclass(frozen=True, slots=True)
class Tokens:
    """One row (or one window of a long text), ready to learn from."""

    ids: list[int]
    mask: bytes
    """1 for each id that is learned (predicted with loss), 0 for each that is only read."""
    place: str = ""
    """The row's `file:line`."""
    cut: int = 0
    """Tokens left out from the start of the prompt because the row was longer than the context."""

    @property
    def labels_from(self) -> int:
        """Index of the first learned id."""
        return self.mask.index(1)

    @property
    def learned(self) -> int:
        """How many ids are learned."""
        return self.mask.count(1)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Marks:
    """What a tokenizer puts at the ends of a text."""

    bos: int | None
    """Id to begin with; None when the tokenizer has none."""
    adds_bos: bool
    """Whether the tokenizer begins texts with it, where the template does not."""
    eos: int
    bos_text: str
    eos_text: str
    endings: tuple[str, ...]
    """Texts of all special tokens."""
    special_ids: frozenset[int]
    """Their ids."""

    def begin(self, text: str) -> tuple[list[int], str]:
        """Ids to begin with, and `text` without the mark a template wrote: there is exactly one or none."""
        if self.bos is None:
            return [], text
        if self.bos_text and text.startswith(self.bos_text):
            return [self.bos], text.removeprefix(self.bos_text)
        return ([self.bos] if self.adds_bos else []), text


def marks(tokenizer: Any) -> Marks:
    """The marks of a transformers-like tokenizer, read once; raises `InputError` when it has no end-of-text token."""
    try:
        known = _known.get(tokenizer)
    except TypeError:  # not hashable, or no weak references to it
        return _read_marks(tokenizer)
    if known is None:
        known = _known[tokenizer] = _read_marks(tokenizer)
    return known


_known: WeakKeyDictionary[Any, Marks] = WeakKeyDictionary()
"""Some tokenizers list thousands of special tokens, which takes milliseconds each time they are asked."""


def _read_marks(tokenizer: Any) -> Marks:
    eos = tokenizer.eos_token_id
    if eos is None:
        raise InputError(
            "the model's tokenizer has no end-of-text token, so answers could never end",
            where="tokenizer_config.json",
            hint="Name its eos_token there, or take another model.",
        )
    bos = getattr(tokenizer, "bos_token_id", None)
    begun = _encode(tokenizer, ["a"], special=True)[0] if bos is not None else []
    special = {int(eos): str(tokenizer.eos_token)}
    names = getattr(tokenizer, "all_special_tokens", None) or ()
    special.update(zip(map(int, getattr(tokenizer, "all_special_ids", None) or ()), map(str, names), strict=False))
    for number, token in (getattr(tokenizer, "added_tokens_decoder", None) or {}).items():
        if getattr(token, "special", False):
            special[int(number)] = str(token)
    return Marks(
        bos=None if bos is None else int(bos),
        adds_bos=bool(begun) and begun[0] == bos,
        eos=int(eos),
        bos_text=str(getattr(tokenizer, "bos_token", None) or ""),
        eos_text=str(tokenizer.eos_token),
        endings=tuple(sorted({text for text in special.values() if text})),
        special_ids=frozenset(special),
    )


_NO_MARKS = Marks(None, False, 0, "", "<end of text>", ("<end of text>",), frozenset())


def encode_rows(
    rows: Iterable[Row], tokenizer: Any, template: Template, *, context: int | None = None
) -> Iterator[Tokens]:
    """`Tokens` of every row, in order. Conversations learn from each answer; plain text from all of it.

    A row longer than `context` tokens loses the start of its prompt (`cut` says how many tokens); answers are
    never cut: `DoesNotFit` names the row whose answer alone is too long. Plain text longer than `context` gives
    several windows. Raises `InputError` naming a row that has nothing to learn from."""
    ends = marks(tokenizer)
    source = iter(rows)
    while batch := list(islice(source, _AT_ONCE)):
        stretches = [_stretches(row, template, ends) for row in batch]
        encoded = iter(_encode(tokenizer, [text for _, parts in stretches for text, _ in parts]))
        for row, (begins, parts) in zip(batch, stretches, strict=True):
            pieces = [(next(encoded), learned) for _, learned in parts]
            if row.text is None:
                yield _assembled(row, begins, pieces, ends, context)
            else:
                yield from _windows(row, begins, pieces[0][0], ends, context)


def encode(row: Row, tokenizer: Any, template: Template, *, context: int | None = None) -> Tokens:
    """`Tokens` of one row; of a plain text longer than `context`, the first window."""
    return next(encode_rows([row], tokenizer, template, context=context))


def encode_prompt(messages: Sequence[Message], tokenizer: Any, template: Template, *, tools: Any = None) -> list[int]:
    """Ids to generate an answer from: the same as the given part of a row that was trained on."""
    ends = marks(tokenizer)
    text = template.render(messages, add_generation_prompt=True, tools=tools,
                           bos_token=ends.bos_text, eos_token=ends.eos_text)  # fmt: skip
    begins, text = ends.begin(text)
    return begins + _encode(tokenizer, [text])[0]


def stretches_of(row: Row, tokenizer: Any, template: Template) -> list[tuple[str, bool]]:
    """The row's text as training sees it, in stretches (text, learned), without what the tokenizer puts before.

    Args:
        tokenizer: None writes `<end of text>` for the mark that a model would have.
    """
    return _stretches(row, template, _NO_MARKS if tokenizer is None else marks(tokenizer))[1]


def _stretches(row: Row, template: Template, ends: Marks) -> tuple[list[int], list[tuple[str, bool]]]:
    """Ids to begin with, and the row's text in stretches (text, learned): joined they are the rendered row."""
    if row.text is not None:
        begins, text = ends.begin(row.text)
        return begins, [(text, True)]
    render = partial(template.render, tools=row.tools, bos_token=ends.bos_text, eos_token=ends.eos_text)
    messages = row.as_messages()
    full = render(messages)
    stretches: list[tuple[str, bool]] = []
    written = 0
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = render(messages[:number], add_generation_prompt=True)
        after = full if number == len(messages) - 1 else render(messages[: number + 1])
        # Some templates rewrite earlier turns (they drop old reasoning): such an answer is read, not learned.
        # A weight of 0 is how OpenAI's format marks an answer that is not to be learned.
        wanted = message.get("weight") != 0
        if wanted and full.startswith(after) and after.startswith(before) and len(before) >= written:
            answer, rest = _answer_and_rest(after[len(before) :], ends)
            stretches += [(full[written : len(before)], False), (answer, True)]
            written = len(after) - len(rest)
    if written < len(full.rstrip()):
        stretches.append((full[written:], False))
    if not any(learned for _, learned in stretches):
        raise InputError(
            "the chat template leaves every answer out, or writes it where its own prompt does not end, so nothing of "
            "the row can be learned",
            where=row.place or template.name,
            hint=_TEMPLATE_HINT,
        )
    begins, stretches[0] = _begun(stretches[0], ends)
    return begins, stretches


def _begun(stretch: tuple[str, bool], ends: Marks) -> tuple[list[int], tuple[str, bool]]:
    begins, text = ends.begin(stretch[0])
    return begins, (text, stretch[1])


def _answer_and_rest(answer: str, ends: Marks) -> tuple[str, str]:
    """An answer up to and with its end mark, and the blank that the template writes behind it."""
    trimmed = answer.rstrip()
    if trimmed.endswith(ends.endings):
        return trimmed, answer[len(trimmed) :]
    return answer, ""


def _assembled(
    row: Row, begins: list[int], pieces: list[tuple[list[int], bool]], ends: Marks, context: int | None
) -> Tokens:
    ids, mask = list(begins), bytearray(len(begins))
    for piece, learned in pieces:
        ids += piece
        mask += bytes([learned]) * len(piece)
    if row.messages is None and not row.completion.strip():
        raise InputError("the row has no completion to learn from", where=row.place or None)
    if not any(mask):
        raise InputError(
            "the chat template leaves the row's answer out, so nothing of it would be learned",
            where=row.place or None,
            hint=_TEMPLATE_HINT,
        )
    if mask[-1] and ids[-1] not in ends.special_ids:
        ids.append(ends.eos)
        mask.append(1)
    keep = len(begins)
    cut = max(0, len(ids) - context) if context is not None else 0
    if cut:
        if cut > mask.index(1) - keep:
            raise DoesNotFit(
                f"the row has {len(ids)} tokens, {len(ids) - mask.index(1)} of them from its first answer on, "
                f"and the context holds {context}",
                where=row.place or None,
                hint="Shorten the answer, allow a longer context, or leave the row out.",
            )
        del ids[keep : keep + cut], mask[keep : keep + cut]
    return Tokens(ids, bytes(mask), row.place, cut)


def _windows(row: Row, begins: list[int], ids: list[int], ends: Marks, context: int | None) -> Iterator[Tokens]:
    """A plain text with its marks, in windows of at most `context` tokens that do not overlap."""
    if not ids:
        raise InputError("the row has no text to learn from", where=row.place or None)
    ids = [*ids, ends.eos]
    size = len(ids) if context is None else context - len(begins)
    if size < 1:
        raise DoesNotFit(f"a context of {context} tokens holds no text", where=row.place or None)
    for start in range(0, len(ids), size):
        piece = ids[start : start + size]
        yield Tokens(begins + piece, bytes(len(begins)) + b"\1" * len(piece), row.place)


def _encode(tokenizer: Any, texts: list[str], *, special: bool = False) -> list[list[int]]:
    """Ids of each text, without marks unless `special`. Long texts are expected: no warnings about lengths."""
    if not texts:
        return []
    encoded = tokenizer(texts, add_special_tokens=special, return_attention_mask=False, verbose=False)
    return [list(ids) for ids in encoded["input_ids"]]
