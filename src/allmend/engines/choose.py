"""Which text engine answers: ours, llama.cpp or vLLM; chosen by format, adapters and device, with the reason."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from allmend.nouns.choice import Choice

Engine = Literal["auto", "torch", "llamacpp", "vllm"]


def choose(asked: Engine, *, format: str, cuda: bool, compiled: tuple[bool, str], architecture_known: bool) -> Choice:
    """The engine as a choice.

    Args:
        asked: what a person asked for; `auto` asks for the best.
        format: `gguf` or `safetensors`.
        cuda: whether torch can use a GPU.
        compiled: whether compiled steps can be had on this processor, and why.
        architecture_known: whether the file can be read into transformers.
    """

    def choice(value: str, reason: str) -> Choice:
        return Choice(name="engine", value=value, reason=reason)

    if asked != "auto":
        return choice(asked, "asked for")
    if cuda and format != "gguf" and find_spec("vllm") is not None:
        return choice("vllm", "vLLM is installed and there is a GPU")
    here = find_spec("xllamacpp") is not None
    if format == "gguf" and here and not architecture_known:
        return choice("llamacpp", "only llama.cpp reads a file of this architecture")
    if format == "gguf" and here and not cuda and not compiled[0]:
        return choice("llamacpp", f"steps cannot be compiled here ({compiled[1]}), and llama.cpp comes compiled")
    if cuda:
        return choice("torch", "there is a GPU, and vLLM is not installed")
    if compiled[0]:
        return choice("torch", "compiled steps read the weights once for all answers, whatever adapters they have")
    return choice("torch", f"steps cannot be compiled here ({compiled[1]}); answers go through transformers")
