"""The structures of `kernels/step.cpp`, field by field."""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int32, c_int64, c_void_p

KINDS = {"float32": 0, "bfloat16": 1, "int8": 2, "int4": 3}
GROUPS = {"float32": 1, "bfloat16": 2, "int8": 64, "int4": 32}
PARTS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Matrix(ctypes.Structure):
    """A weight in tiles."""

    _fields_ = [
        ("kind", c_int32), ("spare", c_int32), ("rows", c_int64), ("columns", c_int64),
        ("data", c_void_p), ("scale", c_void_p), ("bias", c_void_p),
    ]  # fmt: skip


class Layer(ctypes.Structure):
    """A decoder layer."""

    _fields_ = [
        ("qkv", Matrix), ("out", Matrix), ("gate_up", Matrix), ("down", Matrix),
        ("norm_first", c_void_p), ("norm_second", c_void_p), ("norm_attended", c_void_p), ("norm_fed", c_void_p),
        ("norm_query", c_void_p), ("norm_key", c_void_p), ("cosine", c_void_p), ("sine", c_void_p),
        ("keys", c_void_p), ("values", c_void_p), ("window", c_int64), ("scale", c_float), ("spare", c_float),
    ]  # fmt: skip


class Model(ctypes.Structure):
    """A decoder."""

    _fields_ = [
        ("layers", c_int64), ("hidden", c_int64), ("inner", c_int64), ("vocabulary", c_int64),
        ("query_heads", c_int64), ("kv_heads", c_int64), ("head_width", c_int64), ("page", c_int64),
        ("act", c_int32), ("half_cache", c_int32), ("half_lora", c_int32), ("head_kind", c_int32),
        ("eps", c_float), ("embed_scale", c_float),
        ("layer", c_void_p), ("head", c_void_p), ("embedding", c_void_p),
        ("half_embedding", c_int32), ("spare", c_int32), ("norm_final", c_void_p),
    ]  # fmt: skip


class Low(ctypes.Structure):
    """One side-by-side pair of an adapter."""

    _fields_ = [("a", c_void_p), ("b", c_void_p), ("rank", c_int64)]


class Route(ctypes.Structure):
    """Rows of a step with one adapter."""

    _fields_ = [
        ("first", c_int64), ("end", c_int64), ("parts", c_void_p), ("scale", c_float), ("rank", c_int32),
        ("at", c_int64),
    ]  # fmt: skip


class Step(ctypes.Structure):
    """What is to be computed."""

    _fields_ = [
        ("tokens", c_int64), ("kept", c_int64), ("token", c_void_p), ("position", c_void_p), ("table_at", c_void_p),
        ("slot", c_void_p), ("tables", c_void_p), ("keep", c_void_p), ("wanted", c_void_p), ("routes", c_void_p),
        ("route_count", c_int64), ("narrow_size", c_int64), ("longest", c_int64), ("logits", c_void_p),
        ("logits_step", c_int64), ("best", c_void_p), ("best_value", c_void_p), ("threads", c_int32),
        ("spare", c_int32),
    ]  # fmt: skip


class Draw(ctypes.Structure):
    """A token to be drawn."""

    _fields_ = [
        ("logits", c_void_p), ("numbers", c_void_p), ("tries", c_int64), ("heat", c_float), ("top_p", c_float),
        ("token", c_int32), ("spare", c_int32),
    ]  # fmt: skip
