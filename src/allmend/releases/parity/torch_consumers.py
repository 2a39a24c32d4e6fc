"""PEFT and transformers, through their own doors: `from_pretrained`, `apply_chat_template`, `generate`."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from allmend.errors import Unavailable
from allmend.releases.parity.probes import Probe, Probes, Replies
from allmend.releases.tokenizer_files import tokenizer_of

_ROWS = 8
"""Rows that go together."""
_LOGITS = 1 << 26
"""Numbers of logits in memory at a time, at most."""


class CannotLoad(Exception):
    """The consumer refused the artefact; its words are the message."""


def by_peft(base: Any, folder: Path, probes: Probes) -> Replies:
    """The adapter folder on the base, as PEFT puts it there.

    Args:
        base: the base in memory, without any LoRA; PEFT's layers are taken out again.
    """
    try:
        from peft import PeftModel
    except ModuleNotFoundError:
        raise Unavailable("parity of the adapter needs peft", hint="pip install 'allmend[ship]'") from None
    begun = time.monotonic()
    tokenizer = _tokenizer(folder)
    try:
        with warnings.catch_warnings():
            # PEFT and transformers warn each other of names that will change; none of it is about this adapter.
            warnings.simplefilter("ignore", FutureWarning)
            model = PeftModel.from_pretrained(base, str(folder)).eval()
    except Exception as error:  # PEFT raises whatever its parsers raise
        raise CannotLoad(_words(error)) from error
    try:
        found = _replies(model, tokenizer, probes)
    finally:
        model.unload()
    found.consumer = f"PEFT {version('peft')}"
    found.seconds = time.monotonic() - begun
    return found


def by_transformers(folder: Path, probes: Probes, dtype: str = "float32") -> Replies:
    """A merged folder, loaded as any reader of it would."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    begun = time.monotonic()
    tokenizer = _tokenizer(folder)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, dtype), local_files_only=True, trust_remote_code=False, use_safetensors=True
        ).eval()
    except Exception as error:
        raise CannotLoad(_words(error)) from error
    found = _replies(model, tokenizer, probes)
    found.consumer = f"transformers {version('transformers')}"
    found.seconds = time.monotonic() - begun
    return found


def _tokenizer(folder: Path) -> Any:
    try:
        return tokenizer_of(folder)
    except Exception as error:
        raise CannotLoad(f"its tokenizer: {_words(error)}") from error


def _replies(model: Any, tokenizer: Any, probes: Probes) -> Replies:
    """Everything that is asked, several rows at a time where the model ignores what pads them."""
    import torch

    written = [_prompt(tokenizer, row) for row in probes.rows]
    prompts = [prompt for _, prompt in written]
    # A label of one token is read from the pass over the expected answer; the others need one of their own.
    longer = [place for place, label in enumerate(probes.label_ids) if len(label) > 1]
    short = [label[0] if len(label) == 1 else 0 for label in probes.label_ids]
    with torch.inference_mode():
        asked = [Asked(prompt, row.answer) for prompt, row in zip(prompts, probes.rows, strict=True)]
        most = _ROWS if _ignores_padding(model, asked) else 1
        found = _scored(model, asked, short, most)
        labels = [list(firsts) for _, firsts in found]
        for label in longer:
            ids = probes.label_ids[label]
            again = _scored(model, [Asked(prompt, ids) for prompt in prompts], [], most)
            for row, (total, _) in zip(labels, again, strict=True):
                row[label] = total
        talks = [prompt for prompt, row in zip(prompts, probes.rows, strict=True) if row.messages][: probes.written]
        answers: list[str] = []
        for start in range(0, len(talks), most):
            answers += _answers(model, tokenizer, talks[start : start + most], probes.answer_tokens)
    return Replies(
        [text for text, _ in written],
        prompts,
        [-total / len(row.answer) for (total, _), row in zip(found, probes.rows, strict=True)],
        [max(range(len(row)), key=row.__getitem__) for row in labels] if probes.labels else None,
        answers,
    )


