"""Calling `kernels.cpp`; without a compiler the torch operations of `chains` do the same work."""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from allmend import compiling
from allmend.models.quantised import NF4
from allmend.tuning.fast.chains import Kind, Turn

# Reassociation lets reductions use vector registers; NaN and infinity keep their meaning.
_FLAGS = (
    "-std=c++20", "-O3", "-march=native", "-fPIC", "-shared", "-fopenmp",
    "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math",
)  # fmt: skip
_SUFFIX = {torch.float32: "f32", torch.bfloat16: "bf16"}
_KINDS = {"silu": 0, "gelu_tanh": 1}


@cache
def library() -> tuple[ctypes.CDLL | None, str]:
    """The compiled kernels and where they come from, or None and why not; the first call takes two seconds."""
    return compiling.library("allmend.tuning.fast", "kernels.cpp", _FLAGS, _typed, openmp=True)


_I, _L, _F, _P = ctypes.c_int, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
_SIGNATURES = {
    "add_norm": (_I, _L, _L, _F, _P, _P, _P, _P, _P, _P, _P, _L, _P),
    "norm_grad": (_I, _L, _L, _P, _L, _P, _P, _P, _P, _P, _L),
    "glu": (_I, _L, _L, _I, _P, _P, _L),
    "glu_grad": (_I, _L, _L, _I, _P, _P, _P, _L, _P),
    "gather_heads": (_I, _L, _L, _L, _L, _L, _P, _L, _P, _P, _P, _P, _P, _F, _P),
    "scatter_heads": (_I, _L, _L, _L, _L, _L, _P, _P, _P, _L),
    "add_heads": (_I, _L, _L, _L, _L, _P, _P, _P, _L),
    "heads_grad": (_I, _L, _L, _L, _P, _L, _P, _L, _P, _P, _P, _P, _F),
    "softmax": (_I, _L, _L, _L, _L, _L, _L, _F, _P),
    "softmax_grad": (_I, _L, _L, _F, _P, _P),
    "unpack8": (_I, _L, _L, _L, _P, _P, _P, _L),
    "unpack4": (_I, _L, _L, _L, _P, _P, _P, _P, _L),
}


def _typed(compiled: ctypes.CDLL) -> None:
    for name, signature in _SIGNATURES.items():
        for suffix in _SUFFIX.values():
            function = getattr(compiled, f"{name}_{suffix}")
            function.argtypes, function.restype = signature, None


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


