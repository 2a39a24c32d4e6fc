"""The tokenizer in GGUF's keys: copied from the GGUF that the base came from, or made from `tokenizer.json`.

llama.cpp splits text by a named rule (`tokenizer.ggml.pre`); a tokenizer whose rule has no name there is refused,
and every file's token ids are compared with the tokenizer's own on held-out prompts before it is blessed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from allmend.errors import InputError, Unavailable
from allmend.releases.gguf.reader import Header, Value

_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_TEXT, _WORD, _REAL, _TRUTH, _LIST, _NUMBER = 8, 4, 6, 7, 9, 5

_SPLITS = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+": "llama-bpe",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+": "qwen2",
}
"""Regular expression of a tokenizer's split: llama.cpp's name for it."""


def copied(base: Header) -> dict[str, Value]:
    """The tokenizer of another GGUF, as it is, without its chat template."""
    return {
        key: value
        for key, value in base.values.items()
        if key.startswith("tokenizer.") and not key.startswith("tokenizer.chat_template")
    }


def made(folder: Path, tokenizer: Any, rows: int, adds_bos: bool) -> dict[str, Value]:
    """The tokenizer of a model folder.

    Args:
        rows: of the embedding; ids beyond the tokenizer's are filled with unused names.
        adds_bos: whether texts begin with the begin mark.
    """
    spec = _spec(folder)
    model = spec["model"]
    if model.get("type") != "BPE":
        raise Unavailable(
            f"a tokenizer of kind {model.get('type')!r} is not written to GGUF", hint="Ship without --gguf."
        )
    added = {int(token["id"]): token for token in spec.get("added_tokens", [])}
    vocabulary = {int(place): text for text, place in model["vocab"].items()}
    vocabulary |= {place: token["content"] for place, token in added.items()}
    if max(vocabulary) >= rows:
        raise InputError(f"the tokenizer has token {max(vocabulary)}, the model {rows} rows", where=str(folder))
    spaced = _is_spaced(spec)
    texts, kinds = [], []
    for place in range(rows):
        text = vocabulary.get(place)
        texts.append(f"[PAD{place}]" if text is None else text)
        kinds.append(_kind(place, text, added, spaced, model.get("unk_token")))
    values = {
        "tokenizer.ggml.model": Value(_TEXT, "llama" if spaced else "gpt2"),
        "tokenizer.ggml.pre": Value(_TEXT, "default" if spaced else _pre(spec)),
        "tokenizer.ggml.tokens": Value(_LIST, texts, _TEXT),
        "tokenizer.ggml.token_type": Value(_LIST, kinds, _NUMBER),
    }
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model.get("merges") or []]
    if spaced:
        values["tokenizer.ggml.scores"] = Value(_LIST, _scores(texts, merges), _REAL)
        values["tokenizer.ggml.add_space_prefix"] = Value(_TRUTH, _prefixes(spec))
    else:
        # llama.cpp wants merges and the format no empty list; this one joins symbols that never stand alone.
        values["tokenizer.ggml.merges"] = Value(_LIST, merges or ["<none> <none>"], _TEXT)
    for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        mark = getattr(tokenizer, f"{name}_token_id", None)
        if mark is not None:
            values[f"tokenizer.ggml.{key}_token_id"] = Value(_WORD, int(mark))
    values["tokenizer.ggml.add_bos_token"] = Value(_TRUTH, adds_bos)
    values["tokenizer.ggml.add_eos_token"] = Value(_TRUTH, False)
    return values


def _spec(folder: Path) -> dict[str, Any]:
    try:
        spec: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        if not isinstance(spec["model"]["vocab"], dict):
            raise ValueError("its vocabulary is no table")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Unavailable(
            f"GGUF needs the tokenizer as tokenizer.json: {error}", where=str(folder), hint="Ship without --gguf."
        ) from None
    return spec


def _steps(part: Any) -> list[dict[str, Any]]:
    if not isinstance(part, dict):
        return []
    for name in ("pretokenizers", "normalizers", "decoders"):
        if name in part:
            return [step for inner in part[name] for step in _steps(inner)]
    return [part]


def _is_spaced(spec: dict[str, Any]) -> bool:
    """SentencePiece's manner: spaces as `▁`, bytes as `<0x0A>`; the other is GPT-2's, bytes as letters."""
    return "<0x0A>" in spec["model"]["vocab"] and not any(
        step.get("type") == "ByteLevel" for step in _steps(spec.get("pre_tokenizer"))
    )


def _prefixes(spec: dict[str, Any]) -> bool:
    steps = [*_steps(spec.get("normalizer")), *_steps(spec.get("pre_tokenizer"))]
    return any(
        step.get("type") == "Prepend" or step.get("prepend_scheme", "never") in ("always", "first") for step in steps
    )


def _pre(spec: dict[str, Any]) -> str:
    for step in _steps(spec.get("pre_tokenizer")):
        if step.get("type") == "Split":
            pattern = step.get("pattern", {}).get("Regex", "")
            if pattern in _SPLITS:
                return _SPLITS[pattern]
            raise Unavailable(
                "llama.cpp has no name for the rule by which this tokenizer splits text", hint="Ship without --gguf."
            )
        if step.get("type") == "ByteLevel" and step.get("use_regex", True):
            return "gpt-2"
    if spec["model"].get("merges"):
        raise Unavailable("llama.cpp has no rule that leaves text whole before merging", hint="Ship without --gguf.")
    return "gpt-2"  # Without merges every character is a token, however text is split.


def _kind(place: int, text: str | None, added: dict[int, Any], spaced: bool, unknown: str | None) -> int:
    if text is None:
        return _UNUSED
    if place in added:
        return _CONTROL if added[place].get("special") else _USER
    if text == unknown:
        return _UNKNOWN
    if spaced and len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        return _BYTE
    return _NORMAL


def _scores(texts: list[str], merges: list[str]) -> list[float]:
    """A piece that is merged earlier scores higher, which is the order in which llama.cpp merges."""
    rank: dict[str, int] = {}
    for place, pair in enumerate(merges):
        rank.setdefault(pair.replace(" ", "", 1), place)
    last = len(merges)
    return [-float(rank.get(text, last + place)) for place, text in enumerate(texts)]
