"""PEFT and transformers, through their own doors: `from_pretrained`, `apply_chat_template`, `generate`."""

from __future__ import annotations

import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from allmend.errors import Unavailable
from allmend.releases.parity.probes import Probe, Probes, Replies


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
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise CannotLoad(f"its tokenizer: {_words(error)}") from error


def _replies(model: Any, tokenizer: Any, probes: Probes) -> Replies:
    import torch

    texts, prompts, losses, labels = [], [], [], []
    answers: list[str] = []
    with torch.inference_mode():
        for row in probes.rows:
            text, prompt = _prompt(tokenizer, row)
            texts.append(text)
            prompts.append(prompt)
            scores = _scores(model, prompt, [row.answer, *probes.label_ids])
            losses.append(-scores[0] / len(row.answer))
            if probes.labels:
                labels.append(max(range(len(probes.labels)), key=scores[1:].__getitem__))
            if row.messages and len(answers) < probes.written:
                answers.append(_answer(model, tokenizer, prompt, probes.answer_tokens))
    return Replies(texts, prompts, losses, labels if probes.labels else None, answers)


def _prompt(tokenizer: Any, row: Probe) -> tuple[str, list[int]]:
    if not row.messages:
        return "", row.prompt
    try:
        messages = [dict(message) for message in row.messages]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return text, list(tokenizer(text, add_special_tokens=False)["input_ids"])
    except Exception as error:  # a template may raise anything, also on purpose
        raise CannotLoad(f"its chat template: {_words(error)}") from error


def _scores(model: Any, prompt: list[int], answers: list[list[int]]) -> list[float]:
    """Sum of log-probabilities of each answer. One pass for the first and for every answer of one token."""
    import torch

    sums: list[float] = []
    first: Any = None
    for answer in answers:
        if first is not None and len(answer) == 1:
            sums.append(float(first[answer[0]]))
            continue
        ids = torch.tensor([[*prompt, *answer]])
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(answer) + 1).logits[0, :-1].float()
        picked = logits.gather(1, torch.tensor(answer)[:, None])[:, 0] - logits.logsumexp(1)
        sums.append(float(picked.double().sum()))
        if first is None:
            first = logits[0].log_softmax(0)
    return sums


def _answer(model: Any, tokenizer: Any, prompt: list[int], count: int) -> str:
    import torch

    ids = torch.tensor([prompt])
    made = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False,
        top_k=None, top_p=None, temperature=None, pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id or 0,
    )  # fmt: skip
    return str(tokenizer.decode(made[0, len(prompt) :], skip_special_tokens=True))


def _words(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
