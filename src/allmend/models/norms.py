"""What the norms of a decoder multiply by, for those who compute them by themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Unlike(Exception):
    """This model is not of the shape that is known; the message says in which part."""


def eps_of(norm: Any) -> float:
    """What an RMS norm adds to the mean square. Raises `Unlike` where it does not say."""
    value = getattr(norm, "variance_epsilon", None) or getattr(norm, "eps", None)
    if value is None:
        raise Unlike(f"the norm {type(norm).__name__}")
    return float(value)


@torch.no_grad()
def multiplier_of(norm: Any) -> Tensor:
    """What an RMS norm multiplies by, (D,) fp32: its weight, or one more; found by trying. Raises `Unlike`."""
    weight = norm.weight.detach().float()
    x = torch.linspace(-2, 3, weight.numel(), device=weight.device).to(norm.weight.dtype)
    unit = x.float() * torch.rsqrt(x.float().pow(2).mean() + eps_of(norm))
    has = norm(x.unsqueeze(0))[0].float()
    for scale in (weight, weight + 1):
        if torch.allclose(has, unit * scale, rtol=2e-2, atol=1e-3):
            found: Tensor = scale.contiguous()
            return found
    raise Unlike(f"the norm {type(norm).__name__}")