class NativeChains:
    """`Chains` compiled; rows of inputs named `x`, `resid`, `both`, `delta` and `add` must lie without gaps."""

    name = "native"

    def __init__(self, compiled: ctypes.CDLL) -> None:
        self._compiled = compiled

    def _call(self, name: str, dtype: torch.dtype, *arguments: object) -> None:
        getattr(self._compiled, f"{name}_{_SUFFIX[dtype]}")(torch.get_num_threads(), *arguments)

    def add_norm(
        self,
        resid: Tensor,
        delta: Tensor | None,
        post: Tensor | None,
        next: Tensor | None,
        out: Tensor | None,
        eps: float,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """See `Chains`."""
        rows, width = resid.shape
        sums = resid if delta is None else torch.empty_like(resid)
        root_post = None if post is None or delta is None else resid.new_empty(rows, dtype=torch.float32)
        root_next = None if next is None else resid.new_empty(rows, dtype=torch.float32)
        self._call(
            "add_norm", resid.dtype, rows, width, eps, _at(resid), _at(delta), _at(post), _at(sums), _at(root_post),
            _at(next), _at(out), out.stride(0) if out is not None else 0, _at(root_next),
        )  # fmt: skip
        return sums, root_post, root_next

    def norm_grad(self, dy: Tensor, x: Tensor, root: Tensor, weight: Tensor, add: Tensor | None, out: Tensor) -> Tensor:
        """See `Chains`."""
        rows, width = x.shape
        self._call(
            "norm_grad", x.dtype, rows, width, _at(dy), dy.stride(0), _at(x), _at(root), _at(weight), _at(add),
            _at(out), out.stride(0),
        )  # fmt: skip
        return out

    def glu(self, both: Tensor, out: Tensor, kind: Kind) -> Tensor:
        """See `Chains`."""
        self._call(
            "glu", both.dtype, both.shape[0], both.shape[1] // 2, _KINDS[kind], _at(both), _at(out), out.stride(0)
        )
        return out

    def glu_grad(self, both: Tensor, dy: Tensor, out: Tensor, kind: Kind) -> Tensor:
        """See `Chains`."""
        again = torch.empty_like(dy)
        self._call(
            "glu_grad", both.dtype, both.shape[0], both.shape[1] // 2, _KINDS[kind], _at(both), _at(dy), _at(out),
            out.stride(0), _at(again),
        )  # fmt: skip
        return again

    def gather_heads(self, source: Tensor, index: Tensor, heads: tuple[int, int, int], turn: Turn | None) -> Tensor:
        """See `Chains`."""
        (kv, per, width), (count, length) = heads, index.shape
        out = source.new_empty(count * kv, per * length, width)
        angles = (None, None, None, None, 0.0) if turn is None else _pointers(turn)
        self._call(
            "gather_heads", source.dtype, count, length, kv, per, width, _at(source), source.stride(0), _at(index),
            *angles, _at(out),
        )  # fmt: skip
        return out

    def scatter_heads(self, source: Tensor, index: Tensor, heads: tuple[int, int, int], out: Tensor) -> None:
        """See `Chains`."""
        (kv, per, width), (count, length) = heads, index.shape
        self._call(
            "scatter_heads", out.dtype, count, length, kv, per, width, _at(source), _at(index), _at(out), out.stride(0)
        )

    def add_heads(self, source: Tensor, index: Tensor, heads: tuple[int, int, int], total: Tensor) -> None:
        """See `Chains`."""
        (kv, _, width), (count, length) = heads, index.shape
        self._call(
            "add_heads", source.dtype, count, length, kv, width, _at(source), _at(index), _at(total), total.stride(0)
        )

    def heads_grad(self, grad: Tensor, before: Tensor, heads: tuple[int, int, int], turn: Turn) -> None:
        """See `Chains`."""
        kv, per, width = heads
        position, cosine, sine, norm, eps = _pointers(turn)
        self._call(
            "heads_grad", grad.dtype, grad.shape[0], kv * per, width, _at(grad), grad.stride(0), _at(before),
            before.stride(0), position, cosine, sine, norm, eps,
        )  # fmt: skip

    def softmax(
        self, scores: Tensor, length: int, first_query: int, first_key: int, window: int, scale: float
    ) -> Tensor:
        """See `Chains`."""
        batch, rows, keys = scores.shape
        self._call(
            "softmax", scores.dtype, batch * rows, length, keys, first_query, first_key, window, scale, _at(scores)
        )
        return scores

    def softmax_grad(self, share: Tensor, grad: Tensor, scale: float) -> Tensor:
        """See `Chains`."""
        self._call(
            "softmax_grad", grad.dtype, grad.shape[0] * grad.shape[1], grad.shape[2], scale, _at(share), _at(grad)
        )
        return grad

    def unpack(self, codes: Tensor, scale: Tensor, out: Tensor) -> None:
        """See `Chains`."""
        (rows, groups), width = scale.shape, out.shape[1]
        if codes.dtype == torch.int8:
            self._call(
                "unpack8", out.dtype, rows, groups, width // groups, _at(codes), _at(scale), _at(out), out.stride(0)
            )
        else:
            self._call(
                "unpack4", out.dtype, rows, groups, width // groups, _at(codes), _at(scale), _at(_NF4), _at(out),
                out.stride(0),
            )  # fmt: skip


_NF4 = torch.tensor(NF4)


def _pointers(turn: Turn) -> tuple[int | None, int | None, int | None, int | None, float]:
    return _at(turn.position), _at(turn.cosine), _at(turn.sine), _at(turn.norm), turn.eps
