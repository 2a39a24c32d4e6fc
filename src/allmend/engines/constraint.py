"""Grammars that an answer must follow: JSON schemas, Lark grammars and regular expressions, through llguidance.

A grammar is a text in llguidance's own form; the functions here make and check it. An engine that follows grammars
keeps a `Constraint` for each answer, asks it before each token which ones may come, and tells it which one came.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from allmend.errors import InputError, Unavailable

if TYPE_CHECKING:
    import torch

LONGEST = 256 * 1024
"""Characters of a grammar; compiling takes time that grows with it."""


def of_schema(schema: Any, *, where: str = "response_format") -> str:
    """The grammar of a JSON schema, written without line breaks; raises `InputError` where nothing can meet it."""
    matcher = _library()
    try:
        text = json.dumps(schema)
        # A model that may write any white space can go on with it for ever.
        compact = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
        grammar = matcher.grammar_from_json_schema(text, overrides=compact)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"this is no JSON schema: {_first(error)}", where=where) from None
    return checked(grammar, where=where)


def of_lark(text: str, *, where: str = "response_format") -> str:
    """The grammar of a Lark text; raises `InputError` with the place of what is wrong."""
    return checked(_library().grammar_from_lark(text), where=where)


def of_regex(text: str, *, where: str = "response_format") -> str:
    """The grammar of a regular expression."""
    return checked(_library().grammar_from_regex(text), where=where)


def checked(grammar: str, *, where: str = "grammar") -> str:
    """`grammar`, if it is sound and something can meet it."""
    if len(grammar) > LONGEST:
        raise InputError(f"the grammar is longer than {LONGEST} characters", where=where)
    bad, messages = _library().validate_grammar_with_warnings(grammar)
    if bad:
        raise InputError(f"the grammar cannot be followed: {(messages or ['it is not sound'])[0][:500]}", where=where)
    return grammar


def as_lark(grammar: str) -> str:
    """A grammar of these functions as a Lark text, whatever it was made from."""
    if not grammar.lstrip().startswith("{"):
        return grammar
    (inner,) = json.loads(grammar)["grammars"]
    schema = inner.get("json_schema")
    return str(inner["lark_grammar"]) if schema is None else f"start: %json {json.dumps(schema)}"


def schema_of(grammar: str) -> dict[str, Any] | None:
    """The JSON schema that a grammar was made from; None where it was made from something else."""
    if not grammar.lstrip().startswith("{"):
        return None
    schema = json.loads(grammar)["grammars"][0].get("json_schema")
    return schema if isinstance(schema, dict) else None


def _library() -> Any:
    try:
        from llguidance import LLMatcher
    except ImportError:
        raise Unavailable("following a grammar needs llguidance", hint="pip install 'allmend[serve]'") from None
    return LLMatcher


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


class Constraints:
    """Makes the constraints of one model's answers; its vocabulary is read once, when the first is made.

    Args:
        ends: tokens that end an answer, all of which may come where the grammar is met; none is the tokeniser's own.
    """

    def __init__(self, tokenizer: Any, vocabulary: int, ends: Iterable[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._ends = sorted(token for token in ends if token < vocabulary) or None
        self._made: Any = None
        self._named: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, grammar: str) -> Constraint:
        """For one answer; raises `InputError` where the grammar is not sound."""
        matcher = _library()
        with self._lock:
            if self._made is None:
                from llguidance.hf import from_tokenizer

                self._made = from_tokenizer(self._tokenizer, n_vocab=self._vocabulary, eos_token=self._ends)
                added = self._tokenizer.added_tokens_decoder.items()
                self._named = [token.content for number, token in added if self._made.is_special_token(number)]
        met = [content for content in self._named if content in grammar]
        made = matcher(self._made, _by_token(grammar, met) if met else grammar)
        if made.is_error():
            raise InputError(f"the grammar cannot be followed: {made.get_error()[:500]}", where="grammar")
        return Constraint(made, self._vocabulary)


def _by_token(grammar: str, contents: Sequence[str]) -> str:
    """A grammar that can be followed although it holds texts that are tokens of their own, such as `<tool_call>`.

    llguidance matches such a token by its name alone, never by its text, and yet proposes it where it is sure which
    text comes next: what it proposes it then refuses. So a rule that is nothing but such a text names the token, which
    is what a model was taught to write; anywhere else the text is spelt out in smaller tokens, by proposing nothing.
    """
    grammar = as_lark(grammar)
    for content in contents:
        rule = re.compile(rf"^(\w+\s*:)\s*{re.escape(json.dumps(content))}\s*$", re.MULTILINE)
        grammar = rule.sub(lambda found, content=content: f"{found[1]} {content}", grammar)  # type: ignore[misc]
    return '%llguidance {"no_forcing": true}\n' + grammar


class Constraint:
    """What one answer may go on with."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary
        self._mask: Any = None

    def allow(self, logits: torch.Tensor) -> None:
        """Set the float32 logits [vocabulary] of tokens that may not come next to minus infinity, in place."""
        import numpy
        import torch
        from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

        if self._mask is None:
            self._mask = allocate_token_bitmask(1, self._vocabulary)
        fill_next_token_bitmask(self._matcher, self._mask)
        # llguidance's own for torch is compiled by torch, which takes longer than most answers.
        bits = numpy.unpackbits(self._mask.view(numpy.uint8)[0], bitorder="little", count=logits.shape[0])
        logits.masked_fill_(torch.from_numpy(bits).to(logits.device) == 0, float("-inf"))

    def took(self, token: int) -> None:
        """Note the token that came."""
        self._matcher.consume_token(token)

    @property
    def ended(self) -> bool:
        """Whether the answer is whole and nothing may follow."""
        return bool(self._matcher.is_stopped())

    @property
    def failure(self) -> str | None:
        """What went wrong on the way, if anything did: some grammars grow beyond what is allowed."""
        reason = str(self._matcher.stop_reason())
        stuck = self._matcher.is_error() or any(word in reason for word in ("Error", "TooComplex"))
        return (self._matcher.get_error() or reason) if stuck else None
