"""A learning rate to begin with, where none is given and none is searched.

The formula is Thinking Machines' (tinker-cookbook, `hyperparam_utils`; "LoRA Without Regret", 2025): best rates fitted
over fourteen models of the Llama and Qwen families, for LoRA on all linear layers with alpha 32 and the update scaled
by alpha / rank, which makes the best rate nearly independent of the rank; full fine-tuning wants a tenth of it.
"""

from __future__ import annotations

_BASE, _LORA, _WIDTH = 5e-5, 10.0, 2000
_STEEP, _FLAT = 0.781, 0.0775
MOST = 1e-3
"""Of 27 models in their sweep the best rate was never above this, and 3e-3 diverged."""


def first_rate(width: int, family: str, full: bool = False) -> tuple[float, str]:
    """Peak learning rate for a model with hidden states of `width`, and why.

    Args:
        family: transformers' `model_type`.
        full: all weights instead of a LoRA.
    """
    llama = family.startswith("llama")
    value = _BASE * _LORA * (_WIDTH / width) ** (_STEEP if llama else _FLAT)
    value = min(value, MOST) / (_LORA if full else 1)
    rounded = float(f"{value:.2g}")
    fitted = "Llama" if llama else "Qwen"
    like = "" if llama or family.startswith("qwen") else f", which stand in for {family} here"
    what = "all weights" if full else "LoRAs"
    return rounded, f"fitted to {what} of {fitted} models{like}, for hidden states of {width}; not searched"