def _prompt(tokenizer: Any, row: Probe) -> tuple[str, list[int]]:
    if not row.messages:
        return "", row.prompt
    try:
        messages = [dict(message) for message in row.messages]
        tools = [dict(tool) for tool in row.tools] if row.tools else None
        text = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True, tokenize=False)
        return text, list(tokenizer(text, add_special_tokens=False)["input_ids"])
    except Exception as error:  # a template may raise anything, also on purpose
        raise CannotLoad(f"its chat template: {_words(error)}") from error


@dataclass(frozen=True)
class Asked:
    """A prompt and the answer whose probability is asked for, as ids."""

    prompt: list[int]
    answer: list[int]


def _ignores_padding(model: Any, asked: list[Asked]) -> bool:
    """Whether the shortest row gives beside the longest what it gives alone: tried, since not every model does."""
    if len(asked) < _ROWS:
        return False
    ends = [min(asked, key=lambda one: len(one.prompt)), max(asked, key=lambda one: len(one.prompt))]
    alone, beside = _pass(model, ends[:1], [])[0][0], _pass(model, ends, [])[0][0]
    return abs(alone - beside) <= 1e-4 * max(1.0, abs(alone))


def _scored(model: Any, asked: list[Asked], tokens: list[int], most: int) -> list[tuple[float, list[float]]]:
    """For each: the sum of log-probabilities of the answer, and that of each of `tokens` as the first after the prompt.

    Rows of like length go together, `most` at a time and fewer where their logits would be many.
    """
    found: list[tuple[float, list[float]]] = [(0.0, [])] * len(asked)
    order = sorted(range(len(asked)), key=lambda place: (len(asked[place].answer), len(asked[place].prompt)))
    width = int(getattr(model.config.get_text_config(), "vocab_size", 1 << 18))
    while order:
        longest = len(asked[order[min(most, len(order)) - 1]].answer) + 1
        count = max(1, min(most, _LOGITS // (longest * width)))
        part, order = order[:count], order[count:]
        for place, value in zip(part, _pass(model, [asked[place] for place in part], tokens), strict=True):
            found[place] = value
    return found


def _pass(model: Any, asked: list[Asked], tokens: list[int]) -> list[tuple[float, list[float]]]:
    """One pass over rows padded on the left, so that their answers end together."""
    import torch

    inputs = _padded(model, [one.prompt + one.answer for one in asked])
    keep = max(len(one.answer) for one in asked) + 1
    if len(asked) > 1:
        inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp_min(0)
    logits = model(**inputs, use_cache=False, logits_to_keep=keep).logits.float()
    found = []
    for row, one in zip(logits, asked, strict=True):
        mine = row[-len(one.answer) - 1 : -1]
        answer = torch.tensor(one.answer, device=row.device)
        picked = mine.gather(1, answer[:, None])[:, 0] - mine.logsumexp(1)
        first = mine[0].log_softmax(0)
        found.append((float(picked.double().sum()), [float(first[token]) for token in tokens]))
    return found


def _padded(model: Any, rows: list[list[int]]) -> dict[str, Any]:
    import torch

    longest = max(map(len, rows))
    ids = [[0] * (longest - len(row)) + row for row in rows]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in rows]
    return {
        "input_ids": torch.tensor(ids, device=model.device),
        "attention_mask": torch.tensor(mask, device=model.device),
    }


def _answers(model: Any, tokenizer: Any, prompts: list[list[int]], count: int) -> list[str]:
    inputs = _padded(model, prompts)
    made = model.generate(
        **inputs, max_new_tokens=count, do_sample=False, top_k=None, top_p=None, temperature=None,
        pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id or 0,
    )  # fmt: skip
    start = inputs["input_ids"].shape[1]
    return [str(tokenizer.decode(row[start:], skip_special_tokens=True)) for row in made]


def _words(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
